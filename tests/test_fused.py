"""The Triton kernels of the cells: their arithmetic by Triton's interpreter, their code by its compiler."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segmentation.models import fused
from segmentation.models.fused import try_out, usable
from segmentation.models.lstm import LSTM
from segmentation.models.minimal import MinGRU, MinLSTM

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton comes with torch on Linux alone")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GATED = """
import itertools
import torch
from segmentation.models import gated_kernel
from segmentation.models.gated_scan import check, definition, gated_scan

gated_kernel.LANES = 2
gated_kernel.LONG = gated_kernel.SHORT = 4, 4
for length, directions in itertools.product((1, 4, 9), (1, 2)):  # less than a block of 4, a whole one, several
    torch.manual_seed(length)
    gates = torch.randn(directions, 6, 2, length).permute(3, 2, 0, 1).transpose(0, 1).requires_grad_()
    start = torch.randn(directions, 2, 3).transpose(0, 1).requires_grad_()  # laid out as a cell has them
    weights, more = torch.randn(2, length, directions, 3), torch.randn(directions, 2, 3).transpose(0, 1)
    found = []
    for compute in (gated_scan, definition):
        states, last = compute(gates, start)
        loss = (states * weights).sum() + (last * more).sum()
        some = torch.autograd.grad(loss, [gates, start], retain_graph=True)
        found.append([states, last, *some, *torch.autograd.grad(states.sum(), [gates, start])])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
    precise = definition(gates.double(), start.double())[0]
    half = gated_scan(gates.bfloat16(), start)[0]
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), precise, rtol=0, atol=0.05)
    torch.library.opcheck(gated_scan, (gates, start))
check(torch.device("cpu"), 5)
"""

LSTMS = """
import itertools
import torch
from segmentation.models import lstm_kernel, lstm_scan
from segmentation.models.lstm import LSTM
from segmentation.models.lstm_scan import check, definition, lstm

lstm_scan.rounded = lambda weights, dtype: weights.contiguous()  # the interpreter multiplies no bfloat16
lstm_kernel.FEW, lstm_kernel.NARROW, lstm_kernel.WIDE = 6, (2, 4), (4, 4)  # less than a program's rows, several
for length, directions, rows in itertools.product((1, 4), (1, 2), (1, 3, 9)):
    torch.manual_seed(length)
    shapes = (rows, length, directions, 64), (directions, 64, 16), (directions, rows, 16), (directions, rows, 16)
    mapped, weights, start, cell = (torch.randn(*shape) for shape in shapes)
    inputs = [mapped, weights / 4, start.transpose(0, 1), cell.transpose(0, 1)]  # laid out as the module has them
    inputs = [one.requires_grad_() for one in inputs]
    outward, more = torch.randn(rows, length, directions, 16), torch.randn(directions, rows, 16).transpose(0, 1)
    found = []
    for compute in (lambda *all: lstm(*all, True)[:2], definition):
        states, last = compute(*inputs)
        some = torch.autograd.grad((states * outward).sum() + (last * more).sum(), inputs, retain_graph=True)
        found.append([states, last, *some, *torch.autograd.grad(last.sum(), inputs)])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
    states, last, gates, cells = lstm(*inputs, False)
    assert gates.numel() == cells.numel() == 0
    torch.testing.assert_close([states, last], found[0][:2], rtol=0, atol=0)
    torch.library.opcheck(lstm, (*inputs, True))
check(torch.device("cpu"), 16)
"""

# The modules as a GPU runs them, against the same by torch and by the recurrence; also in chunks, whose recomputation
# must not see that the kernels are tried out, and compiled without a break.
MODULES = """
import torch
from segmentation.models import fused, gated_kernel, gated_scan, lstm, lstm_kernel, lstm_scan, minimal
from segmentation.models.spatial_lstm import SpatialLSTM

lstm_scan.rounded = lambda weights, dtype: weights.contiguous()
lstm_kernel.FEW, gated_kernel.LONG, gated_kernel.SHORT = 16, (8, 4), (8, 4)
for scan in (lstm_scan, gated_scan):
    scan.check = lambda device, size, check=scan.check: check(torch.device("cpu"), size)
torch.cuda.get_device_capability = lambda device: (9, 0)

def on_gpu(answer):
    fused.try_out.cache_clear()
    lstm.LSTM.suits = lambda self, sequences: answer
    kind = "cuda" if answer else "cpu"
    lstm.usable = minimal.usable = lambda kernel, device, size: fused.usable(kernel, torch.device(kind), size)

words = dict(order="zigzag", order_args={}, combine="stack", hidden_size=16, num_layers=2, residual=True, stride=None)
inputs = torch.randn(2, 8, 3, 4, requires_grad=True)

def run(module):
    states = module(inputs)
    return [states, *torch.autograd.grad(states.square().sum(), [inputs, *module.parameters()])]

for cell, both in (("lstm", True), ("lstm", False), ("mingru", True), ("minlstm", False)):
    torch.manual_seed(0)
    module = SpatialLSTM(8, 16, cell=cell, bidirectional=both, **words)
    chunks = SpatialLSTM(8, 16, cell=cell, bidirectional=both, chunk=5, **words)
    chunks.load_state_dict(module.state_dict())
    on_gpu(False)
    wanted = run(module)
    on_gpu(True)
    torch.testing.assert_close(run(chunks), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run(module), wanted, rtol=1e-4, atol=1e-5)
    assert fused.try_out.cache_info().currsize == 1
    if both:
        on_gpu(True)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(run(compiled), wanted, rtol=1e-4, atol=1e-5)
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from segmentation.models import gated_kernel, lstm_kernel

def build(kernel, constants, warps, card, **kinds):
    names = kernel.arg_names
    kinds = {name: kinds.get(name, "i32" if name in ("length", "count") else "*fp32") for name in names}
    source = ASTSource(
        kernel,
        kinds | dict.fromkeys(constants, "constexpr"),
        {(names.index(key),): value for key, value in constants.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in set(names) - set(constants) if "*" in kinds[name]},
    )
    options = {"num_warps": warps, "num_stages": lstm_kernel.STAGES if "rows" in constants else 3}
    built = triton.compile(source, GPUTarget("cuda", card, 32), options)
    assert built.asm["cubin"] and built.metadata.shared <= {80: 163, 90: 227}[card] * 1024  # what a block may have

for card, half in ((80, "*fp16"), (90, "*bf16")):
    for steps, warps in (gated_kernel.LONG, gated_kernel.SHORT):
        constants = dict(directions=2, width=128, steps=steps, lanes=gated_kernel.LANES)
        for kernel in (gated_kernel.scan_forward, gated_kernel.scan_backward):
            same = dict.fromkeys(("gates", "states", "gradient", "to_gates"), half)
            build(kernel, constants, warps, card, **same)
    for rows, warps in (lstm_kernel.NARROW, lstm_kernel.WIDE):
        constants = dict(directions=2, width=128, rows=rows)
        given = dict.fromkeys(("mapped", "states", "gradient", "to_mapped"), half) | {"gates": "*fp16"}
        for keep in (True, False):
            build(lstm_kernel.run_forward, constants | {"keep": keep}, warps, card, weights="*fp16", **given)
        build(lstm_kernel.run_backward, constants, warps, card, weights="*bf16", **given)
"""


def run(script: str, **environment: str) -> None:
    """In a process of its own: Triton decides as it is imported whether it interprets."""
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | environment)


@needs_triton
@pytest.mark.parametrize("script", [GATED, LSTMS, MODULES], ids=["gated", "lstm", "modules"])
def test_the_kernels_compute_the_definitions(script: str) -> None:
    run(script, TRITON_INTERPRET="1")


@needs_triton
def test_the_kernels_compile_for_gpus() -> None:
    run(COMPILED)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What earlier tests found out of a device is forgotten, and what this one makes it believe."""
    try_out.cache_clear()
    yield
    try_out.cache_clear()


@pytest.mark.parametrize("kernel", ["gated_scan", "lstm_scan"])
@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("no compiler\nmore"), "gcc.*RuntimeError: no compiler"), (AssertionError(), "computes something")],
)
@needs_triton
@pytest.mark.usefixtures("forgotten")
def test_a_gpu_that_cannot_take_a_kernel_goes_without_and_says_so_once(
    error: Exception, said: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(import_module(f"segmentation.models.{kernel}"), "check", refuse)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.warns(UserWarning, match=said):
        assert not usable(kernel, torch.device("cuda"), 16)
    with warnings.catch_warnings(action="error"):
        assert not usable(kernel, torch.device("cuda"), 16)


@pytest.mark.usefixtures("forgotten")
def test_a_full_gpu_says_nothing_of_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(fused, "find_spec", lambda name: True)
    monkeypatch.setattr(fused, "import_module", lambda name: type("kernel", (), {"check": full, "CAPABILITY": (8, 0)}))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.raises(torch.OutOfMemoryError):
        usable("lstm_scan", torch.device("cuda"), 16)


@needs_triton
@pytest.mark.usefixtures("forgotten")
def test_an_older_card_goes_without_the_lstms_kernel_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with warnings.catch_warnings(action="error"):
        assert not usable("lstm_scan", torch.device("cuda"), 16)


def test_a_cpu_takes_no_kernel() -> None:
    assert not usable("gated_scan", torch.device("cpu"), 16)
    assert not usable("lstm_scan", torch.device("cpu"), 16)


@needs_triton
@pytest.mark.parametrize(("kernel", "operation"), [("gated_scan", "gated_scan"), ("lstm_scan", "lstm")])
def test_a_kernel_that_computes_otherwise_is_found_out(
    kernel: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = import_module(f"segmentation.models.{kernel}")

    def other_way(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        states, last = module.definition(*(one.flip(1) if one.ndim == 4 else one for one in inputs[:4]))
        return states.flip(1), last

    here = torch.device("cpu")
    monkeypatch.setattr(module, operation, lambda *inputs: module.definition(*inputs[:4]))
    module.check(here, 4)
    monkeypatch.setattr(module, operation, other_way)
    with pytest.raises(AssertionError):
        module.check(here, 4)


def test_the_lstm_is_torchs() -> None:
    torch.manual_seed(0)
    own = LSTM(3, 8, 2, batch_first=True, bidirectional=True)
    torch.manual_seed(0)
    torchs = nn.LSTM(3, 8, 2, batch_first=True, bidirectional=True)
    assert list(own.state_dict()) == list(torchs.state_dict())
    sequences, start = torch.randn(4, 5, 3), (torch.randn(4, 4, 8), torch.randn(4, 4, 8))
    for given in ((sequences,), (sequences, start)):
        (states, (last, cells)), (wanted, (last_wanted, cells_wanted)) = own(*given), torchs(*given)
        assert torch.equal(states, wanted)
        assert torch.equal(last, last_wanted)
        assert torch.equal(cells, cells_wanted)


@pytest.mark.parametrize(
    ("words", "dtype", "device", "suits"),
    [
        ({}, torch.bfloat16, "cuda", True),
        ({}, torch.float16, "cuda", True),
        ({}, torch.float32, "cuda", False),
        ({}, torch.bfloat16, "cpu", False),
        ({"hidden_size": 256}, torch.bfloat16, "cuda", False),
        ({"hidden_size": 24}, torch.bfloat16, "cuda", False),
        ({"proj_size": 8}, torch.bfloat16, "cuda", False),
        ({"bias": False}, torch.bfloat16, "cuda", False),
        ({"batch_first": False}, torch.bfloat16, "cuda", False),
        ({"dropout": 0.5, "num_layers": 2}, torch.bfloat16, "cuda", False),
    ],
)
def test_what_the_lstm_leaves_to_torch(
    words: dict[str, Any], dtype: torch.dtype, device: str, suits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = LSTM(**{"input_size": 3, "hidden_size": 16, "batch_first": True} | words)

    class Sequences:
        """What is asked of a tensor, which may be on a device that is not there."""

        ndim = 3

        def __init__(self, dtype: torch.dtype) -> None:
            self.dtype, self.device = dtype, torch.device(device)

        def numel(self) -> int:
            return 1

    sequences: Any = Sequences(dtype)
    assert cell.suits(sequences) is suits
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: True)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: dtype)
    mixed: Any = Sequences(torch.float32)
    assert cell.suits(mixed) is suits
    double: Any = Sequences(torch.float64)
    assert not cell.suits(double)


def test_the_lstm_counts_on_no_device_at_all() -> None:
    with torch.device("meta"):
        states, _ = LSTM(3, 4, batch_first=True)(torch.zeros(1, 2, 3))
    assert states.shape == (1, 2, 4)


@needs_gpu
@pytest.mark.parametrize(("kind", "width"), [(LSTM, 16), (LSTM, 128), (MinGRU, 20), (MinGRU, 128), (MinLSTM, 32)])
def test_a_gpu_takes_the_kernels_and_computes_the_same(kind: Any, width: int) -> None:
    torch.manual_seed(0)
    found: list[list[Tensor]] = []
    cell = kind(3, width, 2, batch_first=True, bidirectional=True)
    sequences = torch.randn(9, 300, 3)
    for device in ("cpu", "cuda"):
        here = cell.to(device)
        with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
            states = here(sequences.to(device))[0].float()
        gradients = torch.autograd.grad(states.square().sum(), list(here.parameters()))
        found.append([one.cpu() for one in (states, *gradients)])
    assert usable("lstm_scan" if kind is LSTM else "gated_scan", torch.device("cuda", 0), width)
    for one, other in zip(*found, strict=True):
        assert (one - other).norm() < 0.02 * one.norm()
