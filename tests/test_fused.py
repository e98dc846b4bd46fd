"""The Triton kernel of the linear recurrence: its arithmetic by Triton's interpreter, its code by its compiler."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from segmentation.models import recurrence
from segmentation.models.minimal import MinGRU
from segmentation.models.recurrence import check, fastest, fused, in_parallel, in_turn

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton comes with torch on Linux alone")

INTERPRETED = """
import itertools
import torch
from segmentation.models import fused
from segmentation.models.recurrence import check, in_turn, linear_recurrence

check(fused.in_one_pass, torch.device("cpu"))
fused.LANES, fused.LONG, fused.SHORT = 2, (4, 4), (4, 4)  # less than a block of 4 steps, a whole one, several
for length, reverse in itertools.product((1, 3, 4, 5, 9), (False, True)):
    torch.manual_seed(length)
    both = torch.randn(2, length, 6, dtype=torch.float64).transpose(0, 1)  # laid out as a cell's linear map is
    decay, drive = (half.clone() for half in both.chunk(2, -1))
    inputs = [decay.sigmoid(), drive, torch.randn(2, 3, dtype=torch.float64)]
    inputs = [one.requires_grad_() for one in inputs]
    weights = torch.randn(length, 2, 3, dtype=torch.float64)
    found = []
    for solve in (in_turn, fused.in_one_pass):
        states = linear_recurrence(*inputs, reverse=reverse, solve=solve)
        some = torch.autograd.grad((states * weights).sum(), inputs, retain_graph=True)
        found.append([states, *some, *torch.autograd.grad(states.sum(), inputs)])  # of a sum: one number, expanded
    for one, other in zip(*found):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-12)
    shared = inputs[0][:, :1].detach()  # one row's decays for both
    for solve, states in zip((in_turn, fused.in_one_pass), found):
        solve(states[0].data, shared, drive.detach(), torch.zeros(2, 3, dtype=torch.float64), reverse)
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0, atol=1e-12)
"""

COMPILED = """
import itertools
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from segmentation.models import fused

names = fused.scan_blocks.arg_names
kinds = dict.fromkeys(names, "i32") | dict.fromkeys(("states", "decay", "drive", "start"), "*fp32")
dense = {name: 1 for name in names if name.endswith("_lane")}  # as Triton builds it for a cell's states: aligned too
even = {(number,): [["tt.divisibility", 16]] for number, name in enumerate(names) if name not in dense}
for reverse, aligned, (steps, warps) in itertools.product((False, True), (False, True), (fused.LONG, fused.SHORT)):
    known = {"reverse": reverse, "steps": steps, "lanes": fused.LANES} | (dense if aligned else {})
    source = ASTSource(
        fused.scan_blocks,
        kinds | dict.fromkeys(known, "constexpr"),
        {(names.index(key),): value for key, value in known.items()},
        {key: value for key, value in even.items() if names[key[0]] not in known} if aligned else {},
    )
    built = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": warps})
    assert built.asm["cubin"]
"""


def run(script: str, **environment: str) -> None:
    """In a process of its own: Triton decides as it is imported whether it interprets."""
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | environment)


@needs_triton
def test_the_kernel_is_the_recurrence() -> None:
    run(INTERPRETED, TRITON_INTERPRET="1")


@needs_triton
def test_the_kernel_compiles_for_a_gpu() -> None:
    run(COMPILED)


def test_a_cpu_takes_wide_steps_in_turn_and_narrow_ones_in_parallel() -> None:
    assert fastest(torch.zeros(3, 1, recurrence.WIDE)) is in_turn
    assert fastest(torch.zeros(3, 1, recurrence.WIDE - 1)) is in_parallel
    assert fused(torch.device("cpu")) is None


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What earlier tests found out of a device is forgotten, and what this one makes it believe."""
    fused.cache_clear()
    yield
    fused.cache_clear()


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("no compiler\nmore"), "gcc .*RuntimeError: no compiler"), (AssertionError(), "computes something")],
)
@needs_triton
@pytest.mark.usefixtures("forgotten")
def test_a_gpu_that_cannot_take_the_kernel_halves_the_steps_and_says_so_once(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(recurrence, "check", refuse)
    with pytest.warns(UserWarning, match=said):
        assert fused(torch.device("cuda")) is None
    with warnings.catch_warnings(action="error"):
        assert fused(torch.device("cuda")) is None
    assert fastest(torch.zeros(3, 1, 4, device="meta")) is in_parallel


def test_a_kernel_that_computes_otherwise_is_found_out() -> None:
    here = torch.device("cpu")
    check(in_turn, here)
    check(in_parallel, here)
    with pytest.raises(AssertionError):
        check(lambda states, decay, drive, start, reverse: in_turn(states, decay, drive, start, False), here)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [20, 32])
def test_a_gpu_takes_the_kernel_and_computes_the_same(width: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    found = []
    cell = MinGRU(3, width, 2, bidirectional=True).to(dtype)
    sequences = torch.randn(4, 300, 3, dtype=dtype)
    for device in ("cpu", "cuda"):
        here = cell.to(device)
        states = here(sequences.to(device))[0]
        gradients = torch.autograd.grad(states.square().sum(), list(here.parameters()))
        found.append([one.cpu() for one in (states, *gradients)])
    assert fastest(torch.zeros(2, 2, 2, device="cuda")) is fused(torch.device("cuda", 0))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)


def test_half_precision_and_other_shapes_are_not_for_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence, "kernel_of", lambda device: in_turn)
    assert fastest(torch.zeros(3, 1, 4, device="meta")) is in_turn
    assert fastest(torch.zeros(3, 1, 4, device="meta", dtype=torch.bfloat16)) is in_parallel
    assert fastest(torch.zeros(3, 4, device="meta")) is in_parallel
