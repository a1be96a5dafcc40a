"""Small pictures without symmetry, and the files they are kept in."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture(height=30, width=40):
    """Smooth, and without any symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / max(width - 1, 1), 255 * y / max(height - 1, 1), (3 * x + 5 * y) % 200]
    return np.stack(planes, axis=-1).astype(np.uint8)


def encode(image, file_format="PNG", **options):
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, file_format, **options)
    return file.getvalue()


def oriented(value):
    exif = Image.Exif()
    exif[274] = value
    return exif
