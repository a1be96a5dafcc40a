"""Facts about an image file whatever it shows: size, encoding, exposure, sharpness, border; and small copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.images.decode import ImageInfo

THUMBNAIL_PX, COLOUR_PX = 64, 32  # of the grey and the coloured copies that near duplicates are compared by
DECODED_PX = (
    128  # side that images are decoded for at least; of a JPEG that small networks need less of, traits would be coarse
)
_MEASURED_PX = 256  # longer side at which sharpness and border are measured: about what a network sees
_BLOCK_PX = 16
DARK, BRIGHT = 40, 250  # grey levels of 0 to 255
_LEVELS_APART = 8  # compression spreads one level over its neighbours
_BORDER_RANGE = 8  # of the levels within one row or column of a border


@dataclass(frozen=True, kw_only=True, eq=False)
class Traits:
    """Shares are fractions in [0, 1] of the pixels, as seen at the size of the network's input."""

    width: int
    height: int
    format: str
    num_bytes: int  # of the file; of an array, of its pixels
    jpeg_quality: int | None  # 1 to 100 on the scale of libjpeg; None where it is no JPEG
    brightness: float  # mean grey level in [0, 1]
    contrast: float  # standard deviation of the grey levels in [0, 0.5]
    sharpness: float  # edge strength of the sharpest parts, 0 where there are none
    dark_share: float  # below level 40 of 255
    bright_share: float  # from level 250
    border_share: float  # uniform rows and columns at the edges
    num_colours: int  # distinct colours, or grey levels, 8 levels apart, that make up 98 % of the image
    thumbnail: NDArray[np.uint8]  # grey [64, 64], sides scaled separately
    colours: NDArray[np.uint8]  # [32, 32, 3], likewise


def measure_traits(image: Image.Image, info: ImageInfo, content: bytes | NDArray[np.uint8]) -> Traits:
    """The traits of a decoded `image` of mode 'L' or 'RGB', whose file has the header `info` and the bytes `content`."""
    grey = image.convert("L")
    small = grey.copy()
    small.thumbnail((_MEASURED_PX, _MEASURED_PX), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32)
    thumbnail = grey.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    colours = image.resize((COLOUR_PX, COLOUR_PX), Image.Resampling.BOX).convert("RGB")
    return Traits(
        width=info.width,
        height=info.height,
        format=info.format,
        num_bytes=len(content) if isinstance(content, bytes) else content.nbytes,
        jpeg_quality=jpeg_quality(content) if isinstance(content, bytes) else None,
        brightness=float(pixels.mean()) / 255,
        contrast=float(pixels.std()) / 255,
        sharpness=_sharpness(pixels),
        dark_share=float((pixels < DARK).mean()),
        bright_share=float((pixels >= BRIGHT).mean()),
        border_share=_border_share(pixels),
        num_colours=_num_colours(np.asarray(image)),
        thumbnail=np.asarray(thumbnail),
        colours=np.asarray(colours),
    )


def _num_colours(pixels: NDArray[np.uint8]) -> int:
    """Of uint8 [H, W] or [H, W, 3]: the fewest that 98 % of the pixels have."""
    num_steps = 256 // _LEVELS_APART
    steps = pixels.astype(np.int32).reshape(*pixels.shape[:2], -1) // _LEVELS_APART
    colours = steps @ (num_steps ** np.arange(steps.shape[2], dtype=np.int32))
    counts = np.sort(np.bincount(colours.reshape(-1)))[::-1]
    return int(np.searchsorted(counts.cumsum() / counts.sum(), 0.98)) + 1


def _sharpness(pixels: NDArray[np.float32]) -> float:
    """The 90th percentile over blocks of the root mean square of the Laplacian, on levels in [0, 1].

    Of blocks, as a photo with a blurred background is sharp. Pech-Pacheco et al. (2000), ICPR, measure focus by the Laplacian.
    """
    if min(pixels.shape) < 3:
        return 0.0
    inner = pixels[1:-1, 1:-1]
    edges = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:] - 4 * inner
    rows, columns = (np.arange(0, side, _BLOCK_PX) for side in edges.shape)
    sums = np.add.reduceat(np.add.reduceat(edges**2, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, edges.shape[0]]), np.diff([*columns, edges.shape[1]]))
    return float(np.sqrt(np.quantile(sums / counts, 0.9))) / 255


def _border_share(pixels: NDArray[np.float32]) -> float:
    """The share of the rows and columns at the edges in which all levels are alike."""
    kept = [1.0, 1.0]
    for axis in (0, 1):
        is_uniform = np.ptp(pixels, axis=1 - axis) <= _BORDER_RANGE
        if is_uniform.all():
            return 1.0
        first, last = np.flatnonzero(~is_uniform)[[0, -1]]
        kept[axis] = (last - first + 1) / len(is_uniform)
    return 1.0 - kept[0] * kept[1]


# The quantisation table of luminance at quality 50, in zigzag order: ITU-T T.81 (1992), annex K.1
_BASE = (
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57,
    51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120,
    92, 101, 103, 99,
)  # fmt: skip
_QUANTISATION, _SCAN, _NO_LENGTH = 0xDB, 0xDA, (0x01, *range(0xD0, 0xDA))


def jpeg_quality(content: bytes) -> int | None:
    """The quality, 1 to 100, at which libjpeg would write the first quantisation table of a JPEG; None where there is none.

    libjpeg scales the standard's table by 5000 / quality below 50 and by 200 - 2 * quality above, in percent, and cuts it at 255.
    """
    table = _quantisation_table(content)
    if table is None:
        return None
    uncut = [(entry, base) for entry, base in zip(table, _BASE, strict=True) if entry < 255]
    if not uncut:
        return 1
    scale = 100 * sum(entry for entry, _ in uncut) / sum(base for _, base in uncut)
    quality = 5000 / scale if scale > 100 else (200 - scale) / 2
    return max(1, min(100, round(quality)))


def _quantisation_table(content: bytes) -> bytes | None:
    """The first 8-bit table, in zigzag order, of the segments before the image data."""
    if content[:2] != b"\xff\xd8":
        return None
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # fill bytes may precede a marker
            place += 1
            continue
        if marker == _SCAN:
            return None
        if marker in _NO_LENGTH:
            place += 2
            continue
        length = int.from_bytes(content[place + 2 : place + 4])
        if marker == _QUANTISATION and length >= 67 and content[place + 4] >> 4 == 0:
            return content[place + 5 : place + 69]
        place += 2 + length
    return None
