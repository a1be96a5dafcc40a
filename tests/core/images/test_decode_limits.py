"""How large an image may be, how far a JPEG may be reduced, and that many threads with noisy files disturb nothing."""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from picture_files import DISPLAY_P3, chunk, encode, exif_of, png, random_rgb, refusal, smooth
from PIL import Image, ImageFile

from recog.core.errors import BadImage
from recog.core.images.decode import DEFAULT_LIMITS, ImageLimits, decode, probe

# Reduction -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twelve_megapixels():
    return encode(Image.fromarray(smooth(3000, 4000)), "JPEG", quality=85)


@pytest.mark.parametrize(
    ("min_side", "size"),
    [
        (None, (3000, 4000)),
        (100, (375, 500)),  # 3000 / 8 = 375 >= 200
        (187, (375, 500)),  # 375 >= 374
        (188, (750, 1000)),  # 375 < 376, so a quarter
        (375, (750, 1000)),
        (376, (1500, 2000)),
        (750, (1500, 2000)),
        (751, (3000, 4000)),
        (10_000, (3000, 4000)),
    ],
)
def test_min_side_never_below_twice(twelve_megapixels, min_side, size):
    image = decode(twelve_megapixels, min_side=min_side)
    assert image.shape == (*size, 3)
    step = size[0] // 375
    assert np.abs(image[::step, ::step].astype(int) - smooth(*size)[::step, ::step]).max() <= 8  # the same picture


def test_min_side_of_odd_sizes_and_every_orientation():
    """1,001 / 4 = 250.25 is rounded up by libjpeg: 251 >= 250, but a quarter is taken only where 1,001 // 250 = 4."""
    for orientation in range(1, 9):
        data = encode(Image.fromarray(smooth(1001, 1203)), "JPEG", exif=exif_of(orientation))
        shape = (251, 301, 3) if orientation < 5 else (301, 251, 3)
        assert decode(data, min_side=125).shape == shape
        assert min(decode(data, min_side=126).shape[:2]) >= 252


def test_min_side_holds_for_mpo_and_grey_and_leaves_other_formats():
    image = Image.fromarray(smooth(800, 1000))
    assert decode(encode(image, "MPO"), min_side=100).shape == (200, 250, 3)
    assert decode(encode(image.convert("L"), "JPEG"), min_side=100, channels=1).shape == (200, 250, 1)
    for file_format in ("PNG", "WEBP", "TIFF"):
        assert decode(encode(image, file_format), min_side=100).shape == (800, 1000, 3)


def test_min_side_does_not_shrink_a_picture_that_the_caller_holds():
    lazy = Image.open(io.BytesIO(encode(Image.fromarray(smooth(800, 1000)), "JPEG")))
    assert decode(lazy, min_side=50).shape == (800, 1000, 3)
    assert lazy.size == (1000, 800)


# ImageLimits --------------------------------------------------------------------------------------------------------------


def sources_of(width, height):
    """The same size as file, path-less picture and array."""
    image = Image.new("L", (width, height))
    return encode(image, "PNG"), image, np.zeros((height, width), np.uint8)


@pytest.mark.parametrize("read", [decode, probe])
def test_pixels_at_the_limit_above_it_and_far_above_it(read):
    limits = ImageLimits(max_pixels=1000, max_side=1_000_000)
    for source in sources_of(40, 25):
        read(source, limits=limits)
    for width, height in ((1001, 1), (143, 7), (1000, 100)):
        for source in sources_of(width, height):
            with pytest.raises(BadImage, match=rf"{width} x {height}.*1,000"):
                read(source, limits=limits)


@pytest.mark.parametrize("read", [decode, probe])
def test_sides_at_the_limit_above_it_and_far_above_it(read):
    limits = ImageLimits(max_side=100)
    for size in ((100, 1), (1, 100), (100, 100)):
        for source in sources_of(*size):
            read(source, limits=limits)
    for size in ((101, 1), (1, 101), (10_000, 1), (1, 10_000)):
        for source in sources_of(*size):
            with pytest.raises(BadImage, match=r"100\b"):
                read(source, limits=limits)


@pytest.mark.parametrize("read", [decode, probe])
def test_bytes_at_the_limit_above_it_and_far_above_it(read, tmp_path):
    data = encode(Image.fromarray(random_rgb()), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for source in (data, path):
        read(source, limits=ImageLimits(max_bytes=len(data)))
        for max_bytes in (len(data) - 1, len(data) // 100):
            with pytest.raises(BadImage, match=rf"{len(data):,} bytes.*{max_bytes:,}"):
                read(source, limits=ImageLimits(max_bytes=max_bytes))


def test_the_defaults_are_the_plans():
    """reliability.md 3.1: 50 megapixels, 16,384 px a side."""
    assert (DEFAULT_LIMITS.max_pixels, DEFAULT_LIMITS.max_side) == (50_000_000, 16_384)


def test_nothing_is_decoded_above_the_limits(monkeypatch):
    big = encode(Image.new("RGB", (200, 200)), "PNG")
    lazy = Image.open(io.BytesIO(big))

    def forbidden(_):
        pytest.fail("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", forbidden)
    for source in (big, lazy):
        refusal(source, limits=ImageLimits(max_side=100))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF"])
def test_probe_decodes_no_pixel(file_format, monkeypatch):
    data = encode(Image.new("RGB", (20, 30)), file_format)

    def forbidden(_):
        pytest.fail("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", forbidden)
    info = probe(data)
    assert (info.width, info.height, info.format) == (20, 30, file_format)


# Manners -------------------------------------------------------------------------------------------------------------


def test_a_file_is_closed_after_use(tmp_path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("counts descriptors in Linux's /proc")
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    good.write_bytes(encode(Image.fromarray(random_rgb()), "PNG"))
    bad.write_bytes(good.read_bytes()[:100])
    before = len(list(descriptors.iterdir()))
    for _ in range(20):
        decode(good), probe(good), refusal(bad)
    assert len(list(descriptors.iterdir())) == before


def noisy_files():
    """Files of which Pillow itself warns: many pixels, broken EXIF, a palette with alpha, a malformed MPO, broken APNG."""
    image = Image.fromarray(random_rgb(40, 40))
    broken = b"Exif\0\0II*\0\x08\0\0\0\2\0\x0e\1\2\0\xff\0\0\0\x10\0\0\0\x12\1\3\0\1\0\0\0\1\0\0\0"
    yield encode(image, "JPEG", exif=broken)
    yield encode(image, "JPEG")[:-2] + b"\xff\xd9"
    alpha = bytes(range(0, 256, 16))
    palette = chunk(b"PLTE", bytes(48)) + chunk(b"tRNS", alpha)
    yield png((4, 1), 8, 3, [bytes(4)], before=palette)
    yield png((4, 1), 8, 0, [bytes(4)], before=chunk(b"acTL", bytes(8)))
    plain = encode(image, "JPEG")
    yield plain[:2] + b"\xff\xe2" + struct.pack(">H", 2 + 4 + 20) + b"MPF\0" + bytes(20) + plain[2:]


def test_no_warning_of_pillow_escapes(monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    warnings.simplefilter("error")
    for data in noisy_files():
        decode(data)
        probe(data)
        decode(Image.open(io.BytesIO(encode(Image.new("L", (9, 9)), "PNG"))))
    assert not recwarn.list


def test_no_global_of_pillow_is_changed():
    def state():
        settings = (
            Image.MAX_IMAGE_PIXELS,
            ImageFile.LOAD_TRUNCATED_IMAGES,
            ImageFile.MAXBLOCK,
            Image.WARN_POSSIBLE_FORMATS,
        )
        return settings, list(warnings.filters)

    decode(encode(Image.new("RGB", (9, 9)), "PNG"))
    before = state()
    for data in noisy_files():
        decode(data)
    refusal(b"no image")
    refusal(encode(Image.new("RGB", (99, 99)), "PNG"), limits=ImageLimits(max_pixels=10))
    assert state() == before


def mixed_sources():
    """200 files of every format and mode, some of them broken."""
    kinds = [
        ("JPEG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("GIF", "P"),
        ("WEBP", "RGB"),
        ("TIFF", "L"),
        ("AVIF", "RGB"),
    ]
    for i in range(200):
        file_format, mode = kinds[i % len(kinds)]
        image = Image.fromarray(random_rgb(30 + i % 17, 20 + i % 23, seed=i)).convert(mode)
        options = {"exif": exif_of(1 + i % 8)} if file_format in ("JPEG", "PNG", "WEBP", "TIFF") else {}
        if i % 5 == 0 and mode == "RGB":
            options["icc_profile"] = DISPLAY_P3
        data = encode(image, file_format, **options)
        yield data[: len(data) // 2] if i % 13 == 0 else data


def test_eight_threads_give_what_one_gives():
    sources = list(mixed_sources())
    rendezvous = threading.Barrier(8)

    def digest(data):
        try:
            return hashlib.sha256(decode(data).tobytes()).hexdigest()
        except BadImage as error:
            return str(error)

    def first_together(data):
        if not rendezvous.broken and rendezvous.n_waiting < 8:
            rendezvous.wait(timeout=10)
        return digest(data)

    filters = list(warnings.filters)
    one_by_one = [digest(data) for data in sources]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(first_together, sources)) == one_by_one
    assert list(warnings.filters) == filters
    assert sum(result.startswith("<bytes>") for result in one_by_one) == len(range(0, 200, 13))
