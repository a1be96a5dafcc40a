"""Sizes of AV1 frames: of files that libavif wrote, and of sequence headers written bit by bit."""

import struct

import pytest
from picture_files import encode
from PIL import Image

from recog.core.images.avif import frame_sizes


@pytest.mark.parametrize(("mode", "count"), [("RGB", 1), ("L", 1), ("RGBA", 2)])  # transparency is an item of its own
@pytest.mark.parametrize("size", [(1, 1), (37, 23), (640, 480)])
def test_files_of_libavif(mode, count, size):
    assert frame_sizes(encode(Image.new(mode, size), "AVIF")) == [size] * count


def test_a_sequence_is_measured_as_item_and_as_track():
    frames = [Image.new("RGB", (50, 40), colour) for colour in ("black", "red")]
    data = encode(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    assert set(frame_sizes(data)) == {(50, 40)}
    assert len(frame_sizes(data)) == 2


def box(kind, content):
    return struct.pack(">I4s", 8 + len(content), kind) + content


def bits(*fields):
    """(value, number of bits) each, as bytes."""
    text = "".join(f"{value:0{count}b}" for value, count in fields if count)
    return bytes(int(text[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(text), 8))


def file_of(header, *, has_size=True):
    """One item, whose data are a temporal delimiter and the sequence header."""
    obu = bytes([0x0A, len(header)]) + header if has_size else b"\x08" + header
    item = b"\x12\0" + obu
    # iloc version 0: 4-byte offsets and lengths, one item of one extent
    iloc = struct.pack(">IBBHHHHII", 0, 0x44, 0, 1, 1, 0, 1, 8 + 12 + 8 + 22, len(item))
    return box(b"meta", bytes(4) + box(b"iloc", iloc)) + box(b"mdat", item)


SIZE = ((10, 4), (9, 4), (999, 11), (499, 10))  # 11 and 10 bits for 1000 - 1 and 500 - 1
PLAIN = ((0, 3), (0, 1), (0, 1), (0, 1))  # profile, still picture, reduced header, timing information


@pytest.mark.parametrize(
    "header",
    [
        bits((0, 3), (1, 1), (1, 1), (4, 5), *SIZE),
        bits(*PLAIN, (0, 1), (0, 5), (0, 12), (4, 5), *SIZE),
        bits(*PLAIN, (0, 1), (1, 5), (0, 12), (9, 5), (1, 1), (0, 12), (4, 5), *SIZE),
        bits(*PLAIN, (1, 1), (0, 5), (0, 12), (4, 5), (1, 1), (7, 4), *SIZE),
        bits(*PLAIN[:3], (1, 1), (1, 32), (25, 32), (1, 1), (1, 3), (0, 2), (0, 1), (0, 1), (0, 5), (0, 12), (4, 5), *SIZE),
        bits(
            *PLAIN[:3], (1, 1), (1, 32), (25, 32), (0, 1), (1, 1), (9, 5), (1, 32), (9, 5), (9, 5),
            (0, 1), (0, 5), (0, 12), (4, 5), (1, 1), (3, 10), (3, 10), (0, 1), *SIZE,
        ),
    ],
    ids=["reduced", "plain", "two points, one with a tier", "display delay", "timing", "decoder model"],
)  # fmt: skip
@pytest.mark.parametrize("has_size", [True, False])
def test_each_form_of_the_header(header, has_size):
    assert frame_sizes(file_of(header, has_size=has_size)) == [(1000, 500)]


@pytest.mark.parametrize(
    "data",
    [
        box(b"meta", bytes(4) + box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, 9))),  # nine items that are not there
        struct.pack(">I4s", 4, b"meta"),
        box(b"free", b"") * 10_001,
        box(b"meta", bytes(4) + box(b"iloc", struct.pack(">IBBHHHH", 0, 0, 0, 1, 1, 0, 65_535))),
    ],
    ids=["cut off", "too short", "boxes", "extents of no bytes"],
)
def test_a_malformed_file_raises(data):
    with pytest.raises((ValueError, struct.error)):
        frame_sizes(data)


def test_a_file_without_frames_has_none():
    assert frame_sizes(box(b"ftyp", b"avif") + box(b"mdat", bytes(99))) == []
