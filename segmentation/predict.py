"""`python -m segmentation.predict`: class masks and overlays for an image, or a folder of them."""

from collections import Counter
from pathlib import Path

from omegaconf import DictConfig

from segmentation.cli import command
from segmentation.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def predict(model: str, source: str, output: str, accelerator: str = "auto", trust: bool = False) -> list[Path]:
    """Segment every image of `source` and write, for each, a palette PNG of class indices in the image's own size
    to `output`, and the image with the classes' colours over it to `output/overlays`.

    Returns:
        The masks written.
    """
    paths = find_images(Path(source), Path(output))
    targets = name_outputs(paths, Path(source))
    for name in targets.values():
        if (Path(output) / name).resolve() in {path.resolve() for path in paths}:
            raise UserError(
                f"output={output}: the mask {name} would replace the image of that name; choose another folder"
            )

    import torch
    from rich.progress import track

    from segmentation.analysis.pictures import overlay, save_image, save_mask
    from segmentation.data.augment import resize_image
    from segmentation.data.images import read_image
    from segmentation.models.files import load_model

    network, meta = load_model(model, trust=trust)
    device = torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    network.to(device).eval()
    written = []
    for path, name in track(targets.items(), description="predicting"):
        image = read_image(path)
        resized = torch.from_numpy(resize_image(image, meta["size"])).to(device)
        with torch.inference_mode():
            logits = network(resized.permute(2, 0, 1)[None].float() / 255, size=image.shape[:2])
        mask = logits.argmax(1)[0].to(torch.uint8).cpu().numpy()
        written.append(Path(output) / name)
        save_mask(written[-1], mask, meta["colours"])
        save_image(Path(output) / "overlays" / name, overlay(image, mask, meta["colours"]))
    return written


def find_images(source: Path, output: Path) -> list[Path]:
    """The image at `source`, or all images below that folder, without those that an earlier prediction left there."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"input={source}: no such file or folder")
    inside = output.resolve() != source.resolve() and output.resolve().is_relative_to(source.resolve())
    paths = sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not (inside and path.resolve().is_relative_to(output.resolve()))
    )
    if not paths:
        raise UserError(f"input={source}: no image in it; their names end in {', '.join(sorted(SUFFIXES))}")
    return paths


def name_outputs(paths: list[Path], source: Path) -> dict[Path, Path]:
    """Where each mask goes below the output folder: its place as a .png, by its whole name where two would clash."""
    root = source if source.is_dir() else source.parent
    relative = {path: path.relative_to(root) for path in paths}
    count = Counter(path.with_suffix("") for path in relative.values())
    return {
        path: place.with_suffix(".png") if count[place.with_suffix("")] == 1 else place.with_name(f"{place.name}.png")
        for path, place in relative.items()
    }


@command("predict")
def main(config: DictConfig) -> None:
    written = predict(config.model, config.input, config.output, config.accelerator, config.trust)
    print(f"{len(written)} masks in {config.output}, overlays in {Path(config.output) / 'overlays'}")


if __name__ == "__main__":
    main()
