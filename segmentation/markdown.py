"""Text from anywhere in Markdown: what it says, and nothing else."""

import html
import re

from segmentation.printable import printable


def as_text(value: str) -> str:
    """A text on one line in which neither Markdown nor HTML means anything.

    Brackets stay as they are unless a link could begin with them: the labels of a study's cells are full of them.
    """
    text = html.escape(printable(" ".join(value.split())), quote=False)
    return re.sub(r"([\\`*|~#]|(?<![^\W_])_|_(?![^\W_])|!(?=\[)|\](?=[(\[:]))", r"\\\1", text)
