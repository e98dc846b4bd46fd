"""`python -m segmentation.predict`: class masks and overlays for images, or an overlay video."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from segmentation.cli import command
from segmentation.config import PredictConfig
from segmentation.errors import UserError
from segmentation.printable import printable

if TYPE_CHECKING:  # torch is imported once the configuration is known to be right
    from segmentation.data.images import Pixels, White

log = logging.getLogger(__name__)


def predict(
    model: str,
    source: str,
    output: str,
    accelerator: str = "auto",
    trust: bool = False,
    options: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Segment an image, a folder of them, those that fit a glob, or a video's frames.

    For each image a palette PNG of class indices in its own size goes to `output`, and the image with the classes'
    colours over it to `output/overlays`; with the options of that name, its class probabilities (float16 [C, H, W], as
    NumPy stores it) to `output/probabilities` and its normalised entropy to `output/uncertainty`. A video becomes a
    video of overlays in `output`.

    Args:
        model: a run's folder, or a file of a model.
        source: what to segment.
        output: the folder to write to.
        accelerator: `cpu` for no GPU.
        trust: let the model's files name parts that are not the project's own.
        options: further keys of `PredictConfig`, by default its defaults.

    Returns:
        The masks, or the video, written.
    """
    options = {**asdict(PredictConfig()), **(options or {})}
    if options["fps"] is not None and options["fps"] <= 0:
        raise UserError(f"fps={options['fps']}: give more than 0, or null")

    from segmentation.inference.sources import VIDEOS

    if Path(source).suffix.lower() in VIDEOS and Path(source).is_file():
        return [predict_video(model, Path(source), Path(output), accelerator, trust, options)]
    return predict_images(model, source, Path(output), accelerator, trust, options)


def predict_images(
    model: str, source: str, output: Path, accelerator: str, trust: bool, options: Mapping[str, Any]
) -> list[Path]:
    """As `predict`, for images; with `fps`, a video of the overlays as well."""
    from segmentation.inference.sources import find_images, name_outputs

    root, paths = find_images(source, output)
    targets = name_outputs(paths, root)
    for name in targets.values():
        if (output / name).resolve() in {path.resolve() for path in paths}:
            raise UserError(
                f"output={output}: the mask {name} would replace the image of that name; choose another folder"
            )

    from segmentation.analysis.pictures import overlay
    from segmentation.data.channels import check_white, visible
    from segmentation.data.images import allow_pixels
    from segmentation.inference.outputs import VideoFile
    from segmentation.inference.progress import Pieces
    from segmentation.inference.stream import Stream

    allow_pixels(options["max_pixels"])
    stream = Stream(model, accelerator=accelerator, trust=trust, options=options)
    colours, channels, shown = (stream.meta[key] for key in ("colours", "channels", "shown"))
    check_white("white", options["white"], channels)
    white = options["white"] or stream.meta["white"]
    written = []
    with ExitStack() as stack:
        video = stack.enter_context(VideoFile(output / "overlays.mp4", options["fps"])) if options["fps"] else None
        bar = stack.enter_context(Pieces(len(targets)))
        images = ((name, read_for(path, channels, white)) for path, name in targets.items())
        for name, image, maps in stream(images, output, bar.begin, bar.seen):
            picture = visible(image, shown)
            written.append(maps.write(output, name, picture, colours))
            if video:
                video.add(overlay(picture, maps.mask, colours))
            bar.done()
    return written


def read_for(path: Path, channels: int, white: "White") -> "Pixels":
    """As `read_image`, for a model that takes so many channels."""
    from segmentation.data.images import ChannelError, read_image

    try:
        return read_image(path, channels, white)
    except ChannelError as error:
        raise UserError(
            f"{path}: {error.found} channel{'s' * (error.found > 1)}, but the model takes {channels}; convert it, or "
            f"give a model that was trained with data.channels={error.found}"
        ) from None


def predict_video(
    model: str, source: Path, output: Path, accelerator: str, trust: bool, options: Mapping[str, Any]
) -> Path:
    """As `predict`, for a video."""
    for key in ("probabilities", "uncertainty"):
        if options[key]:
            raise UserError(f"{key}=true: not of a video; extract its frames and give their folder")
    target = output / f"{source.stem}.mp4"
    if target.resolve() == source.resolve():
        raise UserError(f"output={output}: the overlays would replace the video; choose another folder")

    from segmentation.analysis.pictures import overlay
    from segmentation.inference.outputs import VideoFile
    from segmentation.inference.progress import Pieces
    from segmentation.inference.sources import Video
    from segmentation.inference.stream import Stream

    frames = Video(source)
    stream = Stream(model, accelerator=accelerator, trust=trust, options=options)
    if stream.meta["channels"] != 3:
        channels = stream.meta["channels"]
        raise UserError(
            f"input={source}: a video has 3 channels, but the model takes {channels}; give images of {channels}, or a "
            "model that was trained with data.channels=3"
        )
    with VideoFile(target, options["fps"] or frames.fps) as video, Pieces(frames.count) as bar:
        images = ((Path(f"{place}.png"), frame) for place, frame in enumerate(frames))
        for _, image, maps in stream(images, output, bar.begin, bar.seen):
            video.add(overlay(image, maps.mask, stream.meta["colours"]))
            bar.done()
    if video.writer is None:
        raise UserError(f"input={source}: no frame in it could be decoded")
    if video.count < frames.count:
        log.warning(f"input={source}: {video.count} of its {frames.count} frames could be decoded")
    return target


@command("predict")
def main(config: DictConfig) -> None:
    options: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    written = predict(config.model, config.input, config.output, config.accelerator, config.trust, options)
    if written[0].suffix == ".mp4":
        print(f"overlays in {printable(str(written[0]))}")
    else:
        print(f"{len(written)} masks in {config.output}, overlays in {Path(config.output) / 'overlays'}")


if __name__ == "__main__":
    main()
