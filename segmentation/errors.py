"""Mistakes of the user, told in one line: what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend. Commands print its message on one line, without a traceback."""


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint that ends an error line: the closest valid names, or all of them where none is close."""
    known = sorted(set(options))
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(option) for option in close)}?"
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"choose one of: {shown}" if known else "there is none to choose from"
