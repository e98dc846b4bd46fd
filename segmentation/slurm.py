"""Jobs that Slurm stops and starts again."""

import logging
import os
import subprocess
from pathlib import Path

from segmentation.whole import remove

log = logging.getLogger(__name__)
AGAIN = ("SIGUSR1", "SIGUSR2")  # its signals before the time is up: plain, and as submitit has it; Windows has neither
MARK = ".requeued"  # in a run's folder: its job is about to be started again


def requeued(folder: Path) -> bool:
    """Whether the run of this folder is that of a job started again, which then goes on without being told to."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0 or (folder / MARK).exists()


def mark(folder: Path) -> None:
    """Have the next start in this folder go on: submitit's own jobs are not told that they are not the first."""
    (folder / MARK).touch()


def unmark(folder: Path) -> None:
    remove(folder / MARK)


def requeue() -> None:
    """Ask Slurm to start this job again."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
        refused = done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""
    except OSError as error:
        refused = f"scontrol: {error.strerror}"
    if refused:
        log.error(f"Slurm does not start job {job} again: {' '.join(refused.split())[:200]}")
