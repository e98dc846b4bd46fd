"""Does an LSTM over the feature map help semantic segmentation? Fair ablations with PyTorch Lightning."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segmentation.notebook import load_model as load_model


def __getattr__(name: str) -> Any:  # so that torch is imported only by those who load a model
    if name == "load_model":
        from segmentation.notebook import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
