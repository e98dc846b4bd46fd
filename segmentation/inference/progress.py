"""The progress bar of a prediction: images, and the pieces of one that is seen in many."""

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Pieces:
    """One bar for the images, and a second one while an image is seen in more than one piece.

    Args:
        images: how many there are; 0 where nobody knows.
    """

    def __init__(self, images: int) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self.progress = Progress(*columns)
        self.images = self.progress.add_task("predicting", total=images or None)
        self.pieces = self.progress.add_task("  windows", total=1, visible=False)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def begin(self, pieces: int) -> None:
        """An image of so many pieces comes next."""
        self.progress.reset(self.pieces, total=pieces, visible=pieces > 1)

    def seen(self, pieces: int) -> None:
        """So many pieces more of it are done."""
        self.progress.advance(self.pieces, pieces)

    def done(self) -> None:
        """An image is done."""
        self.progress.advance(self.images)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.progress.update(self.pieces, visible=False)
        self.progress.stop()
