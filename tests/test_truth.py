"""Numbers against another way to them: scikit-learn, NumPy in float64, plain loops, finite differences, scipy."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hydra.utils import instantiate
from scipy import stats
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn
from torch.func import functional_call

from segmentation.analysis.bootstrap import draw, find_units, image_bootstrap
from segmentation.analysis.statistics import holm, paired_difference, sign_flip
from segmentation.config import CONF
from segmentation.evaluation import Evaluation
from segmentation.models import orders
from segmentation.models.scans import CELLS
from segmentation.models.spatial_lstm import SpatialLSTM
from tests.conftest import Compose
from tests.settings import LSTM

VOID = 255
CLASSES = 5
Array = npt.NDArray[Any]


class Answer(nn.Module):
    """A network whose logits are known beforehand."""

    def __init__(self, predicted: Tensor) -> None:
        super().__init__()
        self.predicted = predicted

    def forward(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        return nn.functional.one_hot(self.predicted, CLASSES).movedim(-1, 1).float()


def random_masks(seed: int, *shape: int) -> tuple[Array, Array]:
    """Truth with void and without class 3, and predictions."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 4, VOID], shape, p=[0.4, 0.3, 0.1, 0.05, 0.15])
    return truth, rng.integers(0, CLASSES, shape)


def evaluated(truth: Array, predicted: Array) -> dict[str, Any]:
    """What a test reports of masks [images, H, W], image by image."""
    network: Any = Answer(torch.zeros(1))
    task = Evaluation(network, classes=list("abcde"), ignore_index=VOID, channels_last=False)
    for mask, answer in zip(truth, predicted, strict=True):
        network.predicted = torch.from_numpy(answer)[None]
        image = torch.zeros(1, 3, *mask.shape, dtype=torch.uint8)
        task.test_step({"image": image, "mask": torch.from_numpy(mask)[None], "index": torch.zeros(1)}, 0)
    task.log = lambda *_, **__: None  # type: ignore[method-assign]  # nobody listens without a trainer
    task.on_test_epoch_end()
    return task.results["test"]


@pytest.mark.parametrize("seed", range(5))
def test_confusion_matrix_is_scikit_learns(seed: int) -> None:
    truth, predicted = random_masks(seed, 4, 13, 17)
    counted = truth != VOID
    expected = confusion_matrix(truth[counted], predicted[counted], labels=range(CLASSES))
    assert evaluated(truth, predicted)["confusion_matrix"] == expected.tolist()


def by_loops(truth: Array, predicted: Array) -> dict[str, Any]:
    """The scores as their definitions read, pixel by pixel and class by class."""
    pairs = [(t, p) for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True) if t != VOID]
    by_class = {}
    for label in range(CLASSES):
        of_class = sum(1 for t, _ in pairs if t == label)
        said = sum(1 for _, p in pairs if p == label)
        right = sum(1 for t, p in pairs if t == p == label)
        if of_class:
            by_class[label] = (right / (of_class + said - right), right / of_class, 2 * right / (of_class + said))
    means = [sum(values) / len(by_class) for values in zip(*by_class.values(), strict=True)]
    accuracy = sum(1 for t, p in pairs if t == p) / len(pairs)
    return {"by_class": by_class, "means": means, "pixel_accuracy": accuracy}


@pytest.mark.parametrize("seed", range(5))
def test_scores_with_void_are_those_of_plain_loops(seed: int) -> None:
    truth, predicted = random_masks(10 + seed, 3, 11, 7)
    found, expected = evaluated(truth, predicted), by_loops(truth, predicted)
    assert found["pixel_accuracy"] == pytest.approx(expected["pixel_accuracy"], rel=1e-15)
    means = [found[name] for name in ("mean_iou", "mean_accuracy", "mean_dice")]
    assert means == pytest.approx(expected["means"], rel=1e-14)
    assert found["absent_classes"] == ["d"]
    for label, values in expected["by_class"].items():
        row = found["per_class"]["abcde"[label]]
        assert [row["iou"], row["accuracy"], row["dice"]] == pytest.approx(values, rel=1e-15)


def log_softmax(logits: Array) -> Array:
    """Over the classes of pixels [N, C]."""
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def cross_entropy(logits: Array, labels: Array, weights: Array | None = None, smoothing: float = 0.0) -> float:
    """The weighted mean of -log p, of which each other class has a part where targets are smoothed."""
    logs = log_softmax(logits)
    weights = np.ones(logits.shape[1]) if weights is None else weights
    total, share = 0.0, 0.0
    for row, label in zip(logs, labels, strict=True):
        spread = sum(-weight * value for weight, value in zip(weights, row, strict=True)) / len(row)
        total += (1 - smoothing) * -weights[label] * row[label] + smoothing * spread
        share += weights[label]
    return float(total / share)


def dice(logits: Array, labels: Array) -> float:
    """1 - 2|P·T| / (|P| + |T|) of each class, zero for one that no pixel has, and their mean."""
    likely = np.exp(log_softmax(logits))
    parts = []
    for label in range(logits.shape[1]):
        truth = (labels == label).astype(float)
        overlap, both = (likely[:, label] * truth).sum(), likely[:, label].sum() + truth.sum()
        parts.append((1 - 2 * overlap / max(both, 1e-7)) * truth.any())
    return float(np.mean(parts))


def focal(logits: Array, labels: Array) -> float:
    """Each class against the rest: -(1 - q)² log q with q the probability of what is true (Lin et al., 2017); the mean
    over pixels and classes.
    """
    parts = []
    for label in range(logits.shape[1]):
        truth = labels == label
        logs = -np.logaddexp(0, np.where(truth, -logits[:, label], logits[:, label]))
        parts.append(np.mean(-((1 - np.exp(logs)) ** 2) * logs))
    return float(np.mean(parts))


def lovasz(logits: Array, labels: Array) -> float:
    """For each class that is there: errors from the largest on, each times what it adds to the Jaccard loss of all
    before it (Berman et al., 2018); the mean over the classes.
    """
    likely, parts = np.exp(log_softmax(logits)), []
    for label in np.unique(labels):
        truth = labels == label
        errors = np.abs(truth - likely[:, label])
        value, wrong, before = 0.0, np.zeros(len(truth), bool), 0.0
        for place in np.argsort(-errors, kind="stable"):
            wrong[place] = True
            jaccard = wrong.sum() / (truth | wrong).sum()  # mistaken pixels over those true, or taken to be
            value, before = value + errors[place] * (jaccard - before), jaccard
        parts.append(value)
    return float(np.mean(parts))


DEFINITIONS: dict[str, Callable[[Array, Array], float]] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "focal": focal,
    "lovasz": lovasz,
    "combined": lambda logits, labels: 0.7 * cross_entropy(logits, labels) + 0.3 * dice(logits, labels),
}
SINGLE = ("lovasz",)  # the library computes a part of it in float32, which torch does not mix with float64
ELSEWHERE = {"ohem", "boundary"}  # their definitions are in test_hard_losses.py and test_boundary_loss.py
WORDS = {"combined": ("loss.weights={cross_entropy:0.7,dice:0.3}",)}


@pytest.mark.parametrize("name", sorted({path.stem for path in (CONF / "loss").glob("*.yaml")} - ELSEWHERE))
def test_losses_are_their_definitions(name: str, compose: Compose, record_property: Any) -> None:
    """In float64 to rounding, in float32 to its precision, with void and with a class that is not there."""
    loss = instantiate(compose(f"loss={name}", *WORDS.get(name, ())).loss)
    rng = np.random.default_rng(3)
    logits, labels = 2 * rng.normal(size=(2, CLASSES, 6, 5)), random_masks(3, 2, 6, 5)[0]
    counted = labels != VOID
    expected = DEFINITIONS[name](np.moveaxis(logits, 1, -1)[counted], labels[counted])
    assert expected > 0.1
    for kind, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        if kind is torch.float32 or name not in SINGLE:
            value = loss(torch.from_numpy(logits).to(kind), torch.from_numpy(labels)).item()
            record_property(f"loss={name} in {kind}", f"{abs(value / expected - 1):.1e} from its definition")
            assert value == pytest.approx(expected, rel=tolerance), kind


def test_weights_and_smoothing_are_their_definitions(compose: Compose) -> None:
    weights = [1.0, 2.0, 0.5, 3.0, 0.25]
    loss = instantiate(compose("loss.label_smoothing=0.2", f"loss.class_weights={weights}").loss).double()
    logits, labels = np.random.default_rng(4).normal(size=(1, CLASSES, 6, 5)), random_masks(4, 1, 6, 5)[0]
    counted = labels != VOID
    expected = cross_entropy(np.moveaxis(logits, 1, -1)[counted], labels[counted], np.array(weights), 0.2)
    value = loss(torch.from_numpy(logits), torch.from_numpy(labels)).item()
    assert value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("order", sorted(orders.__all__))
def test_gradients_of_every_cell_and_order(cell: str, order: str) -> None:
    """Of the map and of every parameter, against finite differences; two layers and both directions."""
    torch.manual_seed(0)
    keywords: dict[str, Any] = LSTM | {"cell": cell, "order": order, "hidden_size": 2, "num_layers": 2}
    keywords["order_args"] = {"size": 2} if order == "windows" else {}
    module = SpatialLSTM(2, 16, **keywords).double()
    names, values = zip(*module.named_parameters(), strict=True)

    def forward(features: Tensor, *parameters: Tensor) -> Tensor:
        result: Tensor = functional_call(module, dict(zip(names, parameters, strict=True)), (features,))
        return result

    features = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(forward, (features, *values), fast_mode=True)


@pytest.mark.parametrize("seed", range(4))
def test_statistics_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.normal(0.7, 0.02, 6)
    other = base + rng.normal(0.01, 0.01, 6)
    found, expected = paired_difference((other - base).tolist()), stats.ttest_rel(other, base)
    low, high = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert [found.low, found.high] == pytest.approx([low, high], rel=1e-9)
    # Ranks aside, the sign flip goes through the assignments that Wilcoxon's test goes through: equal for differences
    # that are their own ranks.
    ranks = rng.permutation(np.arange(1, 8)) * rng.choice([-1, 1], 7)
    assert sign_flip(ranks.tolist()).p_value == pytest.approx(stats.wilcoxon(ranks, method="exact").pvalue, rel=1e-12)


def test_holm_is_its_definition() -> None:
    """Hypotheses are rejected from the smallest p value on, at alpha over those left, until one is not (Holm, 1979)."""
    p_values = np.random.default_rng(5).uniform(0, 0.06, (50, 4))
    for family in p_values:
        rejected = set()
        for step, place in enumerate(np.argsort(family)):
            if family[place] >= 0.05 / (4 - step):
                break
            rejected.add(int(place))
        assert {place for place, value in enumerate(holm(family.tolist())) if value < 0.05} == rejected


def test_the_bootstrap_is_scipys_but_for_its_wider_tails() -> None:
    rng = np.random.default_rng(6)
    right = rng.integers(40, 90, (2, 60))
    base, other = (np.array([[[r, 100 - r], [0, 0]] for r in part]) for part in right)
    units = find_units([str(index) for index in range(60)], None)
    found = image_bootstrap([base], [other], units, "pixel_accuracy", draws=20_000)
    gains = (right[1] - right[0]) / 100
    wider = stats.norm.cdf(stats.t.ppf(0.025, 59) * math.sqrt(60 / 59))
    expected = stats.bootstrap((gains,), np.mean, confidence_level=1 - 2 * wider, n_resamples=20_000,
                               method="percentile", rng=rng)  # fmt: skip
    error = expected.standard_error
    assert found.deviation == pytest.approx(error, rel=0.03)
    interval = expected.confidence_interval
    assert [found.low, found.high] == pytest.approx([interval.low, interval.high], abs=0.1 * error)
    assert draw(np.ones((60, 1)), units, 3).tolist() == [[60.0]] * 3  # as many units are drawn as there are
