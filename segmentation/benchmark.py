"""`python -m segmentation.benchmark`: how fast this project trains, evaluates, loads and scans, and against what."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from segmentation.cli import command
from segmentation.errors import UserError


def benchmark(config: DictConfig, folder: Path) -> Any:
    """Measure every section of `benchmark.sections`, and write `benchmark.{json,md,png}`.

    Args:
        config: as in `BenchmarkConfig`.
        folder: where the files go.

    Returns:
        The findings.
    """
    from hydra.utils import get_method

    from segmentation.benchmarks.drawings import draw
    from segmentation.benchmarks.figures import Finding, show, write
    from segmentation.benchmarks.files import on_disk
    from segmentation.benchmarks.timing import Computing, describe_machine
    from segmentation.targets import check_targets

    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    check_targets(settings)
    if settings["lstm"]["cell"] == "auto":
        raise UserError("lstm.cell=auto: the benchmark measures each cell; name one")
    if str(settings["trainer"]["devices"]) != "1" or settings["trainer"]["num_nodes"] != 1:
        raise UserError("trainer.devices: the benchmark measures one device; leave it at 1")
    chosen = settings.pop("benchmark")
    settings = on_disk(settings, folder)
    machine = describe_machine(Computing.of(settings, folder).device)
    findings: list[Finding] = []
    for section in chosen["sections"].values():
        keywords = {key: value for key, value in section.items() if key != "_target_"}
        findings += get_method(section["_target_"])(settings, folder, chosen["repetitions"], **keywords)
        write(findings, machine, folder)  # after each: what was measured is not lost with what fails
    if findings:
        draw(findings, folder)
    show(findings)
    return findings


@command("benchmark")
def main(config: DictConfig) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    benchmark(config, folder)
    print(f"benchmark: {folder}/benchmark.md")


if __name__ == "__main__":
    main()
