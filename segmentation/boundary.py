"""A loss of the boundaries between classes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.errors import UserError

TINY = 1e-6


class BoundaryF1(nn.Module):
    """What the F1 score of predicted boundaries lacks to 1, by max pooling (Bokhovkin and Burnaev, 2019).

    A pixel is on the boundary of its class as far as another class is near. Precision is the share of the predicted
    boundary that is near the true one, recall the share of the true one that is near the predicted. The mean is over
    the classes that have a boundary in an image, and all images. Some ten maps of the logits' size are kept meanwhile.

    Void pixels are neither another class nor on a boundary.

    Args:
        ignore_index: label of void pixels.
        theta0: side of the square around a pixel in which another class makes a boundary, odd.
        theta: side of the square around a pixel in which another boundary is near, odd.
    """

    def __init__(self, *, ignore_index: int, theta0: int = 3, theta: int = 5) -> None:
        super().__init__()
        for name, value, least in (("theta0", theta0, 3), ("theta", theta, 1)):
            if value < least or value % 2 == 0:
                raise UserError(f"loss: {name}={value}: give an odd number of pixels, at least {least}")
        self.ignore_index, self.theta0, self.theta = ignore_index, theta0, theta

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits [B, C, H, W] and labels [B, H, W] to a scalar; zero where there is no true boundary."""
        labelled = (target != self.ignore_index)[:, None]
        true = self.true_edges(target[:, None], labelled, logits)
        others = (1 - logits.softmax(1)) * labelled  # how much a pixel is of other classes; void is of none
        predicted = (widen(others, self.theta0) - others) * labelled
        total, found = true.sum((2, 3)), predicted.sum((2, 3))
        precision = (predicted * widen(true, self.theta)).sum((2, 3)) / found.clamp(min=TINY)
        recall = (true * widen(predicted, self.theta)).sum((2, 3)) / total.clamp(min=1)
        score = 2 * precision * recall / (precision + recall).clamp(min=TINY)
        present = total > 0
        return ((1 - score) * present).sum() / present.sum().clamp(min=1)

    def true_edges(self, target: Tensor, labelled: Tensor, like: Tensor) -> Tensor:
        """Whether a pixel is on the boundary of each class, as numbers like the logits [B, C, H, W], from labels and
        whether they are not void, both [B, 1, H, W].
        """
        label = target.to(like.dtype)
        # By the highest and the lowest label around: two maps instead of one for every class.
        higher = widen(label.where(labelled, -1.0), self.theta0) > label
        lower = widen((-label).where(labelled, -256.0), self.theta0) > -label
        classes = torch.arange(like.shape[1], device=like.device)[:, None, None]
        return ((higher | lower) & labelled & (target == classes)).to(like.dtype)


def widen(maps: Tensor, side: int) -> Tensor:
    """The highest value in the square around each pixel; what lies outside the image has none."""
    return F.max_pool2d(maps, side, stride=1, padding=side // 2)
