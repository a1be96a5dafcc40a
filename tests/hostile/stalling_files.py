"""More cases for bad_images: metadata that would stall Pillow, images stored in part, and JPEGs of rare kinds."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from image_bytes import encode, grey_rgb, noise, photo, pixels, png_chunk, reopened, tiff_file
from PIL import features

PNG_HEADER_END = 33  # magic, and IHDR with its length and checksum
FRACTION = b"\3\0\0\0\7\0\0\0"
GREY_10 = [(256, 3, 1, 10), (257, 3, 1, 10), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]


def further_cases() -> Iterator[dict[str, object]]:
    """Keyword arguments of bad_images.Case."""
    yield from _stalling_exif()
    yield from _stalling_tiffs()
    yield from _partial_tiffs()
    yield from _rare_jpegs()


def exif_of_fractions(tag: int, num_values: int) -> bytes:
    """A directory with one entry, whose values Pillow turns into objects at some 2 us apiece."""
    return b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", tag, 5, num_values, 26) + bytes(4) + FRACTION * num_values


def _stalling_exif() -> Iterator[dict[str, object]]:
    exif = exif_of_fractions(274, 2_000_000)  # 4 s, were the orientation looked up
    png = encode(photo(), "PNG")
    png = png[:PNG_HEADER_END] + png_chunk(b"eXIf", exif) + png[PNG_HEADER_END:]
    yield {"kind": 20, "name": "2,000,000 orientations in PNG", "source": png, "expected": pixels(photo())}
    webp = encode(photo(), "WEBP", lossless=True, exif=exif)
    yield {"kind": 20, "name": "2,000,000 orientations in WebP", "source": webp, "expected": pixels(photo())}
    if features.check("avif"):  # Pillow writes the fractions under another tag only, which is then changed
        avif = encode(photo(), "AVIF", exif=b"Exif\0\0" + exif_of_fractions(269, 2_000_000))
        avif = avif.replace(struct.pack("<HH", 269, 5), struct.pack("<HH", 274, 5))
        yield {"kind": 20, "name": "2,000,000 orientations in AVIF", "source": avif, "refused": "orientations"}
    plain, exif = encode(photo(), "JPEG"), exif_of_fractions(282, 900_000)  # looked up for the resolution
    segments = b"".join(_segment(0xE1, b"Exif\0\0" + exif[i : i + 65_000]) for i in range(0, len(exif), 65_000))
    jpeg = plain[:2] + segments + plain[2:]
    yield {"kind": 20, "name": "EXIF over 110 segments", "source": jpeg, "refused": "header"}


def _segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _stalling_tiffs() -> Iterator[dict[str, object]]:
    many = [(tag, 5, 190_000, FRACTION * 190_000) for tag in (282, 283, 296, 338, 339)]
    source = tiff_file([*GREY_10, *many], bytes(100))
    yield {"kind": 14, "name": "five times 190,000 fractions", "source": source, "refused": "950,000 fractions"}
    beside = tiff_file([*GREY_10, (34_665, 4, 1, 0)], bytes(100))
    directory = b"\1\0" + struct.pack("<HHII", 33_434, 5, 2_000_000, len(beside) + 18) + bytes(4)
    source = tiff_file([*GREY_10, (34_665, 4, 1, len(beside))], bytes(100)) + directory + FRACTION * 2_000_000
    yield {"kind": 14, "name": "EXIF directory of 2,000,000", "source": source, "refused": "2,000,000 fractions"}
    loop = tiff_file([*GREY_10, (34_665, 4, 1, 8), (34_853, 4, 1, 8), (40_965, 4, 1, 8)], bytes(range(100)))
    expected = grey_rgb(np.arange(100).reshape(10, 10))
    yield {"kind": 14, "name": "EXIF directory in itself", "source": loop, "expected": expected}


def _partial_tiffs() -> Iterator[dict[str, object]]:
    rows = [*GREY_10, (278, 3, 1, 1), (279, 4, 1, 10)]  # one row to a strip, and one strip
    yield {"kind": 14, "name": "one strip of ten", "source": tiff_file(rows, bytes(100)), "refused": "a part"}
    planes = [(tag, kind, n, value) for tag, kind, n, value in GREY_10 if tag not in (258, 262, 277)]
    planes += [(258, 3, 3, b"\x08\0\x08\0\x08\0"), (262, 3, 1, 2), (277, 3, 1, 3), (278, 3, 1, 10), (284, 3, 1, 2)]
    source = tiff_file(planes, bytes(300))
    yield {"kind": 14, "name": "one plane of three", "source": source, "refused": "a part"}


def _rare_jpegs() -> Iterator[dict[str, object]]:
    whole = encode(noise(120, 160), "JPEG", quality=90)
    source = whole[: len(whole) // 2] + bytes(100_000)  # so many that they would fill all rows with flat colour
    yield {"kind": 3, "name": "half, then zeros without end", "source": source, "refused": "truncated"}
    for kind, progressive in ((3, False), (4, True)):
        twice = encode(photo(), "JPEG", progressive=progressive)
        source = twice + twice[: len(twice) // 2]
        expected = reopened(twice)
        yield {"kind": kind, "name": "whole, then half of it again", "source": source, "expected": expected}
    values = np.random.default_rng(8).integers(0, 256, (6, 9))
    yield {"kind": 24, "name": "lossless, true", "source": lossless_jpeg(values), "expected": grey_rgb(values)}


def lossless_jpeg(values: np.ndarray) -> bytes:
    """[H, W] of 0..255 by ITU-T T.81, annex H: predictor 1, each difference as its length in 4 bits and so many bits."""
    height, width = values.shape
    bits = ""
    for y in range(height):
        for x in range(width):
            before = values[y, x - 1] if x else values[y - 1, x] if y else 128
            difference = int(values[y, x]) - int(before)
            length = abs(difference).bit_length()
            bits += f"{length:04b}"
            bits += f"{difference if difference > 0 else difference + (1 << length) - 1:0{length}b}" if length else ""
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    lengths = bytes([0, 0, 0, 10]) + bytes(12)  # ten codes of 4 bits, in order, for the lengths 0 to 9
    frame = _segment(0xC3, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    tables = _segment(0xC4, b"\0" + lengths + bytes(range(10)))
    return b"\xff\xd8" + frame + tables + _segment(0xDA, b"\1\1\0\1\0\0") + scan + b"\xff\xd9"
