"""Image files as pixels: every mode against what its values mean, sizes against geometry, broken files by reason."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from refused import refused
from unisono.data import Drop
from unisono.errors import DataError
from unisono.media import read_rgba
from unisono_image.corpus.files import colour, fitted, read_image


def encoded(image: Pillow.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


KINDS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
_NOISE = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8))
WHOLE = {kind: encoded(_NOISE, kind) for kind in KINDS}


def constant(mode: str, value, size=(3, 2)) -> Pillow.Image:
    return Pillow.new(mode, size, value)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (constant("RGB", (10, 20, 30)), (10, 20, 30)),
        (constant("L", 77), (77, 77, 77)),
        (constant("1", 1), (255, 255, 255)),
        (constant("RGBA", (10, 20, 30, 255)), (10, 20, 30)),
        (constant("RGBA", (10, 20, 30, 0)), (200, 100, 0)),  # the background
        (constant("RGBA", (0, 0, 200, 51)), (160, 80, 40)),  # a fifth of it over four fifths of the background
        (constant("LA", (100, 0)), (200, 100, 0)),
        (Pillow.fromarray(np.full((2, 3), 0x8080, np.uint16)), (128, 128, 128)),  # scaled: clipping would give 255
        (Pillow.fromarray(np.full((2, 3), 200, np.uint16)), (1, 1, 1)),  # 200 of 65,535: clipping would give 200
    ],
    ids=["rgb", "grey", "two levels", "opaque", "clear", "a fifth", "clear grey", "16 bits", "16 bits, dark"],
)
def test_every_mode_is_read_for_what_it_means(image, expected):
    pixels = read_image(encoded(image), background=(200, 100, 0))
    assert pixels.shape == (3, 2, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.astype(int), np.array(expected)[:, None, None] * np.ones((3, 2, 3)), atol=1)


def test_sixteen_bits_are_rounded_to_the_nearest_of_eight():
    for wide, narrow in ((51528, 200), (51529, 201), (65535, 255), (128, 0)):  # 257 of them are one
        image = Pillow.fromarray(np.full((2, 3), wide, np.uint16))
        assert (read_image(encoded(image)) == narrow).all()


def test_a_palette_and_its_transparent_entry():
    image = Pillow.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    opaque = read_image(encoded(image))
    assert opaque[:, 0].T.tolist() == [[255, 0, 0], [0, 255, 0]]
    clear = read_image(encoded(image, transparency=1), background=(1, 2, 3))
    assert clear[:, 0].T.tolist() == [[255, 0, 0], [1, 2, 3]]


def test_a_transparent_colour_is_the_background():
    image = Pillow.new("RGB", (2, 1), (9, 9, 9))
    image.putpixel((0, 0), (50, 60, 70))
    pixels = read_image(encoded(image, transparency=(9, 9, 9)), background=(255, 0, 255))
    assert pixels[:, 0].T.tolist() == [[50, 60, 70], [255, 0, 255]]


def test_a_camera_turned_on_its_side():
    image = Pillow.new("RGB", (4, 2), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to show
    pixels = read_image(encoded(image, exif=exif))
    assert pixels.shape == (3, 4, 2)
    assert pixels[:, 0, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not an image", "unreadable"),
        (encoded(constant("RGB", (5, 5, 5), (64, 64)), "JPEG")[:400], "truncated"),
        (encoded(constant("RGB", (5, 5, 5), (64, 64)), "JPEG")[:600].ljust(5000, b"\0"), "truncated"),
        (encoded(constant("RGB", (5, 5, 5)), "GIF")[:12], "unreadable"),
        (encoded(constant("F", 0.5), "TIFF"), "unknown range"),
        (encoded(constant("I", 70000), "TIFF"), "unknown range"),
    ],
    ids=["empty", "no image", "truncated", "zeros for the rest", "header alone", "floats", "32 bits"],
)
def test_what_cannot_be_read_says_why(data, reason):
    with pytest.raises(Drop) as caught:
        read_image(data)
    assert caught.value.reason == reason
    assert "the image" in caught.value.detail and "BytesIO" not in caught.value.detail


def png_of(width, height, bits=8, colour=0, *chunks):
    """A PNG of zeros with any head, and chunks of one's own."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*c) for c in chunks)


def test_a_picture_of_more_pixels_than_memory_is_not_opened():
    for side in (20_000, 65_535, 2**31 - 1):
        with pytest.raises(Drop) as caught:
            read_image(png_of(side, side, 8, 0, (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")))
        assert caught.value.reason in ("too large", "unreadable")


def test_grey_of_16_bits_with_a_transparent_value():
    rows = b"\0" + struct.pack(">2H", 0x1234, 0x8080)
    data = png_of(2, 1, 16, 0, (b"tRNS", struct.pack(">H", 0x1234)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    assert read_image(data, background=(7, 8, 9))[:, 0].T.tolist() == [[7, 8, 9], [128, 128, 128]]


def test_printers_colours_and_moving_pictures():
    ink = encoded(constant("CMYK", (0, 255, 255, 0), (8, 8)), "JPEG", quality=95)
    assert np.abs(read_image(ink)[:, 4, 4].astype(int) - (255, 0, 0)).max() <= 6
    frames = [constant("RGB", (200, 0, 0)), constant("RGB", (0, 200, 0))]
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        moving = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert np.abs(read_image(moving)[:, 0, 0].astype(int) - (200, 0, 0)).max() <= 4, kind


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5])
def test_floating_point_is_refused_whatever_it_holds(value):
    picture = Pillow.fromarray(np.full((4, 4), value, np.float32))
    with pytest.raises(Drop, match="unknown range"):
        read_image(encoded(picture, "TIFF"))


def test_formats_that_other_programs_read_are_refused():
    with pytest.raises(Drop, match="unreadable"):
        read_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.floats(0.05, 1), kind=st.sampled_from(KINDS))
def test_a_damaged_file_is_read_or_dropped_and_raises_nothing_else(place, byte, cut, kind):
    data = bytearray(WHOLE[kind][: max(1, int(cut * len(WHOLE[kind])))])
    data[place % len(data)] = byte
    try:
        assert read_image(bytes(data)).dtype == np.uint8
    except Drop as drop:
        assert drop.reason in ("unreadable", "truncated", "too large", "unknown range")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder, "not a file"),
        (lambda folder: Path("/dev/zero"), "not a file"),
        (lambda folder: folder / ("x" * 300), "missing"),
        (lambda folder: folder / "a\0b.png", "unreadable"),
    ],
    ids=["folder", "device", "long name", "NUL"],
)
def test_only_regular_files_are_read(tmp_path, make, reason):
    with pytest.raises(Drop) as caught:
        read_image(make(tmp_path))
    assert caught.value.reason == reason


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(Drop, match="not a file"):
        read_image(tmp_path / "pipe.png")


def test_a_bomb_is_not_opened(monkeypatch):
    monkeypatch.setattr("unisono.media.pictures.MAX_PIXELS", 100)
    with pytest.raises(Drop, match="too large: the image has 11 × 10 pixels"):
        read_image(encoded(constant("L", 0, (11, 10))))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(Drop, match=r"missing: .*gone\.png"):
        read_image(tmp_path / "gone.png")


def test_fits_keep_what_they_say():
    wide = np.zeros((3, 8, 16), np.uint8)
    wide[0, :, :4], wide[1, :, 4:12], wide[2, :, 12:] = 255, 255, 255  # red, green in the middle, blue
    cropped = fitted(wide, 8, "crop")
    assert (cropped == wide[:, :, 4:12]).all()
    padded = fitted(wide, 8, "pad", (7, 8, 9))
    assert (padded[:, :2] == np.array([7, 8, 9])[:, None, None]).all()
    assert (padded[:, 6:] == np.array([7, 8, 9])[:, None, None]).all()
    assert padded[0, 3, 0] == padded[1, 3, 4] == padded[2, 3, 7] == 255
    stretched = fitted(wide, 8, "stretch")
    assert stretched[0, 0, 0] == stretched[1, 7, 4] == stretched[2, 0, 7] == 255
    assert fitted(wide[:, :, :8], 8, "exact") is not None
    with pytest.raises(Drop, match="other size: 16 × 8 pixels, not 8 × 8"):
        fitted(wide, 8, "exact")
    for fit in ("crop", "pad", "stretch", "exact"):
        with pytest.raises(Drop, match="too small: 1 × 1 pixels"):
            fitted(np.zeros((3, 1, 1), np.uint8), 8, fit)


def test_a_smaller_picture_has_the_mean_of_a_larger_one():
    """Without antialiasing the stripes would come out as one of their two colours."""
    stripes = np.zeros((3, 32, 32), np.uint8)
    stripes[:, :, ::2] = 200
    np.testing.assert_allclose(fitted(stripes, 8)[:, 2:-2, 2:-2], 100, atol=3)


def test_colours_by_name():
    assert colour("white") == (255, 255, 255)
    assert colour("#102030") == (16, 32, 48)
    with refused(DataError, "value", "data.pictures.background", value="wihte"):
        colour("wihte")


def test_opacity_is_read_beside_colours():
    """Of palettes, of 16 bits with a clear level, and of what has none; laid on white it is what read_image gives."""
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (5, 7, 4), dtype=np.uint8)
    assert (read_rgba(encoded(Pillow.fromarray(colours))) == colours.transpose(2, 0, 1)).all()
    assert (read_rgba(encoded(Pillow.fromarray(colours[..., :3])))[3] == 255).all()
    wide = Pillow.fromarray(np.array([[0, 257, 514]], np.uint16))
    assert read_rgba(encoded(wide, transparency=257))[3].tolist() == [[255, 0, 255]]
    read = read_rgba(encoded(Pillow.fromarray(colours))).astype(float)
    laid = read[:3] * read[3] / 255 + 255 - read[3]
    assert np.abs(read_image(encoded(Pillow.fromarray(colours))) - laid).max() <= 1
    with pytest.raises(Drop, match="floating-point"):
        read_rgba(encoded(Pillow.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))
