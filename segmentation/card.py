"""A model's card: the README.md beside its weights, in the Hugging Face Hub's layout."""

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from omegaconf import OmegaConf

from segmentation.models.files import read_description
from segmentation.reading import read_configuration
from segmentation.whole import whole

CARD = "README.md"
PICTURE = "plots/segmented.png"
CONTRACT = ("split", "num_images", "ignore_index", "resolution", "absent_classes", "files_hash")
FIGURES = ("mean_iou", "mean_accuracy", "mean_dice", "pixel_accuracy")
# Of a run's configuration what its figures depend on; the other groups hold paths of the user's machine.
SHOWN = ("seed", "data.size", "data.batch_size", "data.limit", "data.balance", "trainer.max_epochs",
         "trainer.precision", "monitor", "backbone", "decoder", "lstm", "loss", "optimizer", "scheduler",
         "augment")  # fmt: skip
NOTHING = "segmentation.models.controls.identity"  # in the LSTM's place: its settings have no effect


def write_card(folder: Path, metrics: Mapping[str, Any] | None, data: str | None = None) -> None:
    """Write the card of the model in a folder, whole or not at all.

    Args:
        folder: of a run, with its model.json.
        metrics: what its metrics.json holds, or will; None where it was never tested.
        data: the data set's name; None: as the run's configuration says.
    """
    description, run = read_description(folder), configuration(folder)
    data = " ".join((data or str(run.get("data.name", "unknown"))).split())
    shown = {key: run[key] for key in SHOWN if key in run} or dict(description["model"])
    if shown.get("lstm", {}).get("_target_") == NOTHING:
        shown["lstm"] = {"_target_": NOTHING}
    weights = shown.get("backbone", {}).get("weights")
    if isinstance(weights, str):
        shown["backbone"] = {**shown["backbone"], "weights": Path(weights).name}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("card.md").render(
        front=Markup(front_matter(description, metrics, data)),
        model=description["model"],
        classes=description["meta"]["classes"],
        size=description["meta"]["size"],
        input=fed(description["meta"]),
        metrics=metrics,
        contract={key: metrics[key] for key in CONTRACT if key in metrics} if metrics else {},
        figures=FIGURES,
        data=data,
        picture=PICTURE if (folder / PICTURE).is_file() else None,
        configuration=Markup(json.dumps(shown, indent=2)),  # JSON starts no line with a fence
    )
    with whole(folder / CARD) as partial:
        partial.write_text(text, encoding="utf-8")


def fed(meta: Mapping[str, Any]) -> Markup:
    """What the network takes, in words for the card's code."""
    channels, white = int(meta["channels"]), meta["white"]
    stored = list(map(int, white)) if isinstance(white, list) else white if white is None else int(white)
    scale = "" if stored is None else f", {stored} as stored in 16 bits being 1.0,"
    return Markup(f"{'RGB ' if channels == 3 else ''}[B, {channels}, H, W]{scale}")


def configuration(folder: Path) -> dict[str, Any]:
    """What a run was composed of, of the groups `SHOWN` and the data set's name; empty where it is not there."""
    path = folder / ".hydra" / "config.yaml"
    if not path.is_file():
        return {}
    run = read_configuration(path)  # the values of environment variables are nobody's business
    shown = {key: OmegaConf.select(run, key) for key in (*SHOWN, "data.name")}
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in shown.items()
        if value is not None
    }


def front_matter(description: Mapping[str, Any], metrics: Mapping[str, Any] | None, data: str) -> str:
    """What the Hub reads of a card, as YAML."""
    task = "image-segmentation"
    name = f"{description['model']['backbone']['name']} on {data}"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=data,
            dataset_name=data,
            dataset_split=str(metrics["split"]),
            metric_type=figure,
            metric_value=metrics[figure],
        )
        for figure in (FIGURES if metrics else ())
        if metrics is not None and metrics.get(figure) is not None
    ]
    card = ModelCardData(
        library_name="segmentation",
        pipeline_tag=task,
        tags=["semantic-segmentation", "pytorch"],
        metrics=[result.metric_type for result in results] or None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return card.to_yaml().strip()


def escape(value: Any) -> Any:
    """A value as Markdown that says it and does nothing else; numbers with four digits."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return "-"
    if isinstance(value, list):
        value = ", ".join(map(str, value)) or "none"
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    text = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)
