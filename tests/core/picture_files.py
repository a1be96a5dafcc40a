"""Small picture files for the tests of the decoder, and what must come of them by arithmetic."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from recog.core.errors import BadImage
from recog.core.images.decode import decode

LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True, "exact": True}}


def encode(image, file_format, **options):
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size, bits, colour, rows, before=b"", after=b""):
    """A PNG written by hand: `size` = (width, height), `colour` 0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    body = before + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + after
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def random_rgb(height=13, width=21, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height, width):
    """Colours that JPEG keeps to within a few levels, without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x / width, 255 * y / height, 60 + 40 * x / width], axis=-1).astype(np.uint8)


def on_white(colours, alpha):
    """round(colour * a + 255 * (1 - a)) with a = alpha / 255, in integers, halves upwards."""
    weights = alpha.astype(np.int64)[..., None]
    return ((2 * (colours.astype(np.int64) * weights + 255 * (255 - weights)) + 255) // 510).astype(np.uint8)


def grey(rows):
    return np.repeat(np.array(rows, dtype=np.uint8)[..., None], 3, axis=2)


def refusal(source, **options):
    with pytest.raises(BadImage) as caught:
        decode(source, **options)
    return caught.value


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def matrix_profile(columns, gamma=2.2, name=b"wide"):
    """An ICC 2.4 display profile: the XYZ (D50) of red, green and blue, and one gamma. Pillow cannot make any but sRGB."""

    def fixed(values):
        return b"".join(struct.pack(">i", round(value * 65_536)) for value in values)

    white = (0.9642, 1.0, 0.8249)
    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0)
    description = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name + bytes(1 + 4 + 4 + 2 + 1 + 67)
    tags = {b"desc": description + bytes(-len(description) % 4), b"cprt": b"text" + bytes(8)}
    tags |= {b"wtpt": b"XYZ " + bytes(4) + fixed(white)}
    tags |= {
        key: b"XYZ " + bytes(4) + fixed(xyz) for key, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
    }
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for key, value in tags.items():
        table += key + struct.pack(">II", start + len(body), len(value))
        body += value
    head = (
        struct.pack(">I", start + len(body))
        + bytes(4)
        + b"\x02\x40\0\0mntrRGB XYZ "
        + struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    )
    return head + b"acsp" + bytes(28) + fixed(white) + bytes(48) + table + body


# Colorants of Apple's Display P3, adapted to D50, as its profile holds them
DISPLAY_P3 = matrix_profile(((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)))
