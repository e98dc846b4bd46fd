"""Fetching a data set: resumable, checked, and unpacked so that a folder is there whole or not at all."""

import hashlib
import http.client
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from segmentation.errors import UserError
from segmentation.lock import turn

CHUNK = 2**20  # bytes
TIMEOUT = 60  # seconds without a byte
KINDS = ("sha256", "sha1", "md5")  # of checksums


def download(source: Mapping[str, Any], root: str | None, name: str) -> None:
    """Fetch a data set's archives into its folder, but for those that were unpacked there before.

    Args:
        source: `files`, each with a `url`, a `checksum` (`md5:...`, `sha1:...` or `sha256:...`) and optionally
            `into`, the folder below the root that the archive is unpacked to, and `strip`, leading folders of the
            archive to leave out; and `note`, said where there are no files: where to register, or what to fetch by
            hand.
        root: the data set's folder.
        name: the data set's.

    Raises:
        UserError: where this data set cannot be fetched, or the fetching fails; what has come so far is kept.
    """
    if not source.get("files"):
        raise UserError(f"data.download: {name} cannot be fetched by a program; {source.get('note', 'see its page')}")
    if root is None:
        raise UserError("data.root: not set; give the folder to download to, data.root=/path")
    check_source(source["files"])
    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    for file in source["files"]:
        name = archive_name(file)
        done = folder / f".{name}.{file['checksum'].rpartition(':')[2][:12]}.done"
        with turn(folder / "download"):
            if not done.exists():
                there = (folder / name).exists()  # fetched by hand: the user's own
                archive = fetch(file["url"], file["checksum"], folder / name)
                unpack(archive, folder / file.get("into", "."), file.get("strip", 0))
                done.touch()
                if not there:
                    archive.unlink()


def check_source(files: Sequence[Mapping[str, Any]]) -> None:
    """Raise a UserError for a description of archives that cannot be meant."""
    if not isinstance(files, list) or not all(isinstance(file, Mapping) for file in files):
        raise UserError("data.source.files: give a list of archives, each {url: https://..., checksum: sha256:...}")
    for file in files:
        if urlsplit(str(file.get("url"))).scheme not in ("http", "https"):
            raise UserError(f"data.source.files: url={file.get('url')}: give an address, https://...")
        kind, _, digest = str(file.get("checksum")).partition(":")
        if kind not in KINDS or not digest:
            raise UserError(
                f"data.source.files: {file['url']}: give its checksum, as {KINDS[0]}:... ({', '.join(KINDS)})"
            )
    names = [archive_name(file) for file in files]
    for path in (*names, *(str(file.get("into", ".")) for file in files)):
        if ".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute():
            raise UserError(f"data.source.files: {path}: leads out of data.root; give a path below it")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"data.source.files: two are called {name!r}; give each a name of its own (name: ...)")


def archive_name(file: Mapping[str, Any]) -> str:
    """What an archive is called here: its own `name`, or the last part of its address."""
    return str(file.get("name") or PurePosixPath(unquote(urlsplit(file["url"]).path)).name or "archive")


def fetch(url: str, checksum: str, target: Path) -> Path:
    """A file from the web; what an earlier try left of it is not fetched again."""
    there = target.exists()
    partial = target.with_name(f"{target.name}.partial")
    if not target.exists():
        try:
            receive(url, partial)
        except urllib.error.HTTPError as error:
            raise UserError(
                f"data.download: {url}: {error.code} {error.reason}; try again, or fetch it by hand"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise UserError(f"data.download: {url}: {reason}; the same command goes on where it stopped") from None
        partial.replace(target)
    kind, _, expected = checksum.partition(":")
    with target.open("rb") as content:
        found = hashlib.file_digest(content, kind).hexdigest()
    if found != expected:
        if there:
            raise UserError(f"{target}: its {kind} is {found}, not {expected}; remove it, or fetch it again")
        target.unlink()
        raise UserError(f"data.download: {url}: its {kind} is {found}, not {expected}; try again, or fetch it by hand")
    return target


def receive(url: str, partial: Path) -> None:
    """Append to a file what it lacks of an address's content, with a progress bar."""
    begun = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # there is nothing after what is here already
            raise
        return
    with answer, partial.open("ab" if answer.status == 206 else "wb") as output, progress() as bar:
        begun = begun if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = begun + int(length) if length else None
        task = bar.add_task(partial.stem, total=total, completed=begun)
        while chunk := answer.read(CHUNK):
            output.write(chunk)
            bar.advance(task, len(chunk))
    if total is not None and partial.stat().st_size < total:
        raise OSError("the connection ended early")


def progress() -> Progress:
    """A bar with bytes and their rate."""
    return Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())


def unpack(archive: Path, target: Path, strip: int) -> None:
    """The content of an archive below a folder; each of its top-level entries appears there whole.

    Args:
        archive: a .tar, .tar.gz, .zip or the like.
        target: the folder.
        strip: leading folders of the archive's paths to leave out.

    Raises:
        UserError: for what is no archive, or one whose paths lead out of the folder.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".unpacking-") as scratch:
        place = Path(scratch)
        try:
            if zipfile.is_zipfile(archive):
                extract_zip(archive, place)
            else:
                with tarfile.open(archive) as content:
                    content.extractall(place, filter=no_link)
        except (tarfile.TarError, zipfile.BadZipFile) as error:
            raise UserError(f"data.download: {archive}: cannot be unpacked: {error}") from None
        entries = list(place.iterdir())
        for _ in range(strip):
            entries = [inner for entry in entries if entry.is_dir() for inner in entry.iterdir()]
        for entry in entries:
            merge(entry, target / entry.name)


def no_link(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo:
    """What tarfile lets through as data, but for links, which lead elsewhere once they are moved to their place."""
    if member.issym() or member.islnk():
        raise tarfile.TarError(f"{member.name} is a link, and a data set holds files")
    return tarfile.data_filter(member, place)


def extract_zip(archive: Path, place: Path) -> None:
    """Unpack a zip; a path that leads out of the folder is the archive's fault."""
    with zipfile.ZipFile(archive) as content:
        for name in content.namelist():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise zipfile.BadZipFile(f"{name} leads out of the folder")
        content.extractall(place)


def merge(entry: Path, target: Path) -> None:
    """Move a file or a folder to its place; into a folder that is there already, each of its entries by itself."""
    if entry.is_dir() and target.is_dir():
        for inner in entry.iterdir():
            merge(inner, target / inner.name)
    elif target.is_dir():
        raise UserError(f"data.download: {target} is a folder, where the archive has a file; move it away")
    else:
        entry.replace(target)
