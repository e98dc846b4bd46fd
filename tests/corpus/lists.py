"""Kinds of list files."""

import codecs

from tests.corpus.kinds import Place, Reads, Refused

PAIR = b"train/images/odd.png train/masks/odd.png\n"


def windows_line_ends(place: Place) -> Reads:
    return Reads(words=place.list(b"good\r\nodd\r\n"))


def byte_order_mark(place: Place) -> Reads:
    return Reads(words=place.list(codecs.BOM_UTF8 + b"odd\ngood\n"))


def byte_order_mark_before_a_comment(place: Place) -> Reads:
    return Reads(words=place.list(codecs.BOM_UTF8 + b"# names\nodd\n"))


def trailing_blanks(place: Place) -> Reads:
    return Reads(words=place.list(b"good  \n\n  odd\t \n \n"))


def no_last_line_end(place: Place) -> Reads:
    return Reads(words=place.list(b"good\nodd"))


def not_ascii_in_a_list(place: Place) -> Reads:
    place.rename("straße 東京.png")
    return Reads(name="straße 東京", words=place.list("straße 東京\n".encode()))


def utf_16(place: Place) -> Refused:
    return Refused(("train.txt", "not UTF-8", "save it as UTF-8"), place.list("good\nodd\n".encode("utf-16")))


def latin_1(place: Place) -> Refused:
    return Refused(("train.txt", "not UTF-8", "save it as UTF-8"), place.list("straße\n".encode("latin-1")))


def a_zero_byte(place: Place) -> Refused:
    return Refused(("train.txt, line 2", "odd", "control character"), place.list(b"good\nodd\0\n"))


def empty_list(place: Place) -> Refused:
    return Refused(("train.txt", "no sample of the split 'train'", "check"), place.list(b""))


def list_of_blanks(place: Place) -> Refused:
    return Refused(("train.txt", "no sample of the split 'train'", "check"), place.list(b" \n# nothing\n\n"))


def list_missing(place: Place) -> Refused:
    words = place.list(b"")
    (place.root / "train.txt").unlink()
    return Refused(("no split 'train'", "train.txt"), words)


def name_that_is_not_there(place: Place) -> Refused:
    return Refused(("images/nothing", "no such file"), place.list(b"good\nnothing\n"))


def name_too_long(place: Place) -> Refused:
    return Refused(("nnnn", "too long", "rename it"), place.list(b"n" * 400 + b"\n"))


def many_words(place: Place) -> Refused:
    return Refused(("train.txt, line 2", "neither a name nor"), place.list(b"good\none two three\n"))


def absolute_paths_of_elsewhere(place: Place) -> Reads:
    """As published lists have them: what of the path is there counts."""
    return Reads(words=place.list(b"/home/author/train/images/odd.png /home/author/train/masks/odd.png\n"))


def absolute_paths_that_lead_out(place: Place) -> Refused:
    return Refused(("train.txt", "/etc/passwd", "leads out of"), place.list(PAIR + b"/etc/passwd /etc/group\n"))


def paths_upwards(place: Place) -> Refused:
    line = b"../data/train/images/odd.png ../data/train/masks/odd.png\n"
    return Refused(("train.txt", "leads out of", "relative to data.root"), place.list(PAIR + line))


def name_upwards(place: Place) -> Refused:
    line = b"../../../data/train/images/odd\n"
    return Refused(
        ("train.txt", "../../../data/train/images/odd", "leads out of", "relative to data.root"), place.list(line)
    )


def the_same_name_twice(place: Place) -> Reads:
    """It is one sample: training and figures count it once."""
    return Reads(words=place.list(b"odd\ngood\nodd\n"))


def two_files_of_one_name(place: Place) -> Refused:
    line = b"val/images/odd.png val/masks/odd.png\n"
    for kind in ("images", "masks"):
        (place.root / f"val/{kind}/odd.png").write_bytes((place.root / f"train/{kind}/odd.png").read_bytes())
    return Refused(("both are called 'odd'", "unique"), place.list(PAIR + line))
