"""Kinds of images: what is done to the odd one, and what is expected. `predict` is asked about these as well."""

import io
import os
import zlib

import numpy as np
from PIL import Image

from tests.corpus.kinds import HEIGHT, WIDTH, Place, Reads, Refused, filtered, labels, picture, png, save

UNREADABLE = ("odd.png", "cannot be read as an image", "make it anew or leave it out")
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def truncated_png(place: Place) -> Refused:
    place.image.write_bytes(place.image.read_bytes()[:90])
    return Refused(UNREADABLE)


def truncated_jpeg(place: Place) -> Refused:
    save(place.image, picture().repeat(20, 0), format="JPEG")
    place.image.write_bytes(place.image.read_bytes()[:-200])
    return Refused(UNREADABLE)


def zero_bytes(place: Place) -> Refused:
    place.image.write_bytes(b"")
    return Refused(UNREADABLE)


def text(place: Place) -> Refused:
    place.image.write_text("<html>404 Not Found</html>")
    return Refused(UNREADABLE)


def flipped_byte(place: Place) -> Refused:
    content = bytearray(place.image.read_bytes())
    content[content.index(b"IDAT") + 30] ^= 0xFF
    place.image.write_bytes(content)
    return Refused(UNREADABLE)


def zero_size(place: Place) -> Refused:
    png(place.image, (0, HEIGHT, 8, 0, 0), filtered(np.zeros((HEIGHT, 0), np.uint8)))
    return Refused(UNREADABLE)


def decompression_bomb(place: Place) -> Refused:
    png(place.image, (60000, 60000, 8, 0, 0), b"\0" * 1000)
    return Refused(("odd.png", "more pixels than are allowed", "make it smaller", "max_pixels"))


def bomb_of_text(place: Place) -> Refused:
    rows = filtered(picture())
    png(place.image, (WIDTH, HEIGHT, 8, 2, 0), rows, b"zTXtnote\0\0" + zlib.compress(b" " * 2**27))
    return Refused(UNREADABLE)


def a_pipe(place: Place) -> Refused:
    place.image.unlink()
    os.mkfifo(place.image)
    return Refused(("odd.png", "not a file", "make it anew or leave it out"))


def link_to_itself(place: Place) -> Refused:
    place.image.unlink()
    place.image.symlink_to(place.image)
    return Refused(("odd.png", "a link to nothing"))


def link_to_nothing(place: Place) -> Refused:
    place.image.unlink()
    place.image.symlink_to(place.root / "gone.png")
    return Refused(("odd.png", "a link to nothing"))


def unreadable(place: Place) -> Refused:
    place.image.chmod(0)
    return Refused(("odd.png", "Permission denied"))


def floats(place: Place) -> Refused:
    save(place.image, picture()[..., 0].astype(np.float32) / 255, format="TIFF")
    return Refused(("odd.png", "floating-point", "convert it"))


def more_than_16_bits(place: Place) -> Refused:
    save(place.image, np.full((HEIGHT, WIDTH), 70000, np.int32), format="TIFF")
    return Refused(("odd.png", "more than 16 bits", "convert it"))


def negative(place: Place) -> Refused:
    save(place.image, np.full((HEIGHT, WIDTH), -3, np.int32), format="TIFF")
    return Refused(("odd.png", "convert it"))


def lab(place: Place) -> Reads:
    Image.fromarray(picture()).convert("LAB").save(place.image, format="TIFF")
    return Reads(within=14)


def animated(place: Place, form: str) -> Refused:
    frames = [Image.fromarray(picture(seed)) for seed in (0, 3)]
    frames[0].save(place.image, format=form, save_all=True, append_images=frames[1:])
    return Refused(("odd.png", "2 frames", "extract"))


def animated_gif(place: Place) -> Refused:
    return animated(place, "GIF")


def animated_png(place: Place) -> Refused:
    return animated(place, "PNG")


def animated_webp(place: Place) -> Refused:
    return animated(place, "WEBP")


def pages(place: Place) -> Reads:
    """The first: others are often thumbnails of it."""
    first, second = (Image.fromarray(picture(seed)) for seed in (1, 3))
    first.save(place.image, format="TIFF", save_all=True, append_images=[second])
    return Reads()


def wrong_extension(place: Place) -> Reads:
    save(place.image, picture(), format="JPEG", quality=98, subsampling=0)
    return Reads(within=6)


def progressive_jpeg(place: Place) -> Reads:
    save(place.image, picture(), format="JPEG", quality=98, subsampling=0, progressive=True)
    return Reads(within=6)


def cmyk(place: Place) -> Reads:
    Image.fromarray(picture()).convert("CMYK").save(place.image, format="JPEG", quality=98, subsampling=0)
    return Reads(within=8)


def grey(place: Place) -> Reads:
    save(place.image, picture()[..., 0])
    return Reads(picture()[..., :1].repeat(3, 2))


def one_bit(place: Place) -> Reads:
    save(place.image, picture()[..., 0] > 128)
    return Reads(np.where(picture()[..., :1].repeat(3, 2) > 128, 255, 0))


def sixteen_bits(place: Place) -> Reads:
    save(place.image, picture()[..., 0].astype(np.uint16) * 257)
    return Reads(picture()[..., :1].repeat(3, 2))


def sixteen_bits_of_colour(place: Place) -> Reads:
    png(place.image, (WIDTH, HEIGHT, 16, 2, 0), filtered(picture().astype(">u2") * 257))
    return Reads()


def grey_and_alpha(place: Place) -> Reads:
    save(place.image, np.stack([picture()[..., 0], labels()], 2))
    return Reads(picture()[..., :1].repeat(3, 2))


def alpha(place: Place) -> Reads:
    """The colours are those stored, also where they are transparent."""
    save(place.image, np.dstack([picture(), labels()]))
    return Reads()


def palette(place: Place) -> Reads:
    image = Image.fromarray(np.arange(140, dtype=np.uint8).reshape(HEIGHT, WIDTH))
    image.putpalette([part for index in range(140) for part in (index, 255 - index, 7)])
    image.save(place.image)
    index = np.arange(140, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    return Reads(np.stack([index, 255 - index, np.full_like(index, 7)], 2))


def interlaced(place: Place) -> Reads:
    passes = [picture()[top::down, left::across] for left, top, across, down in ADAM7]
    png(place.image, (WIDTH, HEIGHT, 8, 2, 1), b"".join(filtered(part) for part in passes if part.size))
    return Reads()


def trailing_garbage(place: Place) -> Reads:
    place.image.write_bytes(place.image.read_bytes() + b"\0garbage" * 50)
    return Reads()


def corrupt_profile(place: Place) -> Reads:
    save(place.image, picture(), icc_profile=b"no profile at all")
    return Reads()


def corrupt_exif(place: Place) -> Reads:
    save(place.image, picture(), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xffgarbage")
    return Reads()


def corrupt_exif_in_jpeg(place: Place) -> Reads:
    save(place.image, picture(), format="JPEG", quality=98, subsampling=0, exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")
    return Reads(within=6)


def turned(place: Place) -> Reads:
    """Upright as its EXIF says, and so is the mask that was drawn on it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = io.BytesIO()
    Image.fromarray(np.rot90(picture()).copy()).save(image, "PNG", exif=exif)
    place.image.write_bytes(image.getvalue())
    return Reads()


def one_pixel(place: Place) -> Reads:
    save(place.image, picture()[:1, :1])
    save(place.mask, np.array([[1]], np.uint8))
    return Reads(picture()[:1, :1], np.array([[1]]))


def upper_case_ending(place: Place) -> Reads:
    place.image.rename(place.image.with_suffix(".PNG"))
    place.image = place.image.with_suffix(".PNG")
    return Reads()


def not_ascii(place: Place) -> Reads:
    place.rename("straße 東京 🚲.png")
    return Reads(name="straße 東京 🚲")


def long_name(place: Place) -> Reads:
    """As long as a file system takes."""
    place.rename("n" * 251 + ".png")
    return Reads(name="n" * 251)


def not_unicode(place: Place) -> Refused:
    place.rename(os.fsdecode(b"odd\xff.png"))
    return Refused(("odd\\udcff.png", "not UTF-8", "rename"))
