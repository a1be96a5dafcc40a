"""Pixels of any Pillow mode -> 8-bit grey or sRGB: colour profiles, transparency on white, 16-bit grey by one scale."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from recog.core.errors import BadImage

FULL_SCALE_16 = 65_535
_MAX_PROFILE_BYTES = 4 << 20  # profiles for print have up to 3 MB
_MAX_CACHED_PROFILE_BYTES = 1 << 18  # with 32 entries, 8 MiB at most; those of cameras and screens have 0.5 to 9 KB
_SRGB_TOLERANCE = 2  # profiles that mean sRGB differ from ours by at most 1 of 255, others by 9 and more


def bits_per_channel(image: Image.Image) -> int:
    """As stored in the file where the header tells, else as Pillow holds them. To be asked before the pixels are loaded."""
    if image.format in ("PNG", "TIFF"):
        digits = re.search(r";(\d+)", _raw_mode(image))
        if digits:
            return int(digits[1])
    if image.mode.startswith("I;16"):
        return 16
    if image.mode == "I":
        return 16 if image.format == "PPM" else 32
    return {"1": 1, "F": 32}.get(image.mode, 8)


def full_scale(image: Image.Image, grey16_max: int) -> int:
    """The value of a 16-bit grey image that becomes white: `grey16_max`, or less where the file declares it.

    To be asked before the pixels are loaded.
    """
    if _codec(image).startswith(("ppm", "jpeg2k")):
        return FULL_SCALE_16  # Pillow has then applied the maximum or the number of bits that the header declares
    bits = bits_per_channel(image)
    return min(grey16_max, (1 << bits) - 1) if bits < 16 else grey16_max


def mend_header(image: Image.Image, grey16_max: int, name: str) -> None:
    """Correct what Pillow reads from a PNG's header in other units than the pixels; BadImage where that cannot be done.

    To be called before the pixels are loaded.
    """
    if image.format != "PNG":
        return
    raw_mode, transparent = _raw_mode(image), image.info.get("transparency")
    if raw_mode in ("L;2", "L;4") and transparent is not None:
        image.info["transparency"] = transparent * (255 // (2 ** int(raw_mode[2]) - 1))
    if raw_mode == "RGB;16B" and transparent is not None:
        reason = "it is a 16-bit colour PNG with one transparent colour, which 8 bits cannot tell from others"
        raise BadImage(name, reason, "Save it with an alpha channel or without transparency.")
    if raw_mode == "LA;16B" and grey16_max != FULL_SCALE_16:  # Pillow keeps the upper 8 bits only
        reason = f"it is 16-bit grey with transparency, to which the scale 0 to {grey16_max} cannot be applied"
        raise BadImage(name, reason, "Save it without the alpha channel.")


def _tile(image: Image.Image) -> Any:
    tiles = getattr(image, "tile", None)
    return tiles[0] if tiles else None


def _codec(image: Image.Image) -> str:
    tile = _tile(image)
    return str(tile[0]) if tile else ""


def _raw_mode(image: Image.Image) -> str:
    tile = _tile(image)
    arguments = tile[3] if tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


_DEEP_COLOUR = re.compile(r"(RGBX*|RGB[Aa]);16([LBN])")
_BLOCK_ROWS = 256


def is_deep_colour(image: Image.Image) -> bool:
    """Whether a file has 16 bits of each colour, of which Pillow loads the upper 8. To be asked before the pixels are loaded."""
    return _DEEP_COLOUR.fullmatch(_raw_mode(image)) is not None


def num_dropped_bands(image: Image.Image) -> int:
    """Bands of a TIFF beyond its colours, without a meaning that its header states. To be asked before the pixels are loaded."""
    extra = re.match(r"(?:RGB|CMYK)(X+)", _raw_mode(image))
    return len(extra[1]) if extra and image.format == "TIFF" else 0


def swap_bytes(image: Image.Image) -> None:
    """Let Pillow load the lower 8 of 16 bits of colour, by the other order of bytes. To be called before loading."""
    tiles: list[Any] = cast(Any, image).tile
    raw_mode = _raw_mode(image)
    native = "L" if sys.byteorder == "little" else "B"
    order = native if raw_mode[-1] == "N" else raw_mode[-1]
    other = raw_mode[:-1] + ("B" if order == "L" else "L")
    cast(Any, image).tile = [
        tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:])) for tile in tiles
    ]


def join_bytes(high: Image.Image, low: Image.Image, white: int, name: str) -> Image.Image:
    """Two loaded halves of 16-bit colour as 8-bit RGB, `white` to 255. BadImage where there is transparency too."""
    if high.mode != "RGB":
        raise BadImage(
            name,
            f"it is 16-bit colour with transparency, to which the scale 0 to {white} cannot be applied",
            "Save it without the alpha channel.",
        )
    table = _grey_table(white, False)
    pixels = np.empty((high.height, high.width, 3), np.uint8)
    for rows, values in _values(high, low):
        pixels[rows] = table[values]
    joined = Image.fromarray(pixels)
    joined.info = high.info
    return joined


def highest_level(high: Image.Image, low: Image.Image) -> int:
    """The highest value of the colours of a 16-bit image, whose two halves are loaded."""
    return max(int(values.max()) for _, values in _values(high, low))


def _values(high: Image.Image, low: Image.Image) -> Iterator[tuple[slice, NDArray[np.uint16]]]:
    """uint16 [rows, W, 3] of some rows at a time, which takes little memory."""
    for top in range(0, high.height, _BLOCK_ROWS):
        box = (0, top, high.width, min(top + _BLOCK_ROWS, high.height))
        upper, lower = (np.asarray(image.crop(box), np.uint16)[:, :, :3] for image in (high, low))
        yield slice(top, box[3]), np.bitwise_or(upper << 8, lower, dtype=np.uint16)


def to_channels(image: Image.Image, *, channels: int, white: int, name: str) -> Image.Image:
    """A loaded image of any mode as mode 'L' (`channels` 1) or 'RGB' (3).

    Colour goes through the file's ICC profile to sRGB (relative colorimetric, black point compensated) where the
    profile is sound and is not sRGB already. Grey profiles are not applied: they change the tone curve only, and grey
    values are often measurements. Transparency is laid on white. 16-bit grey is scaled so that `white` becomes 255.
    BadImage where no honest scale exists: float pixels, and integers outside 0..65535.
    """
    if image.mode == "F":
        raise BadImage(
            name,
            "its pixels are floating-point numbers, and nothing in the file says which of them is white",
            "Convert it to 8 or 16 bits with one scale for the whole data set.",
        )
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        image, alpha = _grey16(image, white, name)
    else:
        image, alpha = _split_alpha(image)
    if profile and image.mode in ("RGB", "CMYK"):
        image = _to_srgb(image, profile)
    mode = "L" if channels == 1 else "RGB"
    if alpha is not None:
        if image.mode != "L":
            image = image.convert("RGB")
        background = Image.new(image.mode, image.size, "white")
        background.paste(image, mask=alpha)
        image = background
    return image if image.mode == mode else image.convert(mode)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    if image.mode in ("La", "RGBa"):  # premultiplied
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.has_transparency_data:
        if image.mode != "LA":
            image = image.convert("RGBA")
        alpha = image.getchannel("A")
        return image.convert("L" if image.mode == "LA" else "RGB"), alpha
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _grey16(image: Image.Image, white: int, name: str) -> tuple[Image.Image, Image.Image | None]:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > FULL_SCALE_16:
        raise BadImage(
            name,
            f"its grey values run from {low} to {high}, outside 0 to {FULL_SCALE_16}",
            "Convert it to 8 or 16 bits with one scale for the whole data set.",
        )
    grey = Image.fromarray(_grey_table(white, _is_white_zero(image))[values])
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return grey, None
    return grey, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))


def _is_white_zero(image: Image.Image) -> bool:
    """Whether a TIFF counts from white down. Pillow turns such pixels round at 8 bits, but not at 16."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(262, 1) == 0


@lru_cache(maxsize=8)
def _grey_table(white: int, is_white_zero: bool) -> NDArray[np.uint8]:
    """uint8 [65536]: value -> round(255 * value / white), halves upwards, at most 255."""
    values = np.arange(FULL_SCALE_16 + 1, dtype=np.int64)
    scaled = np.minimum((values * 510 + white) // (2 * white), 255).astype(np.uint8)
    return 255 - scaled if is_white_zero else scaled


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    if not isinstance(profile, bytes) or len(profile) > _MAX_PROFILE_BYTES:
        return image
    build = _cached_transform if len(profile) <= _MAX_CACHED_PROFILE_BYTES else _transform
    transform = build(profile, image.mode)
    return image if transform is None else transform.apply(image)


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From `profile` to sRGB; None where it is broken, is for another kind of image, or is sRGB in effect."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode == "RGB":
        levels = np.arange(0, 256, 17, dtype=np.uint8)
        colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
        mapped = np.asarray(transform.apply(Image.fromarray(colours)))
        if np.abs(mapped.astype(np.int16) - colours).max() <= _SRGB_TOLERANCE:
            return None
    return transform


_cached_transform = lru_cache(maxsize=32)(_transform)
