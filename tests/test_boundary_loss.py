"""The loss of boundaries: as defined, in plain float64; void makes none, and gradients stay small."""

import numpy as np
import pytest
import torch

from segmentation.boundary import BoundaryF1
from tests.hard_cases import VOID, Floats, Labels, example, probabilities, value


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


@pytest.mark.parametrize(("theta0", "theta"), [(3, 5), (5, 3), (3, 1)])
def test_boundaries_are_those_of_the_definition(theta0: int, theta: int) -> None:
    logits, labels = example()
    loss = BoundaryF1(ignore_index=VOID, theta0=theta0, theta=theta)
    assert value(loss, logits, labels) == pytest.approx(boundary(logits, labels, theta0, theta), rel=1e-9)


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
