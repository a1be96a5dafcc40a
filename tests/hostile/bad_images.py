"""Generators for 26 kinds of hostile, damaged and unusual images, each with what must come of it. No binaries are kept."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, features

# What each kind is; the order and the numbers are those of the reliability plan.
KINDS = {
    1: "zero bytes",
    2: "one byte",
    3: "truncated JPEG",
    4: "truncated progressive JPEG",
    5: "truncated PNG",
    6: "PNG with a wrong checksum",
    7: "random bytes named .jpg",
    8: "HTML error page named .jpg",
    9: "PNG named .jpg",
    10: "SVG",
    11: "EPS, PDF, PSD, FITS named .png",
    12: "bomb: 1-bit PNG of 50,000 x 50,000",
    13: "bomb: compressed text and profiles in PNG",
    14: "TIFF with looping, missing or enormous directories",
    15: "GIF of 10,000 frames",
    16: "APNG and animated WebP",
    17: "CMYK and YCCK JPEG",
    18: "16-bit, 1-bit, palette, alpha and float modes",
    19: "EXIF orientation 1 to 8",
    20: "broken EXIF and colour profiles",
    21: "one pixel wide, high, or both; very long",
    22: "MPO, HEIC, AVIF",
    23: "trailing junk and polyglots",
    24: "arithmetic-coded, 12-bit and lossless JPEG",
    25: "JPEG with a thousand scans",
    26: "constant, NaN and infinite arrays",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """`source` must decode to `expected` uint8 [H, W, 3] within `tolerance`, or be refused for a reason that holds `refused`."""

    kind: int
    name: str
    source: bytes | np.ndarray
    expected: np.ndarray | None = None
    refused: str = ""
    tolerance: int = 0
    suffix: str = ".jpg"


def all_cases() -> list[Case]:
    return [case for build in _BUILDERS for case in build()]


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def photo(height: int = 48, width: int = 64) -> Image.Image:
    """Smooth colours with no symmetry, so that a turned, mirrored, cut or recoloured image cannot pass for it."""
    y, x = np.mgrid[0:height, 0:width]
    red, green, blue = 255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1), 40 + 3 * ((x + 2 * y) % 50)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


def reopened(data: bytes) -> np.ndarray:
    """What Pillow alone makes of an ordinary RGB or grey file: the reference where the codec itself is not the question."""
    return pixels(Image.open(io.BytesIO(data)))


def truncations(data: bytes, shares: tuple[float, ...] = (0.1, 0.5, 0.99)) -> Iterator[tuple[str, bytes]]:
    for share in shares:
        yield f"{share:.0%}", data[: int(len(data) * share)]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_file(width: int, height: int, bits: int, colour: int, rows: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG from raw rows (each led by its filter byte), with further chunks before and after the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    idat = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + before + idat + after + png_chunk(b"IEND", b"")


def tiff_file(entries: list[tuple[int, int, int, int | bytes]], pixel_bytes: bytes, next_offset: int = 0) -> bytes:
    """A little-endian TIFF with one directory at 8; `entries` are (tag, type, count, value or bytes); 273 is filled in."""
    entries = sorted([*entries, (273, 4, 1, 0)] if all(e[0] != 273 for e in entries) else entries)
    data_start = 8 + 2 + 12 * len(entries) + 4
    extra = b"".join(value for *_, value in entries if isinstance(value, bytes))
    table, offset = b"", data_start
    for tag, kind, count, value in entries:
        if isinstance(value, bytes):
            table += struct.pack("<HHII", tag, kind, count, offset)
            offset += len(value)
        else:
            position = data_start + len(extra) if tag == 273 and value == 0 else value
            table += struct.pack("<HHII", tag, kind, count, position)
    return (
        b"II*\0"
        + struct.pack("<IH", 8, len(entries))
        + table
        + struct.pack("<I", next_offset)
        + extra
        + pixel_bytes
    )


def grey_tiff(width: int, height: int, bits: int, pixel_bytes: bytes, **more: int) -> bytes:
    """Uncompressed, one strip. `more`: photometric (1: black is zero), sample_format (1: unsigned), next_offset."""
    entries: list[tuple[int, int, int, int | bytes]] = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, 1),
        (262, 3, 1, more.get("photometric", 1)),
        (277, 3, 1, 1),
        (278, 3, 1, height),
        (279, 4, 1, len(pixel_bytes)),
        (339, 3, 1, more.get("sample_format", 1)),
    ]
    return tiff_file(entries, pixel_bytes, more.get("next_offset", 0))


def over_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] and alpha [H, W] -> the colours on white, by exact integer division, halves upwards."""
    mixed = values.astype(np.int64) * alpha[..., None] + 255 * (255 - alpha[..., None].astype(np.int64))
    return ((2 * mixed + 255) // 510).astype(np.uint8)


def grey_rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=-1)


def _damaged_files() -> Iterator[Case]:
    yield Case(kind=1, name="empty", source=b"", refused="empty")
    for first in (b"\x00", b"\xff", b"\x89", b"G", b"P"):
        yield Case(kind=2, name=first.hex(), source=first, refused="not an image")
    for kind, progressive in ((3, False), (4, True)):
        whole = encode(noise(120, 160), "JPEG", quality=90, progressive=progressive)
        for name, part in truncations(whole):
            yield Case(kind=kind, name=name, source=part, refused="truncated")
        yield Case(kind=kind, name="zeros behind half", source=whole[: len(whole) // 2].ljust(len(whole), b"\0"), refused="truncated")
        yield Case(kind=kind, name="without its end marker", source=whole[:-2], refused="truncated")
    whole = encode(noise(60, 80), "PNG")
    for name, part in truncations(whole):
        yield Case(kind=5, name=name, source=part, refused="truncated", suffix=".png")
    yield Case(kind=5, name="last byte missing", source=whole[:-1], refused="truncated", suffix=".png")
    yield Case(kind=5, name="no end chunk", source=whole[:-12], refused="truncated", suffix=".png")


def _wrong_checksums() -> Iterator[Case]:
    palette = encode(photo().quantize(16), "PNG")
    for chunk, data in ((b"IDAT", encode(photo(), "PNG")), (b"IHDR", encode(photo(), "PNG")), (b"PLTE", palette)):
        start = data.index(chunk)
        end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
        checksum = bytes(byte ^ 0xFF for byte in data[end : end + 4])
        refused = "damaged" if chunk == b"IDAT" else "read"
        yield Case(
            kind=6, name=f"{chunk.decode()} checksum", source=data[:end] + checksum + data[end + 4 :], refused="damaged", suffix=".png"
        )
        del refused
    # Stored, not compressed: the flipped bit is a pixel, and only the checksums can tell.
    rows = b"".join(b"\0" + row.tobytes() for row in pixels(photo()))
    idat = png_chunk(b"IDAT", zlib.compress(rows, 0))
    flipped = bytearray(idat)
    flipped[len(idat) // 2] ^= 0x40
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0))
    yield Case(
        kind=6,
        name="one flipped pixel bit",
        source=b"\x89PNG\r\n\x1a\n" + header + bytes(flipped) + png_chunk(b"IEND", b""),
        refused="damaged",
        suffix=".png",
    )
