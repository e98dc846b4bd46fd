"""The Triton kernel of the linear recurrence: its arithmetic by Triton's interpreter, its code by its compiler."""

import os
import subprocess
import sys
import warnings
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn

from segmentation.models import recurrence
from segmentation.models.minimal import MinGRU
from segmentation.models.recurrence import check, fastest, fused, in_parallel, in_turn

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton comes with torch on Linux alone")

INTERPRETED = """
import itertools
import torch
from segmentation.models import fused
from segmentation.models.recurrence import check, in_turn, linear_recurrence

fused.STEPS, fused.LANES = 4, 2  # less than a block, a whole one, and several, of steps and of lanes
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
        found.append([states, *torch.autograd.grad((states * weights).sum(), inputs)])
    for one, other in zip(*found):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-12)
fused.STEPS, fused.LANES = 128, 16  # two whole blocks and a part of one
check(fused.in_one_pass, torch.device("cpu"))
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from segmentation.models import fused

names = fused.scan_blocks.arg_names
kinds = dict.fromkeys(names, "i32") | dict.fromkeys(("states", "decay", "drive", "start"), "*fp32")
for reverse in (False, True):
    known = {"reverse": reverse, "steps": fused.STEPS, "lanes": fused.LANES}
    source = ASTSource(
        fused.scan_blocks, kinds | dict.fromkeys(known, "constexpr"), {(names.index(key),): known[key] for key in known}
    )
    built = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": fused.WARPS})
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


def test_without_a_kernel_a_gpu_halves_the_steps_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("first line\nno compiler")

    monkeypatch.setattr(recurrence, "check", refuse)
    monkeypatch.setattr(recurrence, "find_spec", lambda name: object())
    fused.cache_clear()
    with pytest.warns(UserWarning, match="no Triton kernel here, so the scan is slower"):
        assert fused(torch.device("cuda")) is None
    with warnings.catch_warnings(action="error"):
        assert fused(torch.device("cuda")) is None
    fused.cache_clear()


def test_a_kernel_that_computes_otherwise_is_found_out() -> None:
    here = torch.device("cpu")
    check(in_turn, here)
    check(in_parallel, here)
    with pytest.raises(AssertionError):
        check(lambda states, decay, drive, start, reverse: in_turn(states, decay, drive, start, False), here)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_takes_the_kernel_and_computes_the_same() -> None:
    torch.manual_seed(0)
    cell = nn.ModuleList([MinGRU(3, 20, 2, bidirectional=True)]).double()
    sequences = torch.randn(4, 300, 3, dtype=torch.float64)
    here = cell[0](sequences)[0]
    assert fastest(torch.zeros(2, 2, 2, device="cuda")) is fused(torch.device("cuda", 0))
    torch.testing.assert_close(cell.cuda()[0](sequences.cuda())[0].cpu(), here)
