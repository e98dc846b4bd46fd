"""Windows and test-time augmentation: what they must not change, and what they must."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from segmentation.errors import UserError
from segmentation.inference.augmented import Augmented
from segmentation.inference.windows import Windowed, starts


class Pointwise(nn.Module):
    """A network whose every pixel is judged by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        self.seen.append(tuple(image.shape))
        return torch.stack([5 * image[:, 0], 3 * image[:, 1], image.sum(1)], 1)


class Edges(nn.Module):
    """A network that is sure of class 1 in the middle of what it sees, and of class 0 at its edge."""

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        sure = torch.full(image.shape[-2:], -20.0)
        sure[2:-2, 2:-2] = 20
        return torch.stack([-sure, sure]).expand(len(image), -1, -1, -1)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.7, 0.99])
@pytest.mark.parametrize(("length", "window"), [(100, 30), (31, 30), (30, 30), (7, 30), (61, 1)])
def test_windows_cover_every_row(length: int, window: int, overlap: float) -> None:
    found = starts(length, window, overlap)
    assert found[0] == 0
    assert found[-1] + min(window, length) == length
    assert found == sorted(set(found))
    for before, after in pairwise(found):
        assert before + window - after >= int(overlap * window) or after - before == 1


@pytest.mark.parametrize("size", [(37, 53), (8, 90), (90, 8), (5, 5), (64, 64)])
@pytest.mark.parametrize(("block", "batch_size"), [(4096, 1), (4096, 3), (16, 2), (23, 1)])
def test_blending_leaves_a_pointwise_network_as_it_is(size: tuple[int, int], block: int, batch_size: int) -> None:
    image = torch.rand(2, 3, *size)
    network = Pointwise()
    whole = network(image).log_softmax(1)
    found = Windowed(network, (16, 24), 0.3, batch_size, block)(image)
    assert torch.allclose(found, whole, atol=1e-5)
    assert max(seen[0] for seen in network.seen[1:]) <= batch_size
    assert all(seen[2] <= 16 and seen[3] <= 24 for seen in network.seen[1:])


def test_an_image_that_fits_a_window_is_seen_whole() -> None:
    network = Pointwise()
    image = torch.randint(0, 256, (3, 9, 11), dtype=torch.uint8)
    (part,) = Windowed(network, (16, 16), 0.5).parts(image)
    assert network.seen == [(1, 3, 9, 11)]
    assert torch.allclose(part.probabilities, network(image[None] / 255).softmax(1)[0])


def test_the_middle_of_a_window_counts_more_than_its_edge() -> None:
    found = Windowed(Edges(), (16, 16), 0.5)(torch.rand(1, 3, 40, 40)).argmax(1)[0]
    assert found[8:-8, 8:-8].all()
    assert not found[:1].any()


def test_what_is_held_depends_on_neither_height_nor_width() -> None:
    """The parts that come are bounded, whatever the size of the image; each pixel comes once."""
    windowed = Windowed(Pointwise(), (16, 16), 0.25, block=32)
    for size in ((50, 60), (200, 300)):
        count = torch.zeros(size)
        for top, left, found in windowed.parts(torch.rand(3, *size)):
            assert found.shape[1] <= 16
            assert found.shape[2] <= 32
            count[top : top + found.shape[1], left : left + found.shape[2]] += 1
        assert (count == 1).all()


def test_windows_are_counted() -> None:
    windowed, seen = Windowed(Pointwise(), (16, 16), 0.25, batch_size=4, block=32), 0

    def count(windows: int) -> None:
        nonlocal seen
        seen += windows

    list(windowed.parts(torch.rand(3, 70, 90), count))
    assert seen == windowed.count(70, 90)


@pytest.mark.parametrize(("size", "overlap"), [((0, 4), 0.1), ((4,), 0.1), ((4, 4), 1.0), ((4, 4), -0.1)])
def test_windows_that_cannot_be_are_named(size: tuple[int, int], overlap: float) -> None:
    with pytest.raises(UserError, match=r"window\.(size|overlap)="):
        Windowed(Pointwise(), size, overlap)


def left_is_class_0(image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Whatever it is shown."""
    logits = torch.zeros(len(image), 2, *(size or image.shape[-2:]))
    logits[:, 0, :, : logits.shape[-1] // 2] = 4
    logits[:, 1, :, logits.shape[-1] // 2 :] = 4
    return logits


class Function(nn.Module):
    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        return left_is_class_0(image, size)


def test_the_mirror_image_is_turned_back() -> None:
    image = torch.rand(1, 3, 6, 8)
    network = Pointwise()
    found = Augmented(network, flip=True, scales=[1.0])(image)
    assert torch.allclose(found, network(image).log_softmax(1), atol=1e-6)
    blind = Augmented(Function(), flip=True, scales=[1.0])(image).exp()
    assert torch.allclose(blind, torch.full_like(blind, 0.5), atol=1e-6)  # what looks at places alone is undone


def test_scales_are_seen_and_returned_in_the_size_asked() -> None:
    seen: list[tuple[int, ...]] = []

    class Sizes(Function):
        def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
            seen.append(tuple(image.shape[-2:]))
            return left_is_class_0(image, size)

    found = Augmented(Sizes(), flip=False, scales=[0.5, 1.0, 1.5])(torch.rand(1, 3, 20, 30), (7, 9))
    assert seen == [(10, 15), (20, 30), (30, 45)]
    assert found.shape == (1, 2, 7, 9)
    assert torch.allclose(found.exp().sum(1), torch.ones(1, 7, 9))


def test_a_probability_of_zero_stays_finite() -> None:
    class Sure(nn.Module):
        def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
            return torch.stack([image[:, 0] * 0 + 1e4, image[:, 0] * 0 - 1e4], 1)

    image = torch.rand(1, 3, 30, 30)
    assert Windowed(Sure(), (16, 16), 0.2)(image, (41, 17)).isfinite().all()
    assert Augmented(Sure(), flip=True, scales=[1.0])(image).isfinite().all()


def test_scales_that_cannot_be_are_named() -> None:
    for scales in ([], [0.0], [1.0, -2.0]):
        with pytest.raises(UserError, match=r"tta\.scales="):
            Augmented(Function(), flip=False, scales=scales)
