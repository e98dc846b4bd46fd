"""`python -m segmentation.push`: a run's model, its figures and its card to the Hugging Face Hub."""

from pathlib import Path

from omegaconf import DictConfig

from segmentation.cli import command
from segmentation.printable import printable
from segmentation.reading import read_json


def prepare(model: str) -> Path:
    """The folder of a finished run, with a card: its own, or a new one."""
    from segmentation.card import CARD, write_card
    from segmentation.models.files import find_model

    folder = find_model(model)
    path = folder / "metrics.json"
    metrics = read_json(path) if path.is_file() else None
    if not (folder / CARD).is_file():  # the user's own words in it stay
        write_card(folder, metrics)
    return folder


@command("push")
def main(config: DictConfig) -> None:
    folder = prepare(config.model)

    from segmentation.hub import files_of, push

    for path in files_of(folder):
        print(f"{path.stat().st_size:>12,} bytes  {printable(str(path.relative_to(folder)))}")
    if config.dry_run:
        print(f"nothing sent to {config.repo}: dry_run=true")
        return
    print(push(folder, config.repo, private=config.private))


if __name__ == "__main__":
    main()
