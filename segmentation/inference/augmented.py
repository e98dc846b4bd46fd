"""Test-time augmentation: the mean prediction over an image's mirror image and other scales."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.errors import UserError
from segmentation.inference.windows import log

Size = tuple[int, int]


class Augmented(nn.Module):
    """A network whose probabilities are the mean over changed copies of an image, each changed back.

    Args:
        network: images [B, N, H, W] in 0...1, and the size of its logits, to logits [B, C, *size].
        flip: with the mirror image of each copy.
        scales: of the copies' sides.
    """

    def __init__(self, network: nn.Module, *, flip: bool, scales: Sequence[float]) -> None:
        super().__init__()
        if not scales or min(scales) <= 0:
            raise UserError(f"tta.scales={list(scales)}: give factors above 0, at least one")
        self.network = network
        self.flips = (False, True) if flip else (False,)
        self.scales = tuple(scales)

    def forward(self, image: Tensor, size: Size | None = None) -> Tensor:
        """Images [B, N, H, W] in 0...1 to log-probabilities [B, C, *size], by default of their own size."""
        own = (image.shape[-2], image.shape[-1])
        wanted = own if size is None else (int(size[0]), int(size[1]))
        total: Tensor | float = 0.0
        for scale in self.scales:
            sides = (max(1, round(own[0] * scale)), max(1, round(own[1] * scale)))
            scaled = image if sides == own else resize(image, sides)
            for flip in self.flips:
                logits = self.network(scaled.flip(-1) if flip else scaled, size=wanted)
                found = logits.float().softmax(1)
                total = total + (found.flip(-1) if flip else found)
        assert isinstance(total, Tensor)
        return log(total / (len(self.scales) * len(self.flips)))


def resize(image: Tensor, size: Size) -> Tensor:
    """Images [B, N, H, W] at another size, averaged where they shrink."""
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
