"""`python -m segmentation.check_data`: look at every image and mask before a night of training."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from segmentation.cli import command
from segmentation.errors import UserError

if TYPE_CHECKING:
    from segmentation.data.splits import Splits

SAMPLES = 12  # on the contact sheet


def check_data(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Read every file of a data set, and write what was found to `check.json` and `contact.png`.

    Args:
        config: with `data`, as in `CheckDataConfig`.
        folder: where the files go.

    Returns:
        The content of `check.json`.
    """
    settings: dict[str, Any] = OmegaConf.to_container(config.data, resolve=True, throw_on_missing=True)  # type: ignore[assignment]

    from segmentation.colours import default_colours
    from segmentation.data.channels import check_channels
    from segmentation.data.download import download
    from segmentation.data.splits import Splits, check_labels

    if settings["download"]:
        download(settings["source"], settings["root"], settings["name"])
    if settings["colours"] is None:
        settings["colours"] = default_colours(len(settings["classes"]))
    check_labels(settings["classes"], settings["colours"], settings["ignore_index"])
    check_channels(settings)
    splits = Splits(settings)

    from segmentation.survey.findings import Finding, Survey, find, ungrouped
    from segmentation.survey.tables import as_json, show
    from segmentation.survey.walk import draw_sheet, walk

    labels = settings["classes"], settings["colours"], settings["ignore_index"]
    survey = Survey(walk(splits), *labels, splits.group, settings["white"])
    findings = [Finding("split", True, missing, []) for missing in missing_splits(splits)] + find(survey)
    findings += ungrouped(survey, splits.ungrouped)
    draw_sheet(survey, splits, SAMPLES, folder / "contact.png")
    return show(as_json(survey, findings, folder), findings)


def missing_splits(splits: "Splits") -> Iterator[str]:
    """What a training would say of the splits that it needs and that are not there."""
    for split in ("train", "val"):
        try:
            splits.require(split)
        except UserError as error:
            yield str(error)


@command("check_data")
def main(config: DictConfig) -> None:
    folder = Path(HydraConfig.get().runtime.output_dir)
    content = check_data(config, folder)
    errors = sum(finding["error"] for finding in content["findings"])
    print(f"{folder}/check.json and contact.png")
    if errors:
        raise UserError(f"data: {errors} of the findings would make a training or its figures wrong; see above")


if __name__ == "__main__":
    main()
