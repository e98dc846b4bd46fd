"""What a sweep's folder knows of its jobs: which configuration runs where, and what has become of it.

The ledger, `ledger.jsonl`, only says which folder belongs to which configuration, and tells the story. Whether a job
has finished is read from the files that the job itself writes last, so that a sweep killed between a job's end and its
line here loses nothing and runs nothing twice.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segmentation.errors import UserError

LEDGER = "ledger.jsonl"
# Where a run's files and data lie, and how it is started, leave the job the same.
PLACES = ("output", "ckpt", "resume")
DATA_PLACES = ("root", "num_workers", "check", "cache", "cache_gib")


def identity(config: Mapping[str, Any]) -> str:
    """SHA-256 of a composed configuration, as plain unresolved containers, without what only says where and how."""
    kept = {key: value for key, value in config.items() if key not in PLACES and key != "hydra"}
    if isinstance(kept.get("data"), Mapping):
        kept["data"] = {key: value for key, value in kept["data"].items() if key not in DATA_PLACES}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def is_finished(job: Path, *, test: bool) -> bool:
    """Whether a job has written its last file."""
    return (job / ("metrics.json" if test else "model.json")).is_file()


class Ledger:
    """The lines of a sweep's `ledger.jsonl`.

    Args:
        sweep: the sweep's folder.
    """

    def __init__(self, sweep: Path) -> None:
        self.path = sweep / LEDGER

    def write(self, event: str, **facts: Any) -> None:
        """Add a line: one write, on disk before this returns, so that jobs side by side do not mix theirs."""
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, (json.dumps(line) + "\n").encode())
            os.fsync(file)
        finally:
            os.close(file)

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; one torn by a kill is left out."""
        if not self.path.is_file():
            return []
        lines = []
        for text in self.path.read_text().splitlines():
            try:
                lines.append(dict(json.loads(text)))
            except (ValueError, TypeError):
                continue
        return lines

    def folders(self) -> dict[str, str]:
        """Identity of each job that was ever planned -> its folder's name; runs without a line speak for themselves."""
        known = {line["identity"]: line["job"] for line in self.read() if line.get("event") == "planned"}
        for file in sorted(self.path.parent.glob("*/.hydra/config.yaml")):
            job = file.parent.parent.name
            if job not in known.values() and (config := configuration(file)) is not None:
                known.setdefault(identity(config), job)
        return known


def configuration(file: Path) -> Mapping[str, Any] | None:
    """What Hydra saved of a job; None where it was killed over it, so that nobody knows which job it was."""
    from segmentation.reading import read_yaml  # NumPy with it, which a misspelt word need not wait for

    try:
        found = read_yaml(file)
    except UserError:
        return None
    return found if isinstance(found, Mapping) else None
