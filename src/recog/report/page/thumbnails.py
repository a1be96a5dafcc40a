"""Small pictures of images as data URIs, re-encoded without metadata."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.errors import ShapeError

THUMBNAIL_PX = 240  # longer side; displayed at about 170 px, for high-density screens
SMALL_PX = 112
_LOSSLESS_PX = 64  # up to here PNG, which is no larger than JPEG
DATA_URI = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")


def thumbnail(image: NDArray[np.uint8], max_side: int = THUMBNAIL_PX) -> str:
    """Data URI of `image` uint8 [H, W, C], C 1 or 3, at most `max_side` px, re-encoded without metadata."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ShapeError(f"image is {image.dtype} {image.shape}; expected uint8 (H, W, C) with C 1 or 3.")
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "png" if max(picture.size) <= _LOSSLESS_PX else "jpeg"
    picture.save(buffer, format=kind, optimize=True, **({} if kind == "png" else {"quality": 75}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
