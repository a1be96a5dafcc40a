"""Image files made byte by byte, and reference pixels computed without the decoder under test."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def photo(height: int = 48, width: int = 64) -> Image.Image:
    """Colours without any symmetry, so that a turned, mirrored, cut or recoloured image cannot pass for it."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1), 40 + 3 * ((x + 2 * y) % 50)]
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.array(image.convert("RGB"))


def reopened(data: bytes) -> np.ndarray:
    """What Pillow alone makes of a plain grey or RGB file: the reference where the codec is not the question."""
    return pixels(Image.open(io.BytesIO(data)))


def truncations(data: bytes, shares: tuple[float, ...] = (0.1, 0.5, 0.99)) -> Iterator[tuple[str, bytes]]:
    for share in shares:
        yield f"at {share:.0%}", data[: int(len(data) * share)]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_file(
    size: tuple[int, int], bits: int, colour: int, rows: bytes, *, before: bytes = b"", after: bytes = b""
) -> bytes:
    """`size` = (width, height); `rows` each start with a filter byte; whole chunks go before and after the pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    idat = png_chunk(b"IDAT", zlib.compress(rows))
    return PNG_MAGIC + header + before + idat + after + png_chunk(b"IEND", b"")


def tiff_file(entries: list[tuple[int, int, int, int | bytes]], strip: bytes = b"", next_offset: int = 0) -> bytes:
    """Little-endian, one directory at 8. `entries`: (tag, type, count, value or bytes). StripOffsets is added if absent."""
    if all(entry[0] != 273 for entry in entries):
        entries = [*entries, (273, 4, 1, -1)]
    table_end = 8 + 2 + 12 * len(entries) + 4
    extra, table = b"", b""
    strip_start = table_end + sum(len(entry[3]) for entry in entries if isinstance(entry[3], bytes))
    for tag, kind, count, value in sorted(entries, key=lambda entry: entry[0]):
        if isinstance(value, bytes):
            value, extra = table_end + len(extra), extra + value
        table += struct.pack("<HHII", tag, kind, count, strip_start if value == -1 else value)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + table + struct.pack("<I", next_offset) + extra + strip


def grey_tiff(size: tuple[int, int], bits: int, strip: bytes, **more: int) -> bytes:
    """Uncompressed. `more`: photometric (1: zero is black), sample_format (1: unsigned, 3: float), next_offset."""
    width, height = size
    entries: list[tuple[int, int, int, int | bytes]] = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, bits)]
    entries += [(259, 3, 1, 1), (262, 3, 1, more.get("photometric", 1)), (277, 3, 1, 1), (278, 3, 1, height)]
    entries += [(279, 4, 1, len(strip)), (339, 3, 1, more.get("sample_format", 1))]
    return tiff_file(entries, strip, more.get("next_offset", 0))


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] under alpha uint8 [H, W], on white: integers throughout, halves upwards."""
    weights = alpha.astype(np.int64)[..., None]
    mixed = colours.astype(np.int64) * weights + 255 * (255 - weights)
    return ((2 * mixed + 255) // 510).astype(np.uint8)


def grey_rgb(values: np.ndarray) -> np.ndarray:
    """[H, W] with values 0..255 -> uint8 [H, W, 3]."""
    return np.repeat(np.asarray(values).astype(np.uint8)[..., None], 3, axis=-1)
