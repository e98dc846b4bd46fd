"""Fetching data sets, from a server on loopback: resumed, checked, unpacked whole, kept inside their folder."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from segmentation.config import CONF
from segmentation.data.download import download
from segmentation.data.module import DataModule
from segmentation.errors import UserError
from tests.conftest import Compose
from tests.settings import plain


class Server(ThreadingHTTPServer):
    """Serves bytes by path; may end a connection early, once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.cut: int | None = None  # bytes after which the next answer ends
        self.ranges: list[str | None] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:  # http.server's own name
        content = self.server.content.get(self.path[1:])
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if content is None:
            self.send_error(404)
            return
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if begin and begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = len(content) if self.server.cut is None else begin + self.server.cut
        self.server.cut = None
        self.wfile.write(content[begin:end])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def tar(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def zipped(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def offer(server: Server, name: str, content: bytes, **more: Any) -> dict[str, Any]:
    server.content[name] = content
    return {"files": [{"url": server.url(name), "checksum": f"md5:{hashlib.md5(content).hexdigest()}", **more}]}


@pytest.mark.parametrize("pack", [tar, zipped])
def test_it_is_fetched_once_and_unpacked(pack: Any, server: Server, tmp_path: Path) -> None:
    source = offer(server, "pets.bin", pack(**{"top/images/a.jpg": b"a", "top/images/b.jpg": b"b"}), strip=1)
    for _ in range(2):
        download(source, str(tmp_path / "data"), "pets")
    assert (tmp_path / "data" / "images" / "b.jpg").read_bytes() == b"b"
    assert len(server.ranges) == 1
    assert not [path for path in (tmp_path / "data").iterdir() if "bin" in path.name and "done" not in path.name]


def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path) -> None:
    source = offer(server, "pets.tar.gz", tar(a=bytes(range(256)) * 400))
    server.cut = 100
    with pytest.raises(UserError, match="goes on where it stopped"):
        download(source, str(tmp_path), "pets")
    assert not (tmp_path / "a").exists()
    download(source, str(tmp_path), "pets")
    assert server.ranges == [None, "bytes=100-"]
    assert (tmp_path / "a").stat().st_size == 102400


def test_what_was_whole_but_not_renamed_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    source = offer(server, "a.zip", zipped(a=b"1"))
    (tmp_path / "a.zip.partial").write_bytes(server.content["a.zip"])
    download(source, str(tmp_path), "it")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_wrong_checksum_is_refused(server: Server, tmp_path: Path) -> None:
    source = offer(server, "a.zip", zipped(a=b"1"))
    source["files"][0]["checksum"] = "md5:" + "0" * 32
    with pytest.raises(UserError, match="its md5 is"):
        download(source, str(tmp_path), "it")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "a.zip").exists()


# Named, since an archive holds the time: processes that began in two seconds would not have the same tests.
BAD = {"tar": tar(**{"../evil": b"1"}), "zip": zipped(**{"../evil": b"1"}), "neither": b"no archive at all"}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_a_bad_archive_leaves_nothing(content: bytes, server: Server, tmp_path: Path) -> None:
    source = offer(server, "a.bin", content)
    with pytest.raises(UserError, match="cannot be unpacked"):
        download(source, str(tmp_path / "inner" / "data"), "it")
    assert not list(tmp_path.rglob("evil"))
    assert not list(tmp_path.rglob(".unpacking-*"))


def test_absolute_paths_begin_at_the_folder(server: Server, tmp_path: Path) -> None:
    download(offer(server, "a.tar", tar(**{"/top/a": b"1"})), str(tmp_path), "it")
    assert (tmp_path / "top" / "a").read_bytes() == b"1"


def test_what_is_not_there_is_said(server: Server, tmp_path: Path) -> None:
    source = {"files": [{"url": server.url("none.zip"), "checksum": "md5:0"}]}
    with pytest.raises(UserError, match=r"none\.zip: 404"):
        download(source, str(tmp_path), "it")


def test_where_to_register_is_said(compose: Compose, tmp_path: Path) -> None:
    settings = plain(compose("data=cityscapes", f"data.root={tmp_path}", "data.download=true"))
    with pytest.raises(UserError, match="cityscapes cannot be fetched by a program; register at https://"):
        DataModule(settings["data"], {}, 0)


@pytest.mark.parametrize("path", sorted((CONF / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_source_is_complete(path: Path) -> None:
    source = yaml.safe_load(path.read_text()).get("source", {})
    for file in source.get("files") or []:
        kind, _, digest = file["checksum"].partition(":")
        assert len(digest) == hashlib.new(kind).digest_size * 2
        assert file["url"].startswith("http")
    if path.stem != "synthetic":
        assert bool(source.get("files")) != bool(source.get("note"))


def test_archives_of_one_name_are_all_fetched(server: Server, tmp_path: Path) -> None:
    """As those servers have it whose addresses all end in /content."""
    both = [offer(server, f"{part}/content", zipped(**{part: b"1"}))["files"][0] for part in ("images", "masks")]
    with pytest.raises(UserError, match="two are called 'content'; give each a name"):
        download({"files": both}, str(tmp_path), "it")
    named = [file | {"name": f"{place}.zip"} for place, file in enumerate(both)]
    download({"files": named}, str(tmp_path), "it")
    assert (tmp_path / "images").exists()
    assert (tmp_path / "masks").exists()


def test_another_checksum_is_another_archive(server: Server, tmp_path: Path) -> None:
    for content in (b"1", b"2"):
        download(offer(server, "a.zip", zipped(a=content)), str(tmp_path), "it")
        assert (tmp_path / "a").read_bytes() == content


def test_what_the_user_fetched_is_used_and_stays_his(server: Server, tmp_path: Path) -> None:
    source = offer(server, "a.zip", zipped(a=b"1"))
    (tmp_path / "a.zip").write_bytes(b"half of it")
    with pytest.raises(UserError, match=r"a\.zip: its md5 is .* remove it, or fetch it again"):
        download(source, str(tmp_path), "it")
    assert (tmp_path / "a.zip").read_bytes() == b"half of it"
    (tmp_path / "a.zip").write_bytes(server.content["a.zip"])
    download(source, str(tmp_path), "it")
    assert (tmp_path / "a").read_bytes() == b"1"
    assert (tmp_path / "a.zip").exists()
    assert server.ranges == []


def test_a_file_does_not_take_the_place_of_a_folder(server: Server, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is a folder, where the archive has a file"):
        download(offer(server, "a.zip", zipped(images=b"1")), str(tmp_path), "it")
    assert (tmp_path / "images" / "mine.txt").exists()


def test_a_file_beside_the_folder_that_is_stripped_is_left_out(server: Server, tmp_path: Path) -> None:
    download(offer(server, "a.zip", zipped(**{"README": b"1", "top/a": b"2"}), strip=1), str(tmp_path), "it")
    assert (tmp_path / "a").read_bytes() == b"2"
    assert not (tmp_path / "README").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checksum": None}, "give its checksum, as sha256:"),
        ({"checksum": "crc:1"}, "give its checksum"),
        ({"url": "a.zip"}, "url=a.zip: give an address"),
    ],
)
def test_what_a_source_lacks_is_named(change: dict[str, Any], said: str, server: Server, tmp_path: Path) -> None:
    source = offer(server, "a.zip", zipped(a=b"1"))
    source["files"][0] |= change
    with pytest.raises(UserError, match=said):
        download(source, str(tmp_path), "it")
