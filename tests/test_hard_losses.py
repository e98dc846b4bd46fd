"""Losses of hard pixels as defined; of these and those of boundaries every key matters, and the host never waits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from segmentation.boundary import BoundaryF1
from segmentation.errors import UserError
from segmentation.losses import HardestPixels
from tests.conftest import Compose
from tests.hard_cases import VOID, Floats, Labels, example, probabilities, value


def hardest(logits: Floats, labels: Labels, thresh: float, keep: float) -> float:
    """As defined: pixel by pixel, the hard ones, or the hardest share where those are fewer."""
    true = [
        probabilities(logits)[image, label, row, column]
        for (image, row, column), label in np.ndenumerate(labels)
        if label != VOID
    ]
    hard = [value for value in true if value < thresh]
    least = max(1, int(keep * len(true)))
    chosen = hard if len(hard) >= least else sorted(true)[:least]
    return float(-np.log(chosen).mean())


@pytest.mark.parametrize(("thresh", "keep"), [(0.7, 0.1), (0.2, 0.1), (0.0, 0.3), (0.01, 0.5), (1.0, 0.0)])
def test_hardest_pixels_are_those_of_the_definition(thresh: float, keep: float) -> None:
    logits, labels = example()
    loss = HardestPixels(ignore_index=VOID, thresh=thresh, keep=keep)
    assert value(loss, logits, labels) == pytest.approx(hardest(logits, labels, thresh, keep), rel=1e-9)


def test_easy_pixels_get_no_gradient_and_hard_ones_do() -> None:
    logits, labels = example()
    leaf = torch.from_numpy(logits).requires_grad_()
    HardestPixels(ignore_index=VOID, thresh=0.3, keep=0.01)(leaf, torch.from_numpy(labels)).backward()
    assert leaf.grad is not None
    moved = leaf.grad.abs().sum(1).numpy() > 0
    true = np.take_along_axis(probabilities(logits), np.where(labels == VOID, 0, labels)[:, None], 1)[:, 0]
    assert np.array_equal(moved, (true < 0.3) & (labels != VOID))


def test_void_may_have_the_number_of_a_class() -> None:
    logits, labels = example()
    losses = [HardestPixels(ignore_index=0, thresh=0.3), BoundaryF1(ignore_index=0)]
    renumbered = np.where(labels == 0, VOID, labels)
    apart = [HardestPixels(ignore_index=VOID, thresh=0.3), BoundaryF1(ignore_index=VOID)]
    labels[labels == VOID] = 0
    for loss, other in zip(losses, apart, strict=True):
        assert value(loss, logits, labels) == pytest.approx(value(other, logits, renumbered), rel=1e-9)


@pytest.mark.parametrize("name", ["ohem", "boundary"])
def test_the_host_is_never_asked(name: str, compose: Compose) -> None:
    """Tensors on `meta` have no values: whatever would make the host wait for one fails."""
    loss = instantiate(compose(f"loss={name}", f"data.ignore_index={VOID}").loss)
    logits = torch.randn(2, 4, 6, 8, device="meta", requires_grad=True)
    loss(logits, torch.zeros(2, 6, 8, dtype=torch.long, device="meta")).backward()
    assert logits.grad is not None


@pytest.mark.parametrize(
    "word",
    ["loss=ohem loss.thresh=0.2", "loss=ohem loss.keep=0.9", "loss=boundary loss.terms.boundary.theta0=5",
     "loss=boundary loss.terms.boundary.theta=9", "loss=boundary loss.weights.boundary=2"],
)  # fmt: skip
def test_every_key_changes_the_loss(word: str, compose: Compose) -> None:
    logits, labels = example()
    choice, change = word.split()
    losses = [instantiate(compose(*words, f"data.ignore_index={VOID}").loss) for words in ((choice,), (choice, change))]
    assert value(losses[0], logits, labels) != pytest.approx(value(losses[1], logits, labels), rel=1e-6)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: HardestPixels(ignore_index=VOID, thresh=1.5), r"loss\.thresh=1\.5: give 0 to 1"),
        (lambda: HardestPixels(ignore_index=VOID, keep=-1), r"loss\.keep=-1: give 0 to 1"),
        (lambda: BoundaryF1(ignore_index=VOID, theta0=4), "theta0=4: give an odd number"),
        (lambda: BoundaryF1(ignore_index=VOID, theta=0), "theta=0: give an odd number"),
    ],
)
def test_mistakes_are_named(build: Callable[[], Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build()
