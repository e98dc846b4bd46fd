"""What networks read from exported files share: they are called as `Network` is."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from segmentation.errors import UserError
from segmentation.models.described import check_meta

USUAL = {"channels": 3, "white": None, "shown": None}  # of models of an earlier release, whose meta does not say
META = "segmentation.json"  # under this name the files keep the meta


class Exported(nn.Module):
    """A network from a file. It computes on the CPU, whatever device its images are on.

    Args:
        fixed: [height, width] that alone it can take; None: any.
        where: the file, for errors.
    """

    def __init__(self, fixed: list[int] | None, where: Path) -> None:
        super().__init__()
        self.fixed, self.where = fixed, where

    def run(self, image: Tensor) -> Tensor:
        """Images [B, C, H, W] on the CPU to logits [B, classes, H, W]."""
        raise NotImplementedError

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Images [B, C, H, W] in 0...1 to float32 logits [B, classes, *size], by default theirs."""
        given = list(image.shape[-2:])
        if self.fixed is not None and given != self.fixed:
            raise UserError(
                f"{self.where}: takes images of {self.fixed} only, not {given}; export it with size={given}"
            )
        logits = self.run(image.detach().cpu().float()).to(image.device)
        if size is not None and list(size) != given:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return logits


def parse_meta(text: str | None, path: Path) -> dict[str, Any]:
    """The meta that a file keeps."""
    try:
        meta: dict[str, Any] = json.loads(text or "")
        meta["colours"], meta["size"]
        check_meta(meta, path)
        check_meta({**meta, "size": meta["fixed"]}, path)
        meta = USUAL | meta
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: holds no classes and colours; only what segmentation.export wrote is read") from error
    return meta
