"""JPEG 2000 and TGA: files of Pillow's own writer, and headers that ask decoders for too much."""

import struct
import time

import numpy as np
import pytest
from PIL import Image
from small_pictures import encode, picture

from recog.core.errors import BadImage
from recog.core.images.decode import decode, grey16_level, probe
from recog.core.images.jpeg2000 import check_jpeg2000

PICTURE = picture(300, 400)
FORMS = {
    "jp2": ("JPEG2000", {}),
    "codestream": ("JPEG2000", {"no_jp2": True}),
    "tiles": ("JPEG2000", {"tile_size": (128, 128)}),
    "precincts": ("JPEG2000", {"precinct_size": (64, 64), "codeblock_size": (16, 16)}),
    "tga": ("TGA", {}),
    "packed tga": ("TGA", {"rle": True}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_lossless_files_are_read_as_they_were_written(form, mode):
    file_format, options = FORMS[form]
    image = Image.fromarray(PICTURE).convert(mode)
    data = encode(image, file_format, **options)
    assert np.array_equal(decode(data), np.array(image.convert("RGB")))
    info = probe(data)
    assert (info.width, info.height, info.mode, info.format) == (400, 300, mode, file_format)


def test_16_bit_grey_has_the_scale_of_its_header():
    """OpenJPEG's values are scaled to 16 bits by Pillow, so that the highest level of the file's bits is white."""
    levels = PICTURE[:, :, 0].astype(np.uint16) * 257
    data = encode(Image.fromarray(levels), "JPEG2000")
    assert np.array_equal(decode(data, channels=1)[:, :, 0], PICTURE[:, :, 0])
    assert grey16_level(data) is None


def test_a_tga_with_a_palette_and_a_tga_from_below():
    image = Image.fromarray(PICTURE).quantize(32)
    assert np.array_equal(decode(encode(image, "TGA")), np.array(image.convert("RGB")))
    assert np.array_equal(decode(encode(Image.fromarray(PICTURE), "TGA", orientation=-1)), PICTURE)


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_cut_off_is_bad(form):
    file_format, options = FORMS[form]
    data = encode(Image.fromarray(PICTURE), file_format, **options)
    for part in (0.1, 0.5, 0.9):
        with pytest.raises(BadImage):
            decode(data[: int(len(data) * part)])


def codestream(**options):
    return encode(Image.fromarray(PICTURE), "JPEG2000", no_jp2=True, **options)


def with_bytes(data, marker, offset, replacement):
    """`data` with `replacement` at `offset` of the content of the first segment of `marker`."""
    at = data.index(struct.pack(">H", marker)) + 4 + offset
    return data[:at] + replacement + data[at + len(replacement) :]


PRECINCTS = codestream(precinct_size=(64, 64), codeblock_size=(16, 16))
HOSTILE = {  # ISO/IEC 15444-1, A.5.1 (SIZ) and A.6.1 (COD)
    "120,000 tiles": (with_bytes(codestream(), 0xFF51, 18, struct.pack(">2I", 1, 1)), "cut into 120,000 tiles"),
    "tiles of no width": (
        with_bytes(codestream(), 0xFF51, 18, struct.pack(">2I", 0, 300)),
        "header ends early|damaged",
    ),
    "precincts of a pixel": (with_bytes(PRECINCTS, 0xFF52, 10, bytes(6)), "precincts, a way to fill the memory"),
    "65,535 layers": (with_bytes(PRECINCTS, 0xFF52, 2, b"\xff\xff"), "packets, a way to stall decoders"),
    "code-blocks of 4 x 4": (with_bytes(PRECINCTS, 0xFF52, 6, b"\0\0"), "7,500 code-blocks"),
}


@pytest.mark.parametrize(("data", "says"), HOSTILE.values(), ids=HOSTILE)
def test_what_asks_for_too_much_is_refused_at_once(data, says):
    begun = time.perf_counter()
    with pytest.raises(BadImage, match=says):
        decode(data)
    assert time.perf_counter() - begun < 1


def test_another_size_in_the_codestream_than_in_the_box():
    """The size in the box ihdr is what limits are compared with; OpenJPEG allocates by the codestream."""
    data = encode(Image.fromarray(PICTURE), "JPEG2000")
    with pytest.raises(BadImage, match="declares 40 x 30 pixels, but its codestream has 400 x 300"):
        check_jpeg2000(data, (40, 30), "it")
    at = data.index(b"ihdr") + 4
    with pytest.raises(BadImage, match="declares 400 x 20 pixels, but its codestream has 400 x 300"):
        decode(data[:at] + struct.pack(">I", 20) + data[at + 4 :])


def test_changed_bytes_are_bad_images_or_images_of_the_stated_size():
    data = encode(Image.fromarray(PICTURE[:60, :80]), "JPEG2000", no_jp2=True)
    for at in range(2, 140):
        changed = data[:at] + b"\xff" + data[at + 1 :]
        try:
            image = decode(changed)
        except BadImage:
            continue
        info = probe(changed)
        assert image.shape == (info.height, info.width, 3)
