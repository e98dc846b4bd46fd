"""Names on a terminal: whatever they hold, it shows them and obeys nothing in them."""

import logging
import unicodedata
from typing import Any

OBEYED = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of pairs (undecodable file names), ends of lines
TURNED = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # after which text runs the other way


def printable(text: str) -> str:
    """The text with such characters spelt out (`\\x1b`): a name in a stranger's file could otherwise colour what stands
    on the screen, overwrite it, or set the window's title.
    """
    return "".join(
        ascii(letter)[1:-1] if unicodedata.category(letter) in OBEYED or letter in TURNED else letter for letter in text
    )


class Record(logging.LogRecord):
    """A log's line, of which the project's own hold names."""

    def __init__(self, name: str, *arguments: Any, **keywords: Any) -> None:
        super().__init__(name, *arguments, **keywords)
        if name.startswith("segmentation"):
            self.msg, self.args = printable(self.getMessage()), ()


def spell_out_in_logs() -> None:
    """From now on, in this process."""
    logging.setLogRecordFactory(Record)
