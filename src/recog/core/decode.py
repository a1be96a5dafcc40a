"""The one decoder: an image from anywhere as uint8 [H, W, C], or a BadImage that says why not. Pillow, with an allow-list.

What it settles, once for training, evaluation and serving: EXIF orientation is applied; transparency is laid on white; 16-bit
grey is scaled by one number for the whole dataset; wide-gamut RGB and CMYK with a profile become sRGB; of an animation the
first frame is taken; sizes are limited before a pixel is decoded; a file that ends early is refused, not filled up.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from recog.core.errors import BadImage, ConfigError

Source = str | os.PathLike[str] | bytes | Image.Image | np.ndarray[Any, Any]

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM")

# Pillow warns of what is refused or mended here (sizes, broken EXIF); a filter once, as changing filters per call is not
# safe with threads
warnings.filterwarnings("ignore", module=r"PIL\b")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes above which an image is refused before its pixels are decoded."""

    max_pixels: int = 50_000_000
    max_side: int = 16_384
    max_bytes: int = 200 << 20  # of the file: 50 megapixels of 32 bits, uncompressed
    max_scans: int = 200  # of a progressive JPEG; encoders write about 10, each costs a pass over all pixels


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What the header says; width and height as seen after EXIF orientation."""

    width: int
    height: int
    mode: str  # Pillow's
    format: str
    is_animated: bool


def probe(source: Source, *, name: str | None = None, limits: Limits = DEFAULT_LIMITS) -> ImageInfo:
    """Read the header only. Raises BadImage as `decode` does, but for what only decoding finds."""
    name = name or _name_of(source)
    image = _open(source, name, limits)
    width, height = image.size if _orientation(image) < 5 else image.size[::-1]
    return ImageInfo(
        width=width,
        height=height,
        mode=image.mode,
        format=image.format or "array",
        is_animated=bool(getattr(image, "is_animated", False)),
    )


def decode(
    source: Source,
    *,
    name: str | None = None,
    channels: int = 3,
    min_side: int | None = None,
    grey16_max: int = 65535,
    limits: Limits = DEFAULT_LIMITS,
) -> NDArray[np.uint8]:
    """The pixels of `source` as uint8 [H, W, C], sRGB (C = 3) or grey (C = 1).

    `source` is a path, an encoded file as bytes, a Pillow image, or an array uint8 [H, W] or [H, W, 1, 3 or 4].
    `min_side`: a JPEG may be reduced while decoding, never below twice this on its shorter side; None never reduces.
    `grey16_max`: the 16-bit grey level that becomes 255. Raises BadImage with `name` in it.
    """
    if channels not in (1, 3):
        raise ConfigError(f"channels is {channels}; it must be 1 (grey) or 3 (colour).")
    name = name or _name_of(source)
    image = _open(source, name, limits)
    if min_side is not None and image.format == "JPEG" and hasattr(image, "draft"):
        image.draft(None, (2 * min_side, 2 * min_side))
    try:
        image.load()
        upright = _turn(image, _orientation(image))
        plain = _to_grey_or_rgb(upright, name, grey16_max)
    except BadImage:
        raise
    except Exception as error:  # noqa: BLE001  Pillow's decoders raise any kind on a damaged file
        raise BadImage(name, f"the file is damaged ({_sentence(error)})", "Replace it or remove it.") from None
    mode = "L" if channels == 1 else "RGB"
    pixels = np.asarray(plain if plain.mode == mode else plain.convert(mode))
    return pixels.reshape(plain.height, plain.width, channels)


def _name_of(source: Source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, bytes):
        return "<bytes>"
    return "<array>" if isinstance(source, np.ndarray) else "<image>"


def _open(source: Source, name: str, limits: Limits) -> Image.Image:
    """The image with its header read and its size within limits, pixels not yet decoded."""
    if isinstance(source, np.ndarray):
        image = _from_array(source, name)
    elif isinstance(source, Image.Image):
        image = source.copy() if source.readonly else source
    else:
        image = _open_bytes(
            source if isinstance(source, bytes) else _read_file(Path(source), name, limits), name, limits
        )
    width, height = image.size
    if width < 1 or height < 1:
        raise BadImage(name, f"the image is {width} x {height} px, so it has no pixel", "Remove it.")
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise BadImage(
            name,
            f"the image is {width} x {height} px; at most {limits.max_pixels / 1e6:g} megapixels and "
            f"{limits.max_side} px a side are decoded",
            "Make it smaller.",
        )
    return image


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    if array.dtype != np.uint8:
        raise BadImage(
            name,
            f"the array has dtype {array.dtype}; expected uint8",
            "Scale it to 0..255 and use array.astype(np.uint8).",
        )
    shape = array.shape
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and (array.ndim != 3 or shape[2] not in (3, 4)):
        raise BadImage(
            name, f"the array has shape {shape}; expected (H, W) or (H, W, 1, 3 or 4)", "Move the channels to the end."
        )
    if 0 in shape:
        raise BadImage(name, f"the array has shape {shape}, so it has no pixel", "Remove it.")
    return Image.fromarray(np.ascontiguousarray(array))


def _read_file(path: Path, name: str, limits: Limits) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
            raise BadImage(name, f"this is {kind}, not a file", "Name an image file.")
        if status.st_size > limits.max_bytes:
            raise BadImage(
                name,
                f"the file has {status.st_size:,} bytes; at most {limits.max_bytes:,} are read",
                "Make it smaller.",
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise BadImage(name, "there is no such file", "Check the path.") from None
    except ValueError:
        raise BadImage(name, "the name cannot be a file's name", "Check the path.") from None
    except OSError as error:
        raise BadImage(name, f"the file cannot be read ({error.strerror})", "Check its permissions.") from None


def _open_bytes(data: bytes, name: str, limits: Limits) -> Image.Image:
    if not data:
        raise BadImage(name, "the file is empty", "Replace it or remove it.")
    if len(data) > limits.max_bytes:
        raise BadImage(
            name, f"the file has {len(data):,} bytes; at most {limits.max_bytes:,} are read", "Make it smaller."
        )
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > limits.max_scans:
        raise BadImage(name, f"the JPEG has more than {limits.max_scans} scans", "Save it again as a usual JPEG.")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise BadImage(
            name, f"the image has more than {limits.max_pixels / 1e6:g} megapixels", "Make it smaller."
        ) from None
    except UnidentifiedImageError:
        raise BadImage(name, *_what_it_is(data)) from None
    except Exception as error:  # noqa: BLE001  Pillow's readers raise any kind on a damaged header
        raise BadImage(name, f"the file is damaged ({_sentence(error)})", "Replace it or remove it.") from None


_SIGNATURES = (
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"8BPS", "a Photoshop file"),
    (b"SIMPLE  =", "a FITS file"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x00\x00\x01\x00", "an icon"),
)
_STARTS = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP"}
_SUPPORTED = "Save it as JPEG or PNG, or remove it."


def _what_it_is(data: bytes) -> tuple[str, str]:
    """(reason, remedy) for bytes that no allowed format claims."""
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "this is HEIC, which is not read", _SUPPORTED
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            return f"this is {kind}, not an image that is read", _SUPPORTED
    text = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text:
        return "this is an SVG drawing, which is not read", _SUPPORTED
    if text.startswith((b"<!doctype html", b"<html")):
        return "this is a web page, perhaps saved in place of an image", "Download the image again."
    for signature, kind in _STARTS.items():
        if data.startswith(signature):
            return f"the file begins as {kind} but is damaged", "Replace it or remove it."
    return "this is not an image", "Replace it or remove it."


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; a broken or absent one is 1."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001  a broken EXIF block says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == 1 else image.transpose(_TURNS[orientation])


def _to_grey_or_rgb(image: Image.Image, name: str, grey16_max: int) -> Image.Image:
    """Any mode as 'L' or 'RGB' in sRGB."""
    profile = image.info.get("icc_profile")
    if image.mode == "F":
        raise BadImage(
            name, "the image has floating-point pixels, whose range is not known", "Save it with 8 or 16 bits."
        )
    if image.mode.startswith("I"):
        return Image.fromarray(_scale_grey16(np.asarray(image), name, grey16_max))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        is_grey = image.mode in ("LA", "La", "L", "1")
        image = _on_white(image)
        return image.convert("L") if is_grey else _to_srgb(image, profile)
    if image.mode in ("1", "L"):
        return image.convert("L")  # a grey profile bends the tone curve only; values stay as stored, as elsewhere
    if image.mode == "P":
        image = image.convert("RGB")
    return _to_srgb(image, profile)


def _scale_grey16(levels: NDArray[Any], name: str, grey16_max: int) -> NDArray[np.uint8]:
    if levels.min() < 0 or levels.max() > 65535:
        raise BadImage(name, "the image has grey levels beyond 16 bits", "Save it with 8 or 16 bits.")
    scaled = np.round(levels.astype(np.float64) * (255 / grey16_max))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


_SRGB = ImageCms.createProfile("sRGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB or CMYK with a profile other than sRGB through that profile; a broken or unfit one is ignored."""
    if profile and image.mode in ("RGB", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(source).lower():
                converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
                return converted if converted is not None else image.convert("RGB")
        except Exception:  # noqa: BLE001  littlecms and Pillow raise several kinds on a broken profile; the pixels are fine
            pass
    return image.convert("RGB")


def _sentence(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
