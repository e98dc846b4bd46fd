"""Every loss: void pixels count for nothing, a perfect answer costs less than a wrong one, options change the value."""

from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from segmentation.config import CONF
from segmentation.errors import UserError
from segmentation.losses import CrossEntropy, WeightedSum
from tests.conftest import Compose

VOID = 255
NAMES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))


@pytest.fixture(params=NAMES)
def loss(request: pytest.FixtureRequest, compose: Compose) -> Any:
    return instantiate(compose(f"loss={request.param}", f"data.ignore_index={VOID}").loss)


def example() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 6, 8, generator=generator)
    target = torch.randint(0, 4, (2, 6, 8), generator=generator)
    target[:, 2:4] = VOID
    return logits, target


def test_void_contributes_nothing(loss: Any) -> None:
    logits, target = example()
    changed = torch.where((target == VOID)[:, None], logits * -7 + 3, logits).requires_grad_()
    value = loss(changed, target)
    torch.testing.assert_close(value.detach(), loss(logits, target))
    value.backward()
    assert changed.grad is not None
    assert changed.grad.movedim(1, -1)[target == VOID].abs().max() == 0


def test_truth_beats_its_opposite(loss: Any) -> None:
    _, target = example()
    truth = F.one_hot(target.where(target != VOID, 0), 4).movedim(-1, 1).float() * 10
    assert loss(truth, target) < loss(-truth, target)


def test_all_void_is_zero_and_harmless(loss: Any) -> None:
    logits, target = example()
    logits.requires_grad_()
    value = loss(logits, torch.full_like(target, VOID))
    value.backward()
    assert value == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("name", NAMES)
def test_all_void_is_zero_where_void_is_the_first_label(name: str, compose: Compose) -> None:
    loss = instantiate(compose(f"loss={name}", "data.ignore_index=0").loss)
    logits, target = example()
    logits.requires_grad_()
    value = loss(logits, torch.zeros_like(target))
    value.backward()
    assert value == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_cross_entropy_is_torchs() -> None:
    logits, target = example()
    weights = [1.0, 2.0, 0.5, 3.0]
    ours = CrossEntropy(ignore_index=VOID, class_weights=weights, label_smoothing=0.0)(logits, target)
    torch.testing.assert_close(ours, F.cross_entropy(logits, target, torch.tensor(weights), ignore_index=VOID))
    smooth = CrossEntropy(ignore_index=VOID, label_smoothing=0.1)(logits, target)
    torch.testing.assert_close(smooth, F.cross_entropy(logits, target, ignore_index=VOID, label_smoothing=0.1))


def test_weights_scale_the_terms() -> None:
    logits, target = example()
    term = CrossEntropy(ignore_index=VOID)
    double = WeightedSum({"a": term, "b": term}, {"a": 1.5, "b": 0.5})
    torch.testing.assert_close(double(logits, target), 2 * term(logits, target))


def test_mistakes_are_named() -> None:
    logits, target = example()
    with pytest.raises(UserError, match=r"loss.class_weights: 2 weights for 4 classes"):
        CrossEntropy(ignore_index=VOID, class_weights=[1.0, 2.0])(logits, target)
    with pytest.raises(UserError, match=r"loss.weights"):
        WeightedSum({"a": torch.nn.Identity()}, {"b": 1.0})
