"""A map over its image, in perceptually uniform colours with their scale."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from recog.core.text import visible

SHOWN_PX = 320  # shorter side of a picture, at least
_SMALL_PX = 96  # up to here an image is enlarged without smoothing
_TOP = 0.995  # quantile of a map that gets the brightest colour, so that one pixel does not darken the rest
_OPACITY = (0.25, 0.75)  # of the colours where the map is 0 and 1
_SCALE_PX = 34  # height of the scale below a picture
# viridis of matplotlib (Smith, van der Walt, 2015; CC0) in sixteenths: equal steps look equally large, also in grey
_VIRIDIS = np.array(
    [
        *((0x44, 0x01, 0x54), (0x48, 0x18, 0x6A), (0x47, 0x2D, 0x7B), (0x42, 0x40, 0x86), (0x3B, 0x52, 0x8B)),
        *((0x33, 0x63, 0x8D), (0x2C, 0x72, 0x8E), (0x26, 0x82, 0x8E), (0x21, 0x91, 0x8C), (0x1F, 0xA0, 0x88)),
        *((0x28, 0xAE, 0x80), (0x3F, 0xBC, 0x73), (0x5E, 0xC9, 0x62), (0x84, 0xD4, 0x4B), (0xAD, 0xDC, 0x30)),
        *((0xD8, 0xE2, 0x19), (0xFD, 0xE7, 0x25)),
    ],
    dtype=np.float64,
)


def colours(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values [...] in [0, 1] -> uint8 [..., 3], dark blue at 0, yellow at 1."""
    at = np.linspace(0, 1, len(_VIRIDIS))
    channels = [np.interp(values, at, _VIRIDIS[:, c]) for c in range(3)]
    found: NDArray[np.uint8] = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return found


def shown_values(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """What of a map [H, W] is drawn: what counts for the label, float64 in [0, 1] by its own maximum; 0 where none does."""
    positive = np.maximum(values.astype(np.float64), 0)
    top = float(np.quantile(positive, _TOP)) or float(positive.max())
    return np.minimum(1.0, positive / top) if top > 0 else positive


def blend(image: NDArray[np.uint8], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The map [H, W] over `image` uint8 [H, W, C], enlarged to SHOWN_PX: uint8 [H', W', 3]."""
    height, width = image.shape[:2]
    factor = max(1.0, SHOWN_PX / min(height, width))
    size = (round(width * factor), round(height * factor))
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("RGB")
    below = picture.resize(
        size, Image.Resampling.NEAREST if max(height, width) <= _SMALL_PX else Image.Resampling.BICUBIC
    )
    field = Image.fromarray(shown_values(values).astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    shown = np.clip(np.asarray(field, dtype=np.float64), 0, 1)
    opacity = (_OPACITY[0] + (_OPACITY[1] - _OPACITY[0]) * shown)[..., None]
    grey = np.asarray(below.convert("L"), dtype=np.float64)[..., None]
    mixed: NDArray[np.uint8] = np.rint((1 - opacity) * grey + opacity * colours(shown)).astype(np.uint8)
    return mixed


def overlay_png(image: NDArray[np.uint8], values: NDArray[np.float32], label: str) -> bytes:
    """A PNG of the image beside its map, with the scale of the colours below."""
    right = Image.fromarray(blend(image, values))
    left = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("RGB").resize(right.size)
    canvas = Image.new("RGB", (2 * right.width + 8, right.height + _SCALE_PX), "white")
    canvas.paste(left, (0, 0))
    canvas.paste(right, (right.width + 8, 0))
    ramp = np.broadcast_to(colours(np.linspace(0, 1, right.width // 3)), (12, right.width // 3, 3))
    x, y = right.width + 8, right.height + 11
    canvas.paste(Image.fromarray(np.ascontiguousarray(ramp)), (x, y))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    draw.text((x + right.width // 3 + 6, y - 2), "nothing to most", fill="black", font=font)
    draw.text((4, y - 2), f"counts for: {visible(label)[:40]}", fill="black", font=font)
    buffer = io.BytesIO()
    canvas.save(buffer, format="png")
    return buffer.getvalue()
