"""What a notebook needs: a trained network as a plain module."""

from pathlib import Path

from torch import nn

from segmentation.models import files


def load_model(path: str | Path, *, trust: bool = False) -> nn.Module:
    """A trained network in evaluation mode: images [B, C, H, W] in 0...1 to float32 logits [B, classes, H, W].

    Its attribute `meta` holds `channels`, which is C: 3, of RGB, unless it was trained on other images; `classes`,
    `colours` (an RGB triple for each), `ignore_index` and `size` ([height, width] of the images that it was trained on,
    None where they had their own); and `white`, the stored value of 16 bits that was 1.0 to it, None for 65535.

    Args:
        path: a run's folder, its model.safetensors, a file that `segmentation.export` wrote, or hf://USER/NAME.
        trust: let its files name or hold what is not the project's own, which runs their code.
    """
    network, meta = files.load_model(path, trust=trust)
    network.meta = meta  # type: ignore[assignment]  # modules take any attribute
    return network
