"""`python -m segmentation.report DIR`: tables, curves and pictures of a run or a sweep, on one page."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmentation.errors import UserError
from segmentation.mistakes import explain

if TYPE_CHECKING:
    from segmentation.analysis.sections import Measure
    from segmentation.analysis.tally import SampleOf


def find_samples(folder: Path, *, trust: bool) -> "SampleOf | None":
    """The test images and masks by name, read as the finished runs were told; None where they are not there, are
    other files than those tested on, or are read by code that is not the project's own.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from segmentation.analysis.runs import find_runs
    from segmentation.config import DataConfig
    from segmentation.data.module import DataModule
    from segmentation.ranges import check_values
    from segmentation.reading import read_configuration
    from segmentation.targets import is_reader

    # Runs of several folds were tested on images of their own each.
    distinct = {run.metrics["files_hash"]: run for run in reversed(find_runs(folder)[0])}.values()
    place: dict[str, tuple[DataModule, str, int]] = {}
    for run in distinct:
        split = run.metrics["split"]
        try:
            whole = read_configuration(run.folder / ".hydra" / "config.yaml", trust=trust)
            whole.data = OmegaConf.merge(OmegaConf.structured(DataConfig), whole.data)  # keys added since it was made
            whole.data.download = False  # where from, and where to, is not for a run's files to say
            config: Any = OmegaConf.to_container(whole.data, resolve=True)
            if not trust and not is_reader(config["reader"].get("_target_")):
                return None
            check_values(OmegaConf.create({"data": config}))
            data = DataModule(config, {}, 0)
            if data.contract(split)["files_hash"] != run.metrics["files_hash"]:
                return None
        except (UserError, OmegaConfBaseException, KeyError, TypeError, ValueError, OSError):
            return None
        place |= {name: (data, split, index) for index, name in enumerate(data.reader(split).names)}

    def sample_of(name: str) -> tuple[Any, Any]:
        data, split, index = place[name]
        sample = data.reader(split)[index]
        return data.visible(sample.image), sample.mask

    return sample_of


def find_measure(device: str, *, trust: bool) -> "Measure":
    """What measures the cost of networks on a device."""
    import functools

    import torch

    from segmentation.cost import measure

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"--device {device}: not on this machine; choose cpu{', cuda' * torch.cuda.is_available()}")
    return functools.partial(measure, device=torch.device(device), trust=trust)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m segmentation.report", description=__doc__)
    parser.add_argument("dir", type=Path, help="the folder of a run or of a sweep")
    parser.add_argument(
        "--device", default="auto", help="measure the networks' cost on it: cpu, cuda (default: cuda if there)"
    )
    parser.add_argument("--no-cost", action="store_true", help="do not measure what the networks cost on this machine")
    parser.add_argument(
        "--own",
        action="append",
        default=[],
        metavar="KEY",
        help="show every network at its own best value of this swept key, such as optimizer.lr, by validation",
    )
    parser.add_argument("--trust", action="store_true", help="let the runs' files name code that is not the project's")
    options = parser.parse_args()
    folder: Path = options.dir
    try:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; give that of a run or a sweep")
        from segmentation.analysis.page import write_report

        measure = None if options.no_cost else find_measure(options.device, trust=options.trust)
        page = write_report(folder, find_samples(folder, trust=options.trust), measure, options.own)
    except Exception as error:
        if (line := explain(error, "train")) is None:
            raise
        raise SystemExit(f"error: {line}") from None
    print(f"report: {page}")


if __name__ == "__main__":
    main()
