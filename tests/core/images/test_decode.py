"""The one decoder: every source gives the same pixels, nothing is scaled unasked, limits hold, and Pillow is left as found."""

from __future__ import annotations

import io
import itertools
import struct
import sys
import types
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile
from small_pictures import encode, oriented, picture

from recog.core.errors import BadImage, ConfigError
from recog.core.images.decode import ImageLimits, decode, decode_image, probe, source_name

# ---- sources


def test_every_source_gives_the_same_pixels(tmp_path):
    data, expected = encode(picture()), picture()
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for source in (path, str(path), data, Image.open(path), Image.fromarray(expected), expected):
        got = decode(source)
        assert np.array_equal(got, expected)
        assert got.dtype == np.uint8
        assert got.flags.writeable
        assert not np.shares_memory(got, expected)
        assert np.array_equal(np.asarray(decode_image(source)), expected)


def test_arrays_of_every_shape():
    grey = picture()[..., 0]
    alpha = np.full_like(grey, 255)
    assert np.array_equal(decode(grey, channels=1), grey[..., None])
    assert np.array_equal(decode(grey[..., None], channels=1), grey[..., None])
    assert np.array_equal(decode(grey), np.repeat(grey[..., None], 3, axis=-1))
    assert np.array_equal(decode(np.dstack([picture(), alpha])), picture())
    assert np.array_equal(decode(picture()[::-2, ::3]), picture()[::-2, ::3])  # strided


@pytest.mark.parametrize(
    ("array", "words", "cure"),
    [
        (np.zeros((4, 4, 3)), "float64, not uint8", "astype"),
        (np.zeros((4, 4, 3), np.uint16), "uint16, not uint8", "astype"),
        (np.zeros((4, 4), bool), "bool, not uint8", "astype"),
        (np.full((4, 4), np.inf, np.float16), "infinite", "astype"),
        (np.zeros((4,), np.uint8), r"shape \(4,\)", "Expected"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"shape \(1, 4, 4, 3\)", "Expected"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)", "Expected"),
        (np.zeros((3, 9, 9), np.uint8), r"shape \(3, 9, 9\)", "transpose"),
        (np.zeros((4, 0), np.uint8), r"shape \(4, 0\)", "Expected"),
    ],
    ids=lambda value: f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else "",
)
def test_other_arrays_are_refused_with_the_cure(array, words, cure):
    with pytest.raises(BadImage, match=words) as caught:
        decode(array)
    assert cure in caught.value.remedy


@pytest.mark.parametrize("source", [None, 3, [1], bytearray(b"a"), object()], ids=lambda s: type(s).__name__)
def test_other_things_are_refused(source):
    with pytest.raises(BadImage, match="is not an image source"):
        decode(source)
    with pytest.raises(BadImage, match="is not an image source"):
        probe(source)


def test_open_files(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(picture()))
    for work in (decode, decode_image):
        with path.open("rb") as file:
            assert np.array_equal(np.asarray(work(file)), picture())
    with path.open("rb") as file:
        assert probe(file).width == 40
    assert np.array_equal(decode(io.BytesIO(path.read_bytes())), picture())


def test_the_text_of_an_open_file_is_not_taken_for_a_path(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(picture()))
    list_of_files = tmp_path / "list.txt"
    list_of_files.write_text(str(path))
    for work in (decode, probe):
        with list_of_files.open() as file, pytest.raises(BadImage, match="gives str, not bytes") as caught:
            work(file)
        assert caught.value.name == str(list_of_files)


def test_names_in_errors(tmp_path):
    path = tmp_path / "no.jpg"
    path.write_bytes(b"no")
    names = {path: str(path), str(path): str(path), b"no": "<bytes>"}
    for source, name in names.items():
        for work in (decode, probe):
            with pytest.raises(BadImage) as caught:
                work(source)
            assert caught.value.name == name == source_name(source)
            with pytest.raises(BadImage) as caught:
                work(source, name="other")
            assert caught.value.name == "other"
    assert source_name(np.zeros(1)) == "<array>"
    assert source_name(Image.new("L", (1, 1))) == "<image>"


def test_a_lent_image_is_not_changed():
    lent = Image.open(io.BytesIO(encode(picture(2000, 1500), "JPEG", exif=oriented(6))))
    before = lent.size, lent.mode, dict(lent.info)
    assert decode(lent, channels=1, min_side=10).shape == (1500, 2000, 1)  # turned, not reduced
    assert (lent.size, lent.mode, dict(lent.info)) == before
    assert lent.getpixel((0, 0)) is not None  # still open


def test_a_lent_image_that_cannot_be_loaded():
    data = encode(picture(200, 200), "JPEG")
    with pytest.raises(BadImage, match="truncated"):
        decode(Image.open(io.BytesIO(data[: len(data) // 2])))


# ---- settings


def test_one_channel_of_a_grey_file_is_the_file():
    grey = picture()[..., 1]
    assert np.array_equal(decode(encode(grey), channels=1), grey[..., None])


def test_grey16_max_of_a_file():
    """12 bits in a 16-bit file: 4095 is white, 2048 is 127.53 of 255, above is clipped."""
    data = encode(np.array([[0, 2048, 4095, 65_535]], dtype=np.uint16))
    assert decode(data, channels=1, grey16_max=4095)[0, :, 0].tolist() == [0, 128, 255, 255]
    assert decode(data, channels=1)[0, :, 0].tolist() == [0, 8, 16, 255]  # 7.97 and 15.93


def test_a_pgm_declares_its_own_white():
    """4095 in the header: 2048 is 127.53 of 255, whatever grey16_max says."""
    data = b"P5\n3 1\n4095\n" + struct.pack(">3H", 0, 2048, 4095)
    for grey16_max in (65_535, 1000):
        assert decode(data, channels=1, grey16_max=grey16_max)[0, :, 0].tolist() == [0, 128, 255]


def test_16_bit_grey_with_alpha_has_no_other_scale():
    """Pillow keeps the upper 8 bits of such files only, so that a smaller white cannot be honoured."""
    rows = zlib.compress(b"\0" + struct.pack(">4H", 40_000, 65_535, 4095, 65_535))
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 4, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    assert decode(data, channels=1)[0, :, 0].tolist() == [40_000 >> 8, 4095 >> 8]
    with pytest.raises(BadImage, match="4095"):
        decode(data, grey16_max=4095)


@pytest.mark.parametrize(
    "settings", [{"channels": 4}, {"min_side": 0}, {"grey16_max": 0}, {"grey16_max": 70_000}], ids=str
)
def test_impossible_settings(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        decode(picture(), **settings)


@pytest.mark.parametrize(
    ("size", "min_side", "expected"),
    [
        ((400, 600), None, (400, 600)),
        ((400, 600), 201, (400, 600)),  # half would be 200, below 2 x 201
        ((400, 600), 101, (400, 600)),
        ((400, 600), 100, (200, 300)),
        ((400, 600), 51, (200, 300)),
        ((400, 600), 50, (100, 150)),
        ((400, 600), 25, (50, 75)),
        ((400, 600), 1, (50, 75)),  # an eighth is the least that JPEG offers
        ((600, 401), 50, (150, 101)),  # 401 / 4 = 100.25, and libjpeg keeps the part of a pixel
    ],
)
def test_a_jpeg_is_reduced_never_below_twice_min_side(size, min_side, expected):
    data = encode(picture(*size), "JPEG", quality=95)
    got = decode(data, min_side=min_side)
    assert got.shape == (*expected, 3)
    assert expected == size or min(expected) >= 2 * min_side
    whole = np.asarray(Image.open(io.BytesIO(data)).resize(expected[::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(got - whole)[..., :2].mean() < 2  # the two smooth channels


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_other_formats_are_never_reduced(file_format):
    assert decode(encode(picture(400, 600), file_format), min_side=1).shape == (400, 600, 3)


def test_min_side_goes_with_orientation_and_mpo():
    data = encode(
        Image.fromarray(picture(400, 600)),
        "MPO",
        save_all=True,
        exif=oriented(6),
        append_images=[Image.new("RGB", (9, 9))],
    )
    assert probe(data).format == "MPO"
    assert decode(data, min_side=100).shape == (300, 200, 3)


# ---- limits


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((10, 100), True),
        ((10, 101), False),
        ((101, 10), False),
        ((1, 10_000), False),
        ((32, 31), True),
        ((32, 32), False),
    ],
)
def test_limits_at_above_and_far_above(size, fits):
    limits = ImageLimits(max_pixels=1000, max_side=100)
    sources = [picture(*size), encode(picture(*size)), encode(picture(*size), "JPEG"), Image.fromarray(picture(*size))]
    for source, work in itertools.product(sources, (decode, probe)):
        if fits:
            work(source, limits=limits)
        else:
            with pytest.raises(BadImage, match=rf"{size[1]} x {size[0]} pixels"):
                work(source, limits=limits)


def test_limits_are_checked_before_any_pixel(monkeypatch):
    data = encode(picture(200, 200))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("pixels were decoded"))
    with pytest.raises(BadImage):
        decode(data, limits=ImageLimits(max_side=100))
    assert probe(data).width == 200


def test_slow_codecs_have_a_lower_limit():
    """Pillow decodes a PGM with 4095 as its white in Python, at some 0.5 us a pixel."""
    data = b"P5\n3000 3000\n4095\n" + bytes(2 * 9_000_000)
    for work in (decode, probe):
        with pytest.raises(BadImage, match="many seconds"):
            work(data)


def test_progressive_scans_at_the_limit():
    scans = encode(picture(64, 64), "JPEG", progressive=True)
    last = scans[scans.rindex(b"\xff\xda") : -2]
    num_scans = scans.count(b"\xff\xda")
    for extra, fits in ((100 - num_scans, True), (101 - num_scans, False)):
        data = scans[:-2] + last * extra + b"\xff\xd9"
        if fits:
            assert decode(data).shape == (64, 64, 3)
        else:
            with pytest.raises(BadImage, match="more than 100 scans"):
                decode(data)


# ---- HEIC


def heic():
    return struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(40)


def test_heic_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadImage, match=r"HEIC.*pip install 'recog\[heic\]'"):
        decode(heic())


def test_heic_goes_through_its_package_where_it_is_installed(monkeypatch):
    def open_heif(file, name):
        assert file.read() == heic()
        return Image.fromarray(picture())

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(HeifImageFile=open_heif))
    assert np.array_equal(decode(heic()), picture())


# ---- Pillow is left as found


def test_no_global_of_pillow_and_no_warning_filter_is_changed():
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(Image.OPEN), list(warnings.filters)
    for source in (
        encode(picture()),
        encode(picture(), "TIFF"),
        encode(picture(), "WEBP"),
        b"no",
        encode(picture())[:-9],
    ):
        for work in (decode, probe):
            try:
                work(source)
            except BadImage:
                continue
    after = (
        Image.MAX_IMAGE_PIXELS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        list(Image.OPEN)[: len(before[2])],
        list(warnings.filters),
    )
    assert after == before


def test_warnings_stay_quiet_in_threads_and_the_filters_come_back():
    """Pillow warns of a tag with too many values: while other threads come and go, none of these may be heard."""
    entries = [(256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200)]
    entries += [(277, 3, 1, 1), (278, 3, 1, 4), (279, 4, 1, 16), (282, 5, 3, 150)]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    data = (b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)).ljust(150, b"\0") + b"\1\0\0\0" * 6
    data = data.ljust(200, b"\0") + bytes(range(16))
    with pytest.warns(UserWarning, match="too many entries"):
        Image.open(io.BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            images = list(pool.map(decode, [data] * 400))
        assert list(warnings.filters) == before
    assert all(image[..., 0].tolist() == np.arange(16).reshape(4, 4).tolist() for image in images)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_truncated_files_are_refused_even_where_pillow_was_told_to_fill_them_up(file_format, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encode(picture(100, 100), file_format)
    with pytest.raises(BadImage):
        decode(data[: len(data) * 3 // 4])


def test_a_kept_error_does_not_keep_the_file(tmp_path):
    """A scan keeps thousands of errors; through their tracebacks they must not hold the bytes of the files."""
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(picture(300, 300), "JPEG")[:-2])
    with pytest.raises(BadImage) as caught:
        decode(path)
    held, traceback = [], caught.value.__traceback__
    while traceback is not None:
        held += [value for value in traceback.tb_frame.f_locals.values() if isinstance(value, bytes | Image.Image)]
        traceback = traceback.tb_next
    assert held == []
    assert caught.value.__context__ is None


def test_running_out_of_memory_is_told_as_such(monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", full)
    with pytest.raises(BadImage, match="not enough memory"):
        decode(encode(picture()))


def test_a_file_at_its_end_is_not_called_empty():
    file = io.BytesIO(encode(picture(), "PNG"))
    num_bytes = file.seek(0, io.SEEK_END)
    with pytest.raises(BadImage, match=rf"the open file is at its end, byte {num_bytes:,}\. Call seek\(0\) first"):
        decode(file)
    file.seek(20)
    with pytest.raises(BadImage, match=r"read from byte 20 on, where it is not an image; .*\. Call seek\(0\) first"):
        decode(file)
    file.seek(0)
    assert np.array_equal(decode(file), picture())
    with pytest.raises(BadImage, match=r"it is empty \(0 bytes\)"):
        decode(io.BytesIO())


def closed_sources(path):
    """(name, source): everything that can be closed before it is read."""
    file = path.open("rb")
    file.close()
    below = io.BytesIO(path.read_bytes())
    lazy = Image.open(below)
    below.close()
    not_loaded, loaded, made = Image.open(path), Image.open(path), Image.new("RGB", (4, 4))
    loaded.load()
    for image in (not_loaded, loaded, made):
        image.close()
    with Image.open(path) as left:
        pass
    return {"file": file, "the file below": lazy, "lazy": not_loaded, "loaded": loaded, "made": made, "left": left}


@pytest.mark.parametrize("kind", ["file", "the file below", "lazy", "loaded", "made", "left"])
def test_what_was_closed_is_not_called_damaged(kind, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    with pytest.raises(BadImage, match="it was closed before it was read. Pass it while it is open"):
        decode(closed_sources(tmp_path / "a.png")[kind])
