"""`python -m segmentation.evaluate`: a trained model on a split, in a folder of its own."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segmentation.cli import command
from segmentation.config import DataConfig, TrainerConfig
from segmentation.errors import UserError, nearest
from segmentation.ranges import check_values
from segmentation.reading import read_configuration


def evaluate(config: DictConfig, data_config: DictConfig, folder: Path) -> dict[str, Any]:
    """Test the model that a run left on `config.split` of the data described, and write the files of a test.

    Args:
        config: as in `EvaluateConfig`.
        data_config: a composed configuration with `data` and `seed` in it.
        folder: where the files go.

    Returns:
        The scores, as in `metrics.json`.
    """
    from segmentation.data.module import DataModule
    from segmentation.evaluation import Evaluation
    from segmentation.inference.predictor import as_asked
    from segmentation.interruption import Interruption
    from segmentation.models.files import load_network
    from segmentation.runfiles import TestFiles
    from segmentation.trainer import build_trainer

    network, meta = load_network(config.model, trust=config.trust)
    settings: dict[str, Any] = OmegaConf.to_container(data_config.data, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    data = DataModule(settings, {}, data_config.get("seed", 0))
    if list(data.classes) != list(meta["classes"]):
        raise UserError(f"data: its classes {list(data.classes)} are not the model's {list(meta['classes'])}")
    if data.channels != network.channels:
        wanted = network.channels
        raise UserError(f"data.channels={data.channels}: the model's images have {wanted} channels; set it to {wanted}")
    options: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    if config.mode == "resize" and config.batch_size != 1:
        raise UserError("batch_size: is of windows; whole images are taken data.eval_batch_size at a time")
    look = as_asked(network, options, meta["size"])
    data.test_split = choose_split(config.split, data)
    data.prepare(data.test_split)

    # Of the run's trainer only what the figures depend on: its devices and limits were those of the training.
    trainer_config = asdict(TrainerConfig(accelerator=config.accelerator, devices=1, **computing(data_config)))
    interruption = Interruption(folder)
    trainer = build_trainer(trainer_config, folder, callbacks=[TestFiles(folder), interruption])
    task = Evaluation(
        network,
        classes=data.classes,
        ignore_index=data.ignore_index,
        channels_last=trainer_config["channels_last"],
        look=look,
    )
    with interruption.listening():
        trainer.test(task, data, verbose=False)
    return task.results["test"]


def computing(run: DictConfig) -> dict[str, Any]:
    """How the run's trainer computed, as far as the run says."""
    said = run.get("trainer")
    said = said if isinstance(said, DictConfig) else OmegaConf.create()
    kept = {key: said[key] for key in ("precision", "channels_last") if key in said}
    typed = OmegaConf.structured(TrainerConfig)
    typed.update(kept)  # a value of another type is an error here
    return {key: typed[key] for key in kept}


def check_data_settings(run: DictConfig, saved: Path) -> None:
    """Raise a UserError for what a run's files may not say of its data, and let them choose no folder to write to."""
    from segmentation.targets import is_reader

    name = run.data.reader.get("_target_")
    if not is_reader(name):
        raise UserError(
            f"{saved}: data.reader._target_ names {name!r}, which is not the project's own and would run code; "
            "trust=true if you know where the file comes from"
        )
    if run.data.cache not in ("auto", "off"):
        run.data.cache = "auto"
    check_values(OmegaConf.create({"data": run.data}))


def choose_split(split: str, data: Any) -> str:
    """The split to test on: the one named, or `val` where a data set has no `test`."""
    if split == "test":
        return str(data.test_split)
    if split not in data.splits.sources:
        raise UserError(f"split={split}: {data.name} has no such split; {nearest(split, data.splits.sources)}")
    return split


def described_data(config: DictConfig, overrides: list[str], chosen: bool) -> DictConfig:
    """What the run saved, with the `data.` overrides of this command on top; or the data set chosen instead, seen at
    the size and with the channels that the network was trained with unless `data.size`, ... are given.
    """
    from segmentation.models.files import find_model, read_description

    folder = find_model(config.model)
    saved = folder / ".hydra" / "config.yaml"
    run = read_configuration(saved, trust=config.trust) if saved.is_file() else OmegaConf.create()
    changes = {change.key_or_group: change.value() for change in OverridesParser.create().parse_overrides(overrides)}
    if chosen:
        run.data, meta = config.data, read_description(folder)["meta"]
        if "data.size" not in changes:
            windows = config.mode == "window"  # they are cut at the images' own scale
            run.data.size = None if windows else meta["size"]
        for key in ("channels", "white", "shown"):  # what the network was trained to see
            if f"data.{key}" not in changes:
                run.data[key] = meta[key]
        return run
    if "data" in run:  # a run of an earlier release lacks the keys that were added since
        try:
            run.data = OmegaConf.merge(OmegaConf.structured(DataConfig), run.data)
        except (OmegaConfBaseException, TypeError, ValueError, AttributeError, AssertionError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{saved}: does not say which data the run had ({reason}); add data=...") from error
        if config.mode == "window":
            OmegaConf.resolve(run.data.reader)  # scenes are still drawn at that size
            run.data.size = None
        run.data.download = False  # where from, and where to, is not for a run's files to say
        if not config.trust:
            check_data_settings(run, saved)
    else:
        raise UserError(f"data: {saved} is not there, so nothing says what {config.model} was trained on; add data=...")
    for key, value in changes.items():
        if key.startswith("data."):
            OmegaConf.update(run, key, value, merge=True)
    return run


@command("evaluate")
def main(config: DictConfig) -> None:
    runtime = HydraConfig.get()
    data_config = described_data(config, list(runtime.overrides.task), runtime.runtime.choices.get("data") is not None)
    folder = Path(runtime.runtime.output_dir)
    scores = evaluate(config, data_config, folder)
    print(f"pixel accuracy {scores['pixel_accuracy']:.4f}   mean IoU {scores['mean_iou']:.4f}   {folder}/metrics.json")


if __name__ == "__main__":
    main()
