"""What all tests share: no network, compositions of the configuration without Hydra's runtime, measured figures."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the network fails at once instead of waiting
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of several processes each would take all cores for itself

import pytest
from hydra import compose as compose_config
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from segmentation.config import CONF
from segmentation.registering import register

Compose = Callable[..., DictConfig]
Record = Callable[..., None]

# The smallest run that has everything: seconds on a laptop.
TINY = (
    "data.size=[32,48]",
    "data.batch_size=4",
    "data.num_workers=0",
    "data.splits={train:8,val:3,test:3}",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.precision=32",
    "lstm.hidden_size=8",
    "backbone.name=test_resnet",  # timm's own, for tests: half a million parameters
)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the tests decode is kept below their own folder, not in the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Compose]:
    """`compose(*overrides, name="train", hydra=False)`: a command's configuration, its output below the test's own
    folder; with Hydra's own where asked.
    """
    register()
    GlobalHydra.instance().clear()

    def _compose(*overrides: str, name: str = "train", hydra: bool = False) -> DictConfig:
        own = [f"output={tmp_path / 'run'}"] if name in ("train", "benchmark") else []
        return compose_config(name, overrides=[*own, *overrides], return_hydra_config=hydra)

    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield _compose


@pytest.fixture
def tiny(compose: Compose) -> Compose:
    """Like `compose`, with a network, scenes and a training that take a second."""

    def _tiny(*overrides: str) -> DictConfig:
        return compose(*TINY, *overrides)

    return _tiny


FIGURES = pytest.StashKey[dict[str, tuple[int, float]]]()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """`record(what, seconds=0)`: one more try of this kind, for the figures that are printed after all tests."""
    figures = request.config.stash.setdefault(FIGURES, {})

    def _record(what: str, seconds: float = 0.0) -> None:
        tries, before = figures.get(what, (0, 0.0))
        figures[what] = (tries + 1, before + seconds)

    return _record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """At the end, the figures that tests measured: what they gave to `record` and `record_property`; after all tests,
    the slow ones included, how many each file holds and how long they took.
    """
    tries = config.stash.get(FIGURES, {})
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    figures = [(name, value) for report in reports for name, value in report.user_properties]
    if tries or figures:
        terminalreporter.section("measured")
    for what, (count, seconds) in sorted(tries.items()):
        terminalreporter.write_line(f"{what:<50} {count:>5} tries" + (f" {seconds:>8.0f} s" if seconds else ""))
    for name, value in figures:
        terminalreporter.write_line(f"{name}: {value}")
    if "or not slow" in config.option.markexpr:
        terminalreporter.section("by file")
        calls = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
        for file in sorted({report.location[0] for report in calls}):
            mine = [report for report in calls if report.location[0] == file]
            seconds = sum(report.duration for report in mine)
            terminalreporter.write_line(f"{file:<50} {len(mine):>5} tests {seconds:>8.0f} s")
