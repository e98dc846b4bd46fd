"""Losses of hard pixels and of boundaries: as defined, in plain float64; every key matters; the host never waits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hydra.utils import instantiate
from torch import nn

from segmentation.boundary import BoundaryF1
from segmentation.errors import UserError
from segmentation.losses import HardestPixels
from tests.conftest import Compose

VOID = 255
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def example(seed: int = 0, classes: int = 4) -> tuple[Floats, Labels]:
    """Logits, and labels in regions with a band and single pixels of void; one image lacks a class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (3, 3, 4)).repeat(4, 1).repeat(4, 2)
    labels[2][labels[2] == 1] = 0
    labels[:, 5:7] = VOID
    labels[rng.random(labels.shape) < 0.05] = VOID
    return rng.normal(0, 2, (3, classes, *labels.shape[1:])), labels


def probabilities(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    result: Floats = powers / powers.sum(1, keepdims=True)
    return result


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


def square(row: int, column: int, side: int, labels: Labels) -> list[tuple[int, int]]:
    """The labelled pixels of the square around one."""
    reach = side // 2
    return [
        (r, c)
        for r in range(max(0, row - reach), min(labels.shape[0], row + reach + 1))
        for c in range(max(0, column - reach), min(labels.shape[1], column + reach + 1))
        if labels[r, c] != VOID
    ]


def edge(others: Floats, labels: Labels, side: int) -> Floats:
    """How much more another class is in the square around a pixel than in the pixel."""
    found = np.zeros(labels.shape)
    for row, column in np.argwhere(labels != VOID):
        near = max(others[place] for place in square(row, column, side, labels))
        found[row, column] = near - others[row, column]
    return found


def near(edges: Floats, labels: Labels, side: int) -> Floats:
    """The highest value in the square around each pixel."""
    found = np.zeros(labels.shape)
    for row, column in np.ndindex(labels.shape):
        found[row, column] = max([edges[place] for place in square(row, column, side, labels)], default=0.0)
    return found


def boundary(logits: Floats, labels: Labels, theta0: int, theta: int) -> float:
    """As defined: image by image and class by class."""
    lacks = []
    for image, mask in zip(probabilities(logits), labels, strict=True):
        for label, of_class in enumerate(image):
            true, found = edge((mask != label) * 1.0, mask, theta0), edge(1 - of_class, mask, theta0)
            if true.sum() == 0:
                continue
            precision = (found * near(true, mask, theta)).sum() / found.sum()
            recall = (true * near(found, mask, theta)).sum() / true.sum()
            lacks.append(1 - 2 * precision * recall / (precision + recall))
    return float(np.mean(lacks))


def value(loss: nn.Module, logits: Floats, labels: Labels) -> float:
    return float(loss(torch.from_numpy(logits), torch.from_numpy(labels)))


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


@pytest.mark.parametrize(("theta0", "theta"), [(3, 5), (5, 3), (3, 1)])
def test_boundaries_are_those_of_the_definition(theta0: int, theta: int) -> None:
    logits, labels = example()
    loss = BoundaryF1(ignore_index=VOID, theta0=theta0, theta=theta)
    assert value(loss, logits, labels) == pytest.approx(boundary(logits, labels, theta0, theta), rel=1e-9)


def test_void_may_have_the_number_of_a_class() -> None:
    logits, labels = example()
    losses = [HardestPixels(ignore_index=0, thresh=0.3), BoundaryF1(ignore_index=0)]
    renumbered = np.where(labels == 0, VOID, labels)
    apart = [HardestPixels(ignore_index=VOID, thresh=0.3), BoundaryF1(ignore_index=VOID)]
    labels[labels == VOID] = 0
    for loss, other in zip(losses, apart, strict=True):
        assert value(loss, logits, labels) == pytest.approx(value(other, logits, renumbered), rel=1e-9)


def shifted(by: int) -> tuple[Floats, Labels]:
    """Two regions, and a sure prediction whose boundary is some pixels off."""
    labels = np.zeros((1, 12, 24), np.int64)
    labels[..., 12:] = 1
    predicted = np.roll(labels, by, 2)
    predicted[..., :by] = 0
    return np.stack([predicted == 0, predicted == 1], 1) * 40.0, labels


def test_a_boundary_costs_what_it_is_off() -> None:
    loss = BoundaryF1(ignore_index=VOID, theta0=3, theta=5)
    costs = [value(loss, *shifted(by)) for by in range(6)]
    assert costs[0] == pytest.approx(0, abs=1e-9)
    assert costs == sorted(costs)
    assert costs[5] == pytest.approx(1, abs=1e-9)


def test_void_between_two_regions_is_no_boundary() -> None:
    logits, labels = shifted(0)
    labels[..., 10:14] = VOID
    leaf = torch.from_numpy(logits).requires_grad_()
    cost = BoundaryF1(ignore_index=VOID)(leaf, torch.from_numpy(labels))
    cost.backward()
    assert cost == 0
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("flat", [0.0, 80.0])
def test_gradients_stay_small_where_no_boundary_is_predicted(flat: float) -> None:
    _, labels = shifted(0)
    logits = torch.full((1, 2, 12, 24), 0.0)
    logits[:, 0] = flat
    logits[:, 1, 6, 6::5] += 1e-4  # the slightest beginnings of boundaries, near the true one and far
    leaf = logits.requires_grad_()
    BoundaryF1(ignore_index=VOID)(leaf, torch.from_numpy(labels)).backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().max() < 1


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
