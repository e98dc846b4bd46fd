"""torch's LSTM on a GPU as Triton kernels: all steps in one, the recurrent weights kept on the chip.

As the persistent RNNs do it (Diamos et al., 2016). cuDNN runs one direction after the other; here each direction and
every few sequences are a program of their own. States and cells are float32 between steps; products take the state
rounded to float16, whose values between -1 and 1 need no more range, and gradients rounded to bfloat16, which has the
range of float32.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from segmentation.models.gated_kernel import logistic

# Sequences of a program and its warps, the faster where there are few sequences in all directions, and where there are
# many: 64 and 1,408 were measured (docs/benchmark.md). Triton 3.2 and 3.3 multiply no matrices of 8 columns.
WIDE = 16, 8
FEW, NARROW = 1024, (8, 4) if tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 6) else WIDE
STAGES = 2  # of loads ahead: with Triton's three, gradients of 128 states miss the memory on an A100's chip by 1 KiB


@triton.jit
def squash(x):
    """The hyperbolic tangent, of float32."""
    return 2.0 / (1.0 + tl.exp(-2.0 * x)) - 1.0


@triton.jit
def load_gates(place, apart: tl.constexpr, mask):
    """Four tensors that lie `apart` from one another: those of the gates i, f, g and o."""
    i, f = tl.load(place, mask=mask, other=0.0), tl.load(place + apart, mask=mask, other=0.0)
    g, o = tl.load(place + 2 * apart, mask=mask, other=0.0), tl.load(place + 3 * apart, mask=mask, other=0.0)
    return i, f, g, o


@triton.jit
def store_gates(place, apart: tl.constexpr, i, f, g, o, mask):
    """The same the other way, in the precision of what is written to."""
    tl.store(place, i.to(place.dtype.element_ty), mask=mask)
    tl.store(place + apart, f.to(place.dtype.element_ty), mask=mask)
    tl.store(place + 2 * apart, g.to(place.dtype.element_ty), mask=mask)
    tl.store(place + 3 * apart, o.to(place.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["length", "count"])
def run_forward(
    mapped,
    weights,
    start,
    cell,
    states,
    gates,
    cells,
    last,
    length,
    count,
    directions: tl.constexpr,
    width: tl.constexpr,
    rows: tl.constexpr,
    keep: tl.constexpr,
):
    """Some of B sequences in one of D directions, [width, rows] at a time; the next step's inputs load meanwhile."""
    direction = tl.program_id(1)
    unit, other = tl.arange(0, width)[:, None], tl.arange(0, width)[None, :]
    row = (tl.program_id(0) * rows + tl.arange(0, rows))[None, :].to(tl.int64)
    known = row < count
    weight = weights + (direction * 4 * width + unit) * width + other
    weight_i, weight_f = tl.load(weight), tl.load(weight + width * width)
    weight_g, weight_o = tl.load(weight + 2 * width * width), tl.load(weight + 3 * width * width)
    first, ahead = tl.where(direction == 0, 0, length - 1), tl.where(direction == 0, directions, -directions)
    place = (row * length + first) * directions + direction
    begin = (row * directions + direction) * width + unit
    state = tl.load(start + begin, mask=known, other=0.0).to(weights.dtype.element_ty)
    c = tl.load(cell + begin, mask=known, other=0.0).to(tl.float32)
    next_i, next_f, next_g, next_o = load_gates(mapped + place * (4 * width) + unit, width, known)
    for step in range(length):
        map_i, map_f, map_g, map_o = next_i, next_f, next_g, next_o
        more = known & (step + 1 < length)
        next_i, next_f, next_g, next_o = load_gates(mapped + (place + ahead) * (4 * width) + unit, width, more)
        i = logistic(tl.dot(weight_i, state) + map_i.to(tl.float32))
        f = logistic(tl.dot(weight_f, state) + map_f.to(tl.float32))
        g = squash(tl.dot(weight_g, state) + map_g.to(tl.float32))
        o = logistic(tl.dot(weight_o, state) + map_o.to(tl.float32))
        c = f * c + i * g
        h = o * squash(c)
        state = h.to(weights.dtype.element_ty)
        tl.store(states + place * width + unit, h.to(states.dtype.element_ty), mask=known)
        if keep:
            tl.store(cells + place * width + unit, c, mask=known)
            store_gates(gates + place * (4 * width) + unit, width, i, f, g, o, known)
        place += ahead
    tl.store(last + begin, c, mask=known)


@triton.jit(do_not_specialize=["length", "count"])
def run_backward(
    gradient,
    last_gradient,
    weights,
    cell,
    gates,
    cells,
    to_mapped,
    to_start,
    to_cell,
    length,
    count,
    directions: tl.constexpr,
    width: tl.constexpr,
    rows: tl.constexpr,
):
    """The same from the last step to the first, with the gates and cells that the pass forward kept."""
    direction = tl.program_id(1)
    unit, other = tl.arange(0, width)[:, None], tl.arange(0, width)[None, :]
    row = (tl.program_id(0) * rows + tl.arange(0, rows))[None, :].to(tl.int64)
    known = row < count
    weight = weights + (direction * 4 * width + other) * width + unit  # transposed
    weight_i, weight_f = tl.load(weight), tl.load(weight + width * width)
    weight_g, weight_o = tl.load(weight + 2 * width * width), tl.load(weight + 3 * width * width)
    first, ahead = tl.where(direction == 0, length - 1, 0), tl.where(direction == 0, -directions, directions)
    place = (row * length + first) * directions + direction
    begin = (row * directions + direction) * width + unit
    to_c = tl.load(last_gradient + begin, mask=known, other=0.0).to(tl.float32)
    to_h = tl.zeros_like(to_c)
    c_first = tl.load(cell + begin, mask=known, other=0.0).to(tl.float32)
    next_c = tl.load(cells + place * width + unit, mask=known, other=0.0)
    next_own = tl.load(gradient + place * width + unit, mask=known, other=0.0)
    next_i, next_f, next_g, next_o = load_gates(gates + place * (4 * width) + unit, width, known)
    for step in range(length):
        c, own = next_c, next_own.to(tl.float32)
        i, f, g, o = next_i.to(tl.float32), next_f.to(tl.float32), next_g.to(tl.float32), next_o.to(tl.float32)
        more = known & (step + 1 < length)
        before = place + ahead
        next_c = tl.load(cells + before * width + unit, mask=more, other=0.0)
        next_own = tl.load(gradient + before * width + unit, mask=more, other=0.0)
        next_i, next_f, next_g, next_o = load_gates(gates + before * (4 * width) + unit, width, more)
        to_h += own
        squashed = squash(c)
        to_c += to_h * o * (1.0 - squashed * squashed)
        c_before = tl.where(step + 1 < length, next_c, c_first)
        to_i = (to_c * g * i * (1.0 - i)).to(weights.dtype.element_ty)
        to_f = (to_c * c_before * f * (1.0 - f)).to(weights.dtype.element_ty)
        to_g = (to_c * i * (1.0 - g * g)).to(weights.dtype.element_ty)
        to_o = (to_h * squashed * o * (1.0 - o)).to(weights.dtype.element_ty)
        to_c = to_c * f
        store_gates(to_mapped + place * (4 * width) + unit, width, to_i, to_f, to_g, to_o, known)
        to_h = tl.dot(weight_i, to_i) + tl.dot(weight_f, to_f) + tl.dot(weight_g, to_g) + tl.dot(weight_o, to_o)
        place = before
    tl.store(to_start + begin, to_h.to(to_start.dtype.element_ty), mask=known)
    tl.store(to_cell + begin, to_c.to(to_cell.dtype.element_ty), mask=known)


def launch(kernel: Any, *tensors: Tensor, shape: torch.Size, **constants: bool) -> None:
    """Run a kernel over states of this shape, [B, L, D, H]."""
    count, length, directions, width = shape
    rows, warps = NARROW if count * directions <= FEW else WIDE
    with torch.cuda.device_of(tensors[0]):  # Triton launches on the current device
        kernel[(triton.cdiv(count, rows), directions)](
            *tensors,
            length,
            count,
            directions=directions,
            width=width,
            rows=rows,
            num_warps=warps,
            num_stages=STAGES,
            **constants,
        )
