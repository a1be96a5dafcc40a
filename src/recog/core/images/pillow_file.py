"""An image file opened by Pillow, with the one plugin for its format, and what the opened header shows to be refused."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, BinaryIO, cast

from PIL import Image, ImageFile, UnidentifiedImageError, features

from recog.core.errors import BadImage
from recog.core.images.image_file import (
    CONVERT,
    REPLACE,
    ImageLimits,
    MeteredFile,
    allow,
    check_header,
    check_part,
    has_absurd_exif,
)

# Imported by name, as Pillow would otherwise import all of its plugins to find the one for TIFF.
_PLUGINS: Mapping[str, str] = MappingProxyType(
    {
        "JPEG": "PIL.JpegImagePlugin",  # and MPO
        "PNG": "PIL.PngImagePlugin",
        "GIF": "PIL.GifImagePlugin",
        "BMP": "PIL.BmpImagePlugin",
        "TIFF": "PIL.TiffImagePlugin",
        "WEBP": "PIL.WebPImagePlugin",
        "PPM": "PIL.PpmImagePlugin",
        "AVIF": "PIL.AvifImagePlugin",
        "JPEG2000": "PIL.Jpeg2KImagePlugin",
        "TGA": "PIL.TgaImagePlugin",
    }
)
_MAX_SLOW_SAMPLES = 1 << 21  # of codecs that Pillow runs in Python, at some 0.5 us a sample
_PLANAR_CONFIGURATION = 284  # the TIFF tag


def open_with_pillow(kind: str, file: BinaryIO, name: str) -> Image.Image:
    """`file` with its header read by the plugin for `kind`, as `recognise` gives it. BadImage as far as we know why not."""
    if kind == "HEIF":
        return _open_heif(file, name)
    if kind == "DICOM":
        return cast(Image.Image, importlib.import_module("recog.core.images.dicom").open_dicom(file, name))
    feature = {"AVIF": "avif", "WEBP": "webp", "JPEG2000": "jpg_2000"}.get(kind)
    if feature is not None and not features.check(feature):
        raise BadImage(name, f"it is {kind}, and this Pillow was built without it", CONVERT)
    importlib.import_module(_PLUGINS[kind])
    metered = MeteredFile(file, name)
    check_header(kind, metered, name)
    if kind == "AVIF":
        _check_avif(file, name)
    try:
        image = Image.open(cast(BinaryIO, metered), formats=(kind,))
    except UnidentifiedImageError:
        rare = {"JPEG": ", such as 12-bit", "TIFF": ", such as unusual channels or sample sizes"}
        reason = (
            f"it begins as {kind}, but its header is damaged or of a variety that cannot be read{rare.get(kind, '')}"
        )
        raise BadImage(name, reason, "Replace it with an intact copy, or convert it to JPEG or PNG.") from None
    except Image.DecompressionBombError as error:
        num_pixels = re.findall(r"\d+", str(error))[0]
        reason = f"it has {int(num_pixels):,} pixels, more than Pillow opens at all (PIL.Image.MAX_IMAGE_PIXELS)"
        raise BadImage(name, reason, "Reduce or crop it.") from None
    metered.max_bytes = None
    return image


def _check_avif(file: BinaryIO, name: str) -> None:
    """BadImage by EXIF, which Pillow reads while it opens an AVIF, or by frames far larger than the image."""
    file.seek(0)
    data = file.read()
    try:
        parts = importlib.import_module("PIL._avif").AvifDecoder(data, "auto", 1).get_info()
    except Exception:  # noqa: BLE001  of any kind, and Pillow's opener, which comes next, will raise it again
        return
    if any(isinstance(part, bytes) and has_absurd_exif(part) for part in parts):
        raise BadImage(name, "its EXIF claims thousands of orientations, a way to stall decoders", REPLACE)
    sizes = importlib.import_module("recog.core.images.avif").frame_sizes(data)
    if not sizes:
        raise BadImage(name, "the file is damaged: it holds no AV1 frame", REPLACE)
    for size in sizes:
        check_part(size, parts[0], "a frame", name)


def _open_heif(file: BinaryIO, name: str) -> Image.Image:
    try:
        plugin = importlib.import_module("pillow_heif")
    except ImportError:
        raise BadImage(
            name,
            "it is a HEIC picture, which needs the extra heic",
            "Run: pip install 'recog[heic]', or convert it to JPEG.",
        ) from None
    file.seek(0)
    return cast(Image.Image, plugin.HeifImageFile(io.BytesIO(file.read()), ""))


def load_pixels(image: Image.Image, name: str) -> Image.Image:
    """`image` with its pixels loaded: DICOM by pydicom, WebP without its decoder, whose two canvases take 8 bytes per pixel."""
    if image.format == "DICOM":
        return cast(Image.Image, importlib.import_module("recog.core.images.dicom").load_dicom(image, name))
    if image.format != "WEBP" or not hasattr(image, "_get_next"):
        image.load()
        return image
    webp = cast(Any, image)
    data = webp._get_next()[0]
    webp._decoder = None
    loaded = Image.frombytes(webp.mode, webp.size, data, "raw", webp.rawmode)
    loaded.info = webp.info
    return loaded


def check_strict(kind: str, name: str) -> None:
    """With Pillow's global switch on, these codecs fill up what is missing; those of the other formats are checked or refuse."""
    if ImageFile.LOAD_TRUNCATED_IMAGES and kind in ("GIF", "BMP", "TIFF", "PPM", "JPEG2000", "TGA"):
        reason = (
            f"PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on in this process, so whether this {kind} is whole cannot be told"
        )
        raise BadImage(name, reason, "Leave it off.")


def check_size(size: tuple[int, int], name: str, limits: ImageLimits) -> None:
    width, height = size
    if max(size) > limits.max_side:
        reason = f"it is {width} x {height} pixels; no side may be above {limits.max_side}"
        raise BadImage(name, reason, f"Reduce or crop it{allow('max_side', max(size))}")
    if width * height > limits.max_pixels:
        reason = f"it is {width} x {height} pixels, {width * height:,} in all; the limit is {limits.max_pixels:,}"
        raise BadImage(name, reason, f"Reduce or crop it{allow('max_pixels', width * height)}")


def check_tiles(image: Image.Image, name: str) -> None:
    """BadImage where the stored parts, by the header, are slow to decode or incomplete."""
    tiles = getattr(image, "tile", None)
    if tiles:
        _check_speed(image, tiles[0][0], name)
        _check_cover(image, tiles, name)


def _check_speed(image: Image.Image, codec: str, name: str) -> None:
    if codec not in Image.DECODERS:  # the table of codecs that are written in Python
        return
    if image.width * image.height * len(image.getbands()) > _MAX_SLOW_SAMPLES:
        reason = (
            f"it is {image.format} in a variety that takes many seconds to decode at {image.width} x {image.height}"
        )
        raise BadImage(name, reason, "Save it as PNG.")


def _check_cover(image: Image.Image, tiles: list[Any], name: str) -> None:
    """Whether the parts that are stored add up to the whole; Pillow leaves the rest black."""
    if image.format not in ("TIFF", "PNG") or tiles[0][0] == "libtiff":
        return
    num_planes = len(image.getbands()) if getattr(image, "tag_v2", {}).get(_PLANAR_CONFIGURATION) == 2 else 1
    covered = sum((right - left) * (bottom - top) for _, (left, top, right, bottom), *_ in tiles)
    if covered < num_planes * image.width * image.height:
        raise BadImage(name, "the file is damaged: it holds a part of the image only", REPLACE)


def count_frames(image: Image.Image) -> tuple[bool, int | None]:
    """Whether an opened image is animated, and its number of frames; None where counting would read all of them."""
    if image.format in ("MPO", "HEIF"):
        return False, 1
    try:
        is_animated = bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001  GIF looks behind the first frame, which is all that decode needs
        return False, 1
    if not is_animated:
        return False, 1
    return True, int(getattr(image, "n_frames", 1)) if image.format in ("PNG", "WEBP", "AVIF", "DICOM") else None


_QUIET_FILTER = ("ignore", None, Warning, re.compile(r"PIL\.|pillow_heif|pydicom"), 0)
_quiet_lock = threading.Lock()
_num_quiet = 0


def _renew_lock() -> None:
    """In a forked process, where a thread that held the lock does not exist."""
    global _quiet_lock
    _quiet_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Warnings of Pillow's own modules are ignored while any thread is inside.

    warnings.catch_warnings would restore another thread's filters; a counted entry of our own cannot.
    """
    global _num_quiet
    filters = cast(list[Any], warnings.filters)
    with _quiet_lock:
        _num_quiet += 1
        if _QUIET_FILTER not in filters:
            filters.insert(0, _QUIET_FILTER)
    try:
        yield
    finally:
        with _quiet_lock:
            _num_quiet -= 1
            filters = cast(list[Any], warnings.filters)
            if _num_quiet == 0 and _QUIET_FILTER in filters:
                filters.remove(_QUIET_FILTER)
