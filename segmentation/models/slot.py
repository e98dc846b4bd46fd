"""The slot between decoder and classifier: what the LSTM and its controls share, so that only the mixing differs."""

from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.errors import UserError

AUTO_STRIDE = 16  # pixels of the input; finer maps are pooled to this by default


class Slot(nn.Module):
    """Pool a map, mix it, bring the result back to the map's size, and add it to the map or let it take its place.

    Args:
        map_stride: pixels of the input that one position of the map stands for.
        stride: pool the map to this stride first; None leaves it, `auto` means 16, or the map's own where coarser.
        residual: add the result to the map instead of putting it in its place.
    """

    def __init__(self, map_stride: int, *, stride: int | str | None, residual: bool) -> None:
        super().__init__()
        self.pooling = pooling_factor(stride, map_stride)
        self.residual = residual

    def mix(self, pooled: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H, W], at the pooled size."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H, W]."""
        pooled = F.avg_pool2d(features, self.pooling, ceil_mode=True) if self.pooling > 1 else features
        result = self.mix(pooled)
        if self.pooling > 1:
            result = F.interpolate(result, features.shape[-2:], mode="bilinear", align_corners=False)
        return features + result if self.residual else result


def pooling_factor(stride: int | str | None, map_stride: int) -> int:
    """How many positions of the map, along each side, become one before the mixing.

    Raises:
        UserError: for a stride that is finer than the map's, or no multiple of it.
    """
    if stride is None:
        return 1
    if stride == "auto":
        return max(1, AUTO_STRIDE // map_stride)
    if not isinstance(stride, int) or stride < 1:
        raise UserError(f"lstm.stride={stride}: give a number of pixels, auto, or null")
    if stride < map_stride:
        raise UserError(
            f"lstm.stride={stride}: finer than the map it scans, whose stride is {map_stride}; "
            f"choose {map_stride} or more, null, or another decoder"
        )
    if stride % map_stride:
        raise UserError(f"lstm.stride={stride}: no multiple of the map's stride {map_stride}")
    return stride // map_stride


def count_parameters(module: nn.Module) -> int:
    """Numbers that a module holds as parameters, trained or not."""
    return sum(parameter.numel() for parameter in module.parameters())
