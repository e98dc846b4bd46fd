"""`python -m segmentation.check_repeat`: the same training again and again, and how far its results drift apart."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from segmentation.apart import train_apart
from segmentation.cli import command
from segmentation.config import TrainConfig
from segmentation.errors import UserError
from segmentation.whole import write_text

RECIPE = "repeated"  # the name of the configuration that every run is of
NOT_HERE = {"train": True, "find": None, "ckpt": None, "resume": False}  # with others there is nothing to repeat
Start = Callable[[list[str], str], None]


def check_repeat(config: DictConfig, folder: Path, start: Start = train_apart) -> dict[str, Any]:
    """Run one configuration several times, in folders `0`, `1`, ..., and write to `repeat.json` what differs.

    Args:
        config: as in `CheckRepeatConfig`.
        folder: where runs and file go.
        start: runs a training in a process of its own, from words of its command line and the folder it goes to.

    Returns:
        The content of `repeat.json`.
    """
    for key, only in NOT_HERE.items():
        if config[key] != only:
            raise UserError(f"{key}={config[key]}: check_repeat trains anew; leave it out")
    if config.runs < 2:
        raise UserError(f"runs={config.runs}: give 2 or more, for there must be something to compare")
    if config.effect and not config.test:
        raise UserError("test=false: without a test's scores nothing stands beside effect; leave it out")

    from segmentation.repeats.effect import read_rows, set_beside

    rows = read_rows(config.effect) if config.effect else []  # a mistake here would show only after the trainings
    write_recipe(config, folder)
    folders = [folder / str(number) for number in range(config.runs)]
    for own in folders:
        start([f"--config-dir={folder}", f"--config-name={RECIPE}"], str(own))

    from segmentation.repeats.drift import find_drifts, score_drifts
    from segmentation.repeats.tables import show, write

    drifts, scores = find_drifts(folders), score_drifts(folders)
    beside = set_beside(rows, scores)
    facts = {
        "runs": config.runs,
        "steps": next(drift.compared for drift in drifts if drift.of == "losses"),
        "identical": not any(drift.differing for drift in drifts),
        "tolerance": config.tolerance,
        "passed": all(drift.largest <= config.tolerance for drift in drifts),
    }
    show(drifts, beside)
    return write(drifts, scores, beside, facts, folder / "repeat.json")


def write_recipe(config: DictConfig, folder: Path) -> None:
    """The configuration that the runs share, as `train` composes it by `--config-dir` and `--config-name`."""
    known = {field.name for field in fields(TrainConfig)}
    whole: Any = OmegaConf.to_container(config, resolve=False)
    recipe = {key: value for key, value in whole.items() if key in known}
    recipe["callbacks"]["recorder"] = {
        "_target_": "segmentation.repeats.recorder.Recorder",
        "folder": "${output}",
    }
    recipe |= {"defaults": ["train_schema", "_self_"], "hydra": {"job": {"name": "train"}}}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{RECIPE}.yaml", OmegaConf.to_yaml(OmegaConf.create(recipe)))


def conclude(content: dict[str, Any]) -> str:
    """What `repeat.json` says, in a line.

    Raises:
        UserError: where the runs are further apart than the tolerance allows.
    """
    if content["identical"]:
        return "the same to the last bit"
    if content["passed"]:
        return "within tolerance, but not the same"
    first = next(drift for drift in content["drifts"] if drift["differing"])
    cure = "trainer.deterministic=true names operations that may be to blame"
    if first["of"] == "data":
        cure = "an augmentation or reader draws random numbers of its own"
    raise UserError(f"the runs drift apart, first in their {first['of']} ({first['where']}); {cure}")


@command("check_repeat")
def main(config: DictConfig) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    content = check_repeat(config, folder)
    print(f"{content['runs']} runs of {content['steps']} steps: {folder}/repeat.json")
    print(conclude(content))


if __name__ == "__main__":
    main()
