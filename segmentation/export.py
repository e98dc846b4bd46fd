"""`python -m segmentation.export`: a trained network as one file for other programs, compared with the original."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from segmentation.cli import command
from segmentation.errors import UserError, nearest
from segmentation.models.export.formats import FORMATS, codec

if TYPE_CHECKING:
    from segmentation.models.export.compare import Difference


def export(
    model: str,
    output: Path,
    *,
    form: str = "onnx",
    size: list[int] | None = None,
    tolerance: float = 1e-3,
    trust: bool = False,
) -> tuple[list[int] | None, list["Difference"]]:
    """Write a network to `output`, once what is written gives the same logits.

    Args:
        model: as in `segmentation.models.files.load_network`.
        output: the file.
        form: a name in `FORMATS`.
        size: [height, width] it shall take; None: any, or the size it was trained at where it has a scan.
        tolerance: largest difference of a logit.
        trust: as in `load_network`.

    Returns:
        The size it takes, None for any, and the differences measured.
    """
    check_request(form, output, size)

    from segmentation.models.export.compare import compare, test_sizes
    from segmentation.models.export.tracing import choose_size, trace
    from segmentation.models.files import load_network

    writer = codec(form)
    network, meta = load_network(model, trust=trust)
    fixed = choose_size(network, size, meta["size"])
    program = trace(network, fixed)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_suffix(f".partial{output.suffix}")
    try:
        writer.write(program, partial, {**meta, "size": fixed or meta["size"], "fixed": fixed})
        written = writer.read(partial, trust=True)[0]  # our own file
        found = compare(network, written, test_sizes(fixed), network.channels)
        worst = max(difference.logits for difference in found)
        if not worst <= tolerance:
            raise UserError(
                f"output={output}: not written, for its logits differ by up to {worst:.2g}; "
                f"tolerance={tolerance:g} is the most allowed"
            )
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return fixed, found


def check_request(form: str, output: Path, size: list[int] | None) -> None:
    """Raise a UserError for what cannot be meant."""
    if form not in FORMATS:
        raise UserError(f"format={form}: no such format; {nearest(form, FORMATS)}")
    if output.suffix != FORMATS[form].suffix:
        raise UserError(f"output={output}: a file of format={form} must end in {FORMATS[form].suffix}")
    if output.is_dir():
        raise UserError(f"output={output}: is a folder; give a file")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"size={size}: give [height,width] in pixels, or null")


def show(found: list["Difference"]) -> None:
    """Print the differences as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("batch", "height", "width", "max |difference| of logits", "equal labels")
    for row in found:
        table.add_row(str(row.batch), str(row.height), str(row.width), f"{row.logits:.1e}", f"{row.labels:.4%}")
    Console().print(table)


@command("export")
def main(config: DictConfig) -> None:
    size: Any = None if config.size is None else OmegaConf.to_container(config.size)
    output = Path(config.output)
    fixed, found = export(
        config.model, output, form=config.format, size=size, tolerance=config.tolerance, trust=config.trust
    )
    show(found)
    taken = "of any size" if fixed is None else f"of {fixed[0]}x{fixed[1]} (height x width) only"
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB; takes any number of images {taken}")


if __name__ == "__main__":
    main()
