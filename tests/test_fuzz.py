"""Whatever is typed, a command works or says in one line what is wrong: fuzzed in one process, for speed.

Each try goes the way of the command: Hydra composes, the values are checked, and the command's own function is called
as far as that takes a moment: a training is a batch of the smallest network, an export ends before it traces.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from segmentation.config import SCHEMAS
from tests.attempts import STARTS, attempt
from tests.fuzzing import INNER, command_line
from tests.world import make_world

QUICK = {"train": 6, "benchmark": 10}  # tries in the fast suite, that call the command's function; else 20
LONG = {"train": 300}  # in the long form; else 400
Record = Callable[[str, object], None]
COMPOSED = 2000  # tries, for each of the two commands with all groups, that end before anything heavy is imported


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands are given."""
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


def fuzz(command: str, tries: int, world: Path, *, run: bool = True) -> dict[str, int]:
    """Try so many command lines, the same ones each time; how many were accepted, and refused."""
    counts = {"accepted": 0, "refused": 0}

    @settings(max_examples=tries, deadline=None, database=None, derandomize=True, phases=[Phase.generate, Phase.shrink],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.integers(0, len(STARTS[command]) - 1), command_line(command, INNER[command]))
    def go(start: int, words: list[str]) -> None:
        counts["accepted" if attempt(command, words, world, run=run, start=start) is None else "refused"] += 1

    before = Path.cwd()
    os.chdir(world)  # a key misread for a path makes nothing elsewhere
    try:
        go()
    finally:
        os.chdir(before)
    return counts


@pytest.mark.parametrize("start", range(len(STARTS["train"])))
def test_a_training_that_is_tried_is_a_real_one(start: int, world: Path) -> None:
    """Checkpoints, loggers and the cache of files act in the tries that are more than a step."""
    assert attempt("train", [], world, start=start) is None
    assert (world / "run" / "checkpoints" / "last.ckpt").is_file() == (start > 0)
    assert any((world / "run").glob("tensorboard/events*")) == (start > 0)
    assert any((world / "cache").rglob("*.samples")) or start < 3


@pytest.mark.parametrize("command", SCHEMAS)
def test_whatever_is_typed_ends_in_a_line(command: str, world: Path) -> None:
    assert sum(fuzz(command, QUICK.get(command, 20), world).values()) > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", SCHEMAS)
def test_whatever_is_typed_hundreds_of_times(command: str, world: Path, record_property: Record) -> None:
    start = time.monotonic()
    counts = fuzz(command, LONG.get(command, 400), world)
    record_property(f"fuzzed {command}", f"{counts}, {time.monotonic() - start:.0f} s")
    assert min(counts.values()) > 0  # neither all refused nor all accepted, or nothing was learnt


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", ["train", "benchmark"])
def test_what_is_composed_thousands_of_times(command: str, world: Path, record_property: Record) -> None:
    start = time.monotonic()
    counts = fuzz(command, COMPOSED, world, run=False)
    record_property(f"composed {command}", f"{counts}, {time.monotonic() - start:.0f} s")
    assert min(counts.values()) > 0
