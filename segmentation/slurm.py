"""What Slurm tells a job about itself."""

import logging
import os
import subprocess

log = logging.getLogger(__name__)


def requeued() -> bool:
    """Whether this job was started before and stopped: then it goes on without being told to."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def requeue() -> None:
    """Ask Slurm to start this job again."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
        refused = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        refused = f"scontrol: {error.strerror}"
    if refused:
        log.error(f"Slurm does not start job {job} again: {' '.join(refused.split())[:200]}")
