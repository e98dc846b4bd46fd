"""Decoded samples in one file, mapped into memory: read once, then shared by the workers and by every later run.

Decoding a PNG takes several times as long as augmenting it, and a study decodes the same files in every epoch of every
run. A cache is as good as the files' names, sizes and times of change: where one differs, another cache is made.
"""

import contextlib
import errno
import hashlib
import itertools
import json
import logging
import os
import shutil
import socket
import time
import zlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from segmentation.data.cached import COUNT, INDEX, CachedReader
from segmentation.data.samples import Reader, Sample, count_labels
from segmentation.lock import turn
from segmentation.whole import sync

log = logging.getLogger(__name__)
FORMAT = 5  # of the files; another makes old ones unknown
AT_ONCE = 64  # samples decoded before they are written: what threads may run ahead of the disk
SAMPLES, PARTIAL = ".samples", ".partial"
ABANDONED = 24 * 3600  # seconds since a file that is being written was last written to


class Store(NamedTuple):
    """Where caches are kept, and how much room they may take together."""

    folder: Path
    limit: int  # bytes


def find_store(cache: str, gib: float) -> Store | None:
    """The store of `data.cache` and `data.cache_gib`: `auto` is the user's cache folder, `off` is none."""
    if cache == "off":
        return None
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segmentation"
    return Store(home if cache == "auto" else Path(cache).expanduser(), int(min(gib, 2**20) * 2**30))


def cached(reader: Reader, store: Store, what: str, *, keep: Collection[Reader] = ()) -> Reader:
    """The reader with its samples from a cache, made now unless it is there; the reader itself where none can be made.

    Args:
        reader: of one split.
        store: where caches are kept.
        what: the progress bar says that this is being read.
        keep: whose caches must not make room for this one.

    Raises:
        UserError: for the first sample that cannot be used.
    """
    if isinstance(reader, CachedReader):
        return reader
    # A reader from elsewhere may have none; one that inherits it may depend on what its parent's does not know.
    fingerprint = type(reader).__dict__.get("fingerprint", lambda reader: None)(reader)
    if fingerprint is None:
        return reader
    kind = f"{type(reader).__module__}.{type(reader).__qualname__}"
    file = store.folder / (hashlib.sha256(f"{FORMAT} {kind} {fingerprint}".encode()).hexdigest()[:32] + SAMPLES)
    try:
        if not is_whole(file, len(reader)):
            store.folder.mkdir(parents=True, exist_ok=True)
            with turn(file):
                if not is_whole(file, len(reader)):
                    first = reader[0]  # all are taken to be as large
                    needed = len(reader) * (first.image.size + first.mask.size)
                    with turn(store.folder / "room"):  # others count and remove files as well
                        if not make_room(store, needed, {one.file for one in keep if isinstance(one, CachedReader)}):
                            return reader
                    write(reader, file, what, store.limit)
        with contextlib.suppress(PermissionError):  # a cache that others own can be read
            os.utime(file)  # the one left alone for longest goes first
        return CachedReader(reader, file)
    except OSError as error:
        log.warning(f"data.cache: {store.folder}: {error.strerror or error}; going on without, which is slower")
        return reader


def is_whole(file: Path, number: int) -> bool:
    """Whether a cache is there with so many samples, as they were written: its index is written last, and has the check
    sum of all of them, since a disk that lost power may keep a file's length and not its content.
    """
    try:
        index = json.loads(file.with_suffix(INDEX).read_text())
        channels, sizes, seen = index["channels"], index["sizes"], index["seen"]
        whole_numbers = all(type(one) is int for one in (channels, *seen, *itertools.chain.from_iterable(sizes)))
        samples = (channels + 1) * sum(height * width for height, width in sizes)
        counts = COUNT.itemsize * number * len(seen)
        fits = whole_numbers and len(sizes) == len(index["peaks"]) == number and set(seen) <= set(range(256))
        return bool(fits and file.stat().st_size == samples + counts and check_sum(file) == index["check_sum"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_sum(file: Path) -> int:
    """CRC-32 of a file's content, which is then in memory for those who read it next."""
    found = 0
    with file.open("rb") as content:
        while block := content.read(1 << 24):
            found = zlib.crc32(block, found)
    return found


def make_room(store: Store, needed: int, keep: Collection[Path]) -> bool:
    """Remove the caches left alone for longest, but for those to keep, until there is room for another; whether there
    is then.
    """
    growing = 0
    for partial, (written, size) in sizes(store.folder, PARTIAL).items():
        growing += size
        if time.time() - written > ABANDONED:  # whoever wrote it was killed
            partial.unlink(missing_ok=True)
    everything = sizes(store.folder, SAMPLES)
    total = growing + sum(size for _, size in everything.values())
    kept = sorted((file for file in everything if file not in keep), key=lambda file: everything[file][0])
    if needed + total - sum(everything[file][1] for file in kept) > store.limit:
        log.info(
            f"data.cache: {needed / 2**30:.1f} GiB of decoded images are more than data.cache_gib leaves; not kept"
        )
        return False
    while kept and total + needed > store.limit:
        oldest = kept.pop(0)
        total -= everything[oldest][1]
        oldest.with_suffix(INDEX).unlink(missing_ok=True)
        oldest.unlink(missing_ok=True)  # whoever reads it at the moment keeps it until he closes it
    if shutil.disk_usage(store.folder).free < 2 * needed:
        log.info(f"data.cache: {store.folder} has too little room for {needed / 2**30:.1f} GiB; not kept")
        return False
    return True


def sizes(folder: Path, ending: str) -> dict[Path, tuple[float, int]]:
    """Time of change and size of the files that end so, but for those that others remove meanwhile."""
    found = {}
    for file in folder.glob(f"*{ending}"):
        with contextlib.suppress(FileNotFoundError):
            status = file.stat()
            found[file] = (status.st_mtime, status.st_size)
    return found


def write(reader: Reader, file: Path, what: str, limit: float) -> None:
    """Decode all samples, in threads, into a file that appears once it is whole: each one's image and mask, and after
    the last one how many pixels of each label that occurs each of them has.

    Raises:
        OSError: if it becomes larger than `limit` bytes.
    """
    # Of its own name: where locks are without effect (some network drives), two may write at once.
    partial = file.with_suffix(f".{socket.gethostname()}-{os.getpid()}{PARTIAL}")
    shapes, counts, peaks, channels = [], [], [], 0
    try:
        with partial.open("wb") as output:
            for sample in track(read_all(reader), what, len(reader), transient=True):
                output.write(sample.image.tobytes() + sample.mask.tobytes())
                if output.tell() > limit:
                    raise OSError(errno.EFBIG, "decoded images are more than data.cache_gib allows")
                shapes.append(sample.mask.shape)
                channels = sample.image.shape[2]
                counts.append(count_labels(sample.mask))
                peaks.append(sample.peak)
            pixels = np.stack(counts)
            seen = np.flatnonzero(pixels.any(0)).tolist()
            output.write(pixels[:, seen].astype(COUNT).tobytes())
        sync(partial)  # before its index says that it is whole: a power cut could keep that and not this
        partial.replace(file)
        index = {"channels": channels, "sizes": shapes, "seen": seen, "peaks": peaks, "check_sum": check_sum(file)}
        partial.write_text(json.dumps(index))
        sync(partial)
        partial.replace(file.with_suffix(INDEX))
    finally:
        partial.unlink(missing_ok=True)


def read_all(reader: Reader) -> Iterator[Sample]:
    """Every sample in order, some of them decoded ahead by threads."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(reader), AT_ONCE):
            yield from pool.map(reader.__getitem__, range(start, min(start + AT_ONCE, len(reader))))
