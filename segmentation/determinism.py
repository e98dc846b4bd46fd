"""`trainer.deterministic=true`: what has no deterministic form is named in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from segmentation.errors import UserError

SAID = re.compile(r"(\S+) does not have a deterministic implementation")  # torch's words, the operation first


@contextmanager
def naming_what_cannot_comply() -> Iterator[None]:
    """What torch raises for an operation that may give other results each time, as a UserError with its name."""
    try:
        yield
    except RuntimeError as error:
        found = SAID.search(str(error))
        if found is None:
            raise
        raise UserError(
            f"trainer.deterministic=true: {found[1]} has no deterministic form on this device; "
            "choose a part that does without it, another trainer.accelerator, or trainer.deterministic=false"
        ) from error
