"""Whether two trainings came to the same, to the bit."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from segmentation.checkpoints import LAST


def timeless(state: Any) -> Any:
    """A checkpoint's content without times, and without a counter that only says whether a validation was repeated."""
    if isinstance(state, Mapping):
        left_out = ("seconds", "begun", "dirpath", "files", "epoch_loop.val_loop.batch_progress")
        return {key: timeless(value) for key, value in state.items() if key not in left_out}
    return [timeless(value) for value in state] if isinstance(state, list | tuple) else state


def differences(first: Any, second: Any, rounding: float = 0.0, where: str = "") -> Iterator[str]:
    """Where two checkpoints differ in a bit, numbers of Python's by more than `rounding`."""
    if isinstance(first, Mapping):
        yield from (f"{where}/{key}: in one only" for key in first.keys() ^ second.keys())
        for key in first.keys() & second.keys():
            yield from differences(first[key], second[key], rounding, f"{where}/{key}")
    elif isinstance(first, list):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, rounding, f"{where}/{index}")
    elif isinstance(first, float):
        if abs(first - second) > rounding:
            yield f"{where}: {first} {second}"
    elif not (torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second):
        yield f"{where}: {first} {second}"


def assert_same(first: Path, second: Path, *, rounding: float = 0.0) -> None:
    """Two finished trainings have equal weights, best epochs, histories, optimizers, schedules: to the bit, but for the
    means in their histories, which several processes sum up in another order after an interruption.
    """
    states: list[dict[str, Any]] = []
    for folder in (first, second):
        state = timeless(torch.load(folder / LAST, weights_only=True))
        states.append({key: value for key, value in state.items() if key != "callbacks"})
        history = next(value for key, value in state["callbacks"].items() if key.startswith("History"))
        judges = {key: value for key, value in state["callbacks"].items() if "epochs': 1" in key or "Stopping" in key}
        scores = {key: value.get("best_model_score", value.get("best_score")) for key, value in judges.items()}
        states[-1] |= {"history": history, "scores": scores}
    found = [
        *differences(states[0].pop("history"), states[1].pop("history"), rounding),
        *differences(states[0], states[1]),
    ]
    assert not found, f"{len(found)} differ: {found[:5]}"[:2000]
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
