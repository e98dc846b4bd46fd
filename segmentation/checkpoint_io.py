"""How checkpoints get to the disk."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from segmentation.whole import whole


class WholeCheckpoints(TorchCheckpointIO):
    """What Lightning writes checkpoints with: never torn, not even by a power cut.

    Its own goes by way of the folder for temporary files, from which it copies where that is another disk, and does not
    wait for the disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint to a local file."""
        with whole(Path(path)) as partial, partial.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch closes its archive on the way out, fails again, and says less
                raise refusal(error) or error from error

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a local file, and nothing else: Lightning's own takes whole folders, and addresses of other disks."""
        if Path(path).is_file():
            Path(path).unlink()


def refusal(error: BaseException) -> OSError | None:
    """The operating system's own error among those before an error."""
    before: BaseException | None = error
    while before is not None and not isinstance(before, OSError):
        before = before.__context__
    return before
