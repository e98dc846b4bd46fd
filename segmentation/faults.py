"""What breaks around a program, told in one line with its cure: disks, memory, and processes that are killed.

Nothing heavy is imported: errors of torch are known by their names and words.
"""

import errno
import os
import re
import threading
from pathlib import Path

SEE = "see that its drive is there and mounted"
CURES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or have the quota raised",
    errno.EFBIG: "have the limit on the size of files raised (ulimit -f)",
    errno.EROFS: "mount it for writing, or choose another folder",
    errno.EACCES: "get the permission, or choose another folder",
    errno.EPERM: "get the permission, or choose another folder",
    errno.ENOTDIR: "a file stands where a folder should be; choose another folder",
    errno.EEXIST: "a file stands where a folder should be; choose another folder",
    errno.EISDIR: "a folder stands where a file should be; move it away, or choose another place",
    errno.ENAMETOOLONG: "rename it, or choose a shorter name",
    errno.ELOOP: "a link that leads to itself; mend it",
    errno.EMFILE: "have the limit on open files raised (ulimit -n)",
    errno.ENFILE: "have the limit on open files raised (ulimit -n)",
    **dict.fromkeys((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ENOTCONN), SEE),
}
LESS = "lower data.batch_size or data.size, or set trainer.accumulate_grad_batches=2 or backbone.checkpointing=true"
WORKER = re.compile(r"DataLoader worker \(pid.*?\) (?:is killed by signal: ([\w ]+)|exited unexpectedly)")


def spare_threads() -> None:
    """Have threads end without a traceback on a fault: whoever waits for what they write meets it as well."""

    def hook(raised: threading.ExceptHookArgs) -> None:
        if raised.exc_value is None or describe(raised.exc_value) is None:
            threading.__excepthook__(raised)

    threading.excepthook = hook


def describe(error: BaseException) -> str | None:
    """One line about a fault of the machine, or None for an error that is not one."""
    words = " ".join(str(error).split())
    killed = WORKER.search(words)
    match error:
        case FileNotFoundError(filename=str(name)) if not Path(name).absolute().parent.exists():
            return f"{name}: neither the file nor its folder is there; see the path, and that its drive is mounted"
        case OSError(errno=int(number)) if number in CURES:
            return f"{error.filename or 'writing'}: {os.strerror(number)}; {CURES[number]}"
        case _ if killed:
            signal = f" (signal {killed[1]})" if killed[1] else ""
            return (
                f"data.num_workers: a process that loads data was killed{signal}, as happens where memory or /dev/shm "
                "is full; set fewer of them, or data.num_workers=0"
            )
        case MemoryError():
            return f"memory: the machine has too little left{words and f' ({words[:120]})'}; {LESS}"
        case RuntimeError() if "DefaultCPUAllocator" in words:
            wanted = re.search(r"tried to allocate (\d+) bytes", words)
            size = f" for {int(wanted[1]) / 2**30:.1f} GiB more" if wanted else ""
            return f"memory: the machine has too little left{size}; {LESS}"
        case RuntimeError() if type(error).__name__ == "OutOfMemoryError" or "CUDA error: out of memory" in words:
            return f"memory: {words.partition('. GPU')[0][:160]}; {LESS}"
    return None
