"""No path in a file leads out of its folder: of archives, lists, annotations, images and links; and what is served."""

import contextlib
import io
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segmentation.analysis.runs import find_runs
from segmentation.data.download import check_source, unpack
from segmentation.data.images import read_image
from segmentation.data.patterns import Pattern
from segmentation.data.reader import FileReader
from segmentation.errors import UserError
from segmentation.hub import files_of
from segmentation.inference.sources import find_images
from segmentation.runfiles import TestFiles
from tests.made_up import make_run

OUTSIDE = ["../x", "a/../../x", "/x", "..", "a/..", "", "\0"]
PIXELS = np.zeros((4, 6), np.uint8)


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, to, 3 if kind == tarfile.REGTYPE else 0
    return found


def tar(path: Path, *members: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w") as archive:
        for one in members:
            archive.addfile(one, io.BytesIO(b"new"))


MEMBERS = {
    "..": [member("../outside")],
    "deep ..": [member("a/b/../../../outside")],
    "symbolic link out": [member("link", tarfile.SYMTYPE, ".."), member("link/outside")],
    "absolute link": [member("link", tarfile.SYMTYPE, "/"), member("link/outside")],
    # Inside as it is unpacked, outside once `strip` has taken two folders away.
    "link that strip moves": [member("a/b/link", tarfile.SYMTYPE, "../../c"), member("c/x")],
    "hard link out": [member("link", tarfile.LNKTYPE, "../outside")],
    "hard link inside": [member("x"), member("link", tarfile.LNKTYPE, "x")],
    "device": [member("zero", tarfile.CHRTYPE)],
    "block device": [member("disk", tarfile.BLKTYPE)],
    "pipe": [member("pipe", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_tar_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "root"
    outside.write_text("old")
    tar(tmp_path / "evil.tar", *MEMBERS[name])
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(tmp_path / "evil.tar", target, 2 if "strip" in name else 0)
    assert outside.read_text() == "old"
    assert not [path for path in target.rglob("*") if path.is_symlink() or not path.is_file()]


@pytest.mark.parametrize("name", ["/outside", "../outside", "a/../../outside"])
def test_a_zip_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(name, "new")
    with pytest.raises(UserError, match="leads out of the folder"):
        unpack(tmp_path / "evil.zip", tmp_path / "root", 0)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["evil.zip"]


def test_a_zips_links_become_files(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    unpack(tmp_path / "evil.zip", tmp_path / "root", 0)
    assert not (tmp_path / "root" / "link").is_symlink()


def test_an_absolute_member_lands_in_the_folder(tmp_path: Path) -> None:
    tar(tmp_path / "odd.tar", member(f"{tmp_path}/outside"))
    unpack(tmp_path / "odd.tar", tmp_path / "root", 0)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(("key", "path"), [("into", "../x"), ("into", "/x"), ("name", "../x"), ("name", "/x")])
def test_a_source_unpacks_below_its_root(key: str, path: str) -> None:
    with pytest.raises(UserError, match=r"leads out of data\.root"):
        check_source([{"url": "https://here/x.zip", "checksum": "md5:1", key: path}])


@pytest.mark.parametrize("name", OUTSIDE)
def test_predictions_stay_in_theirs(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leads out of"):
        TestFiles(tmp_path).prediction_path(f"{name}/x" if name in ("..", "", "a/..") else name)
    make_run(tmp_path / "run", "none", 0, 0.5)
    run = find_runs(tmp_path)[0][0]
    with pytest.raises(UserError, match="leads out of"):
        run.prediction(f"../{name}")


def dataset(root: Path) -> Path:
    """An image and its mask in a folder, and beside that folder what a list might want to reach."""
    for folder in (root / "images" / "here", root / "masks" / "here", root.parent / "secret"):
        folder.mkdir(parents=True)
        Image.fromarray(PIXELS).save(folder / "a.png")
    return root


@pytest.mark.parametrize("line", ["../../secret/a", "here/../../../secret/a", "../../secret/a.png ../../secret/a.png"])
@pytest.mark.parametrize("pattern", ["images/{name}.png", "images/*/{name}.png"])
def test_a_list_reaches_nothing_outside(line: str, pattern: str, tmp_path: Path) -> None:
    root = dataset(tmp_path / "data")
    (root / "list.txt").write_text(f"{line}\n")
    with pytest.raises(UserError) as caught:
        FileReader(
            root=str(root), split="train", listing="list.txt", image=pattern, mask=pattern.replace("images", "masks"),
            num_classes=2, ignore_index=255,
        )  # fmt: skip
    assert "leads out of" in str(caught.value)


@pytest.mark.parametrize("name", ["../secret/a.png", "/etc/passwd", "x/../../secret/a.png"])
def test_annotations_reach_nothing_outside(name: str, tmp_path: Path) -> None:
    root = dataset(tmp_path / "data")
    with pytest.raises(UserError, match="leads out of"):
        Pattern(root, "{name}", "train").fill(name)
    with contextlib.suppress(UserError):  # an absolute name behind a folder is one below it
        assert Pattern(root, "*/{name}", "train").fill(name).resolve().is_relative_to(root)


def test_a_wildcard_does_not_lead_masks_out_of_the_output(tmp_path: Path) -> None:
    dataset(tmp_path / "data")
    with pytest.raises(UserError, match=r"\.\. after a wildcard"):
        find_images(f"{tmp_path}/data/images/*/../../../secret/*.png", tmp_path / "out")


def test_a_link_out_of_a_run_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "run" / "plots").mkdir(parents=True)
    (tmp_path / "key").write_text("private")
    (tmp_path / "run" / "model.json").write_text("{}")
    assert len(files_of(tmp_path / "run")) == 1
    for link, to in (("plots/key.png", tmp_path / "key"), ("README.md", Path("..", "key"))):
        (tmp_path / "run" / link).symlink_to(to)
        with pytest.raises(UserError, match="a link that leads out of"):
            files_of(tmp_path / "run")
        (tmp_path / "run" / link).unlink()


def test_a_picture_starts_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/marker\n")  # what Pillow would draw an EPS with
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = tmp_path / "photo.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(UserError, match=r"photo\.png: cannot be read as an image"):
        read_image(path)
    assert not (tmp_path / "marker").exists()


def bomb(path: Path, width: int, height: int) -> None:
    """A PNG of a few bytes that says it has so many pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_a_picture_of_more_pixels_than_are_allowed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    for width, height in ((2**30, 2**30), (2**16, 2**16), (20_000, 20_000)):
        bomb(path, width, height)
        with pytest.raises(UserError, match=r"bomb\.png: (more pixels than are allowed|cannot be read)"):
            read_image(path)
    make_run(tmp_path / "run", "none", 0, 0.5)
    from segmentation.analysis.pictures import read_mask

    with pytest.raises(OSError, match="not a mask of labels"):
        read_mask(path)


SERVED: dict[str, Callable[[str], bool]] = {
    r"tensorboard +--logdir": lambda line: "--host 127.0.0.1" in line,
    r"HTTPServer\(|super\(\).__init__\(\(": lambda line: '"127.0.0.1"' in line or "class " in line or "import" in line,
    r"0\.0\.0\.0|--bind_all|host=\"\"": lambda line: False,
    r"include_dashboard": lambda line: "include_dashboard: false" in line,
}


@pytest.mark.parametrize("pattern", SERVED)
def test_whatever_is_served_binds_to_loopback(pattern: str) -> None:
    root = Path(__file__).parents[1]
    files = [root / "Makefile", root / "README.md", *root.glob("docs/**/*.md"), *root.glob("conf/**/*.yaml")]
    files += [*root.glob("segmentation/**/*.py"), *root.glob("tests/**/*.py"), *root.glob(".github/**/*.yaml")]
    for path in files:
        if path == Path(__file__):
            continue
        for line in path.read_text().splitlines():
            assert not re.search(pattern, line) or SERVED[pattern](line), f"{path.name}: {line.strip()}"
