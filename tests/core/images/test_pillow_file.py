"""Opening with Pillow's plugin of one format only, and what the opened header is refused for."""

from __future__ import annotations

import io
import multiprocessing
import struct
import subprocess
import sys

import pytest
from picture_files import encode, random_rgb
from PIL import Image

from recog.core.errors import BadImage
from recog.core.images import pillow_file
from recog.core.images.image_file import ImageLimits
from recog.core.images.pillow_file import check_size, check_strict, check_tiles, open_with_pillow

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF")


def opened(data, kind):
    return open_with_pillow(kind, io.BytesIO(data), "it")


@pytest.mark.parametrize("kind", FORMATS)
def test_the_header_of_every_format(kind):
    image = opened(encode(Image.fromarray(random_rgb(20, 30)), kind), kind)
    assert (image.format, image.size) == (kind, (30, 20))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_of_another_format_is_not_tried_with_other_plugins(kind):
    other = encode(Image.fromarray(random_rgb(20, 30)), "PNG" if kind != "PNG" else "BMP")
    with pytest.raises(
        (BadImage, ValueError)
    ):  # ValueError: the AVIF decoder; decode makes a BadImage of any exception
        opened(other, kind)


def test_no_other_plugin_of_pillow_is_loaded():
    """In a process of its own: what can parse PostScript, PSD, FITS or ICO is not even imported."""
    program = """
import sys
from recog.core.images.decode import decode
from recog.core.errors import BadImage
for head in b"%!PS-Adobe-3.0 EPSF-3.0", b"%PDF-1.7", b"8BPS\\0\\1", b"SIMPLE  =", b"\\0\\0\\1\\0", b"II*\\0", b"\\xff\\xd8\\xff":
    try:
        decode(head + bytes(500))
    except BadImage:
        continue
    raise SystemExit(head)
print(*(name for name in sys.modules if name.startswith("PIL.") and name.endswith("Plugin")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    names = {name.removeprefix("PIL.").removesuffix("ImagePlugin") for name in done.stdout.split()}
    assert {"Jpeg", "Tiff"} <= names
    assert names <= {
        "Jpeg",
        "Png",
        "Gif",
        "Bmp",
        "Tiff",
        "WebP",
        "Ppm",
        "Avif",
        "Mpo",
    }  # Pillow's own few, and the asked


@pytest.mark.parametrize("kind", ["AVIF", "WEBP"])
def test_a_pillow_without_the_codec_says_so(kind, monkeypatch):
    data = encode(Image.fromarray(random_rgb()), kind)
    monkeypatch.setattr("PIL.features.check", lambda _: False)
    with pytest.raises(BadImage, match=f"{kind}, and this Pillow was built without it"):
        opened(data, kind)


def test_heic_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadImage, match=r"HEIC.*'recog\[heic\]'"):
        opened(b"", "HEIF")


def test_pillows_own_limit_is_named_where_it_is_lower_than_ours(monkeypatch):
    data = encode(Image.new("L", (100, 50)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # Pillow refuses twice as many
    with pytest.raises(BadImage, match=r"5,000 pixels.*MAX_IMAGE_PIXELS"):
        opened(data, "PNG")


@pytest.mark.parametrize(
    ("size", "fits"), [((100, 10), True), ((10, 100), True), ((101, 1), False), ((1, 101), False), ((100, 11), False)]
)
def test_size(size, fits):
    limits = ImageLimits(max_pixels=1000, max_side=100)
    if fits:
        check_size(size, "it", limits)
    else:
        with pytest.raises(BadImage, match=f"it is {size[0]} x {size[1]} pixels") as caught:
            check_size(size, "it", limits)
        setting = "limits.max_side=101" if 101 in size else "limits.max_pixels=1100"
        assert f"--set {setting}" in caught.value.remedy


@pytest.mark.parametrize(("side", "fits"), [(1448, True), (1449, False)])
def test_codecs_in_python_have_a_lower_limit(side, fits):
    """2**21 samples at 0.5 us: 1448 ** 2 is below, 1449 ** 2 above. A PGM with 4095 as its white is decoded in Python."""
    image = opened(b"P5\n%d %d\n4095\n" % (side, side), "PPM")
    if fits:
        check_tiles(image, "it")
    else:
        with pytest.raises(BadImage, match="many seconds"):
            check_tiles(image, "it")


@pytest.mark.parametrize(("num_strips", "whole"), [(1, False), (2, True)])
def test_strips_must_cover_the_image(num_strips, whole):
    """4 x 4 grey, two rows to a strip: two strips are needed."""
    entries = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [
        (273, 3, num_strips, 200 | 208 << 16),
        (277, 3, 1, 1),
        (278, 3, 1, 2),
        (279, 3, num_strips, 8 | 8 << 16),
    ]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    data = (b"II*\0" + struct.pack("<IH", 8, len(entries)) + table).ljust(200, b"\0") + bytes(range(16))
    image = opened(data, "TIFF")
    if whole:
        check_tiles(image, "it")
        assert list(image.tobytes()) == list(range(16))
    else:
        with pytest.raises(BadImage, match="a part of the image"):
            check_tiles(image, "it")


def test_pillows_switch_for_truncated_files(monkeypatch):
    for kind in FORMATS:
        check_strict(kind, "it")
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    for kind in ("GIF", "BMP", "TIFF", "PPM"):
        with pytest.raises(BadImage, match="LOAD_TRUNCATED_IMAGES"):
            check_strict(kind, "it")
    for kind in ("JPEG", "PNG", "WEBP", "AVIF"):  # whose ends are checked without Pillow, or whose codecs refuse
        check_strict(kind, "it")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_a_forked_process_does_not_wait_for_a_thread_that_it_lacks():
    def read():
        with pillow_file.quiet_pillow():
            pass

    child = multiprocessing.get_context("fork").Process(target=read)
    with pillow_file._quiet_lock:  # as another thread would hold it at that moment
        child.start()
    child.join(10)
    child.kill()
    assert child.exitcode == 0
