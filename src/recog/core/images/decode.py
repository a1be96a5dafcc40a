"""The one decoder: path, bytes, Pillow image or array -> uint8 [H0, W0, C]. Whatever cannot be shown truly is a BadImage."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol, TypeGuard, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.errors import BadImage, ConfigError
from recog.core.images.colour import (
    FULL_SCALE_16,
    bits_per_channel,
    full_scale,
    highest_level,
    is_deep_colour,
    join_bytes,
    mend_header,
    num_dropped_bands,
    swap_bytes,
    to_channels,
)
from recog.core.images.formats import PREFIX_BYTES, recognise
from recog.core.images.image_file import (
    DEFAULT_LIMITS,
    REPLACE,
    ImageLimits,
    MeteredFile,
    check_body,
    has_absurd_exif,
    has_late_png_metadata,
    open_encoded,
)
from recog.core.images.jpeg2000 import check_jpeg2000
from recog.core.images.pillow_file import (
    check_size,
    check_strict,
    check_tiles,
    count_frames,
    load_pixels,
    open_with_pillow,
    quiet_pillow,
)

__all__ = [
    "DEFAULT_LIMITS",
    "ImageInfo",
    "ImageSource",
    "ImageLimits",
    "Readable",
    "decode",
    "decode_image",
    "grey16_level",
    "probe",
    "source_name",
]


@runtime_checkable
class Readable(Protocol):
    """An encoded file that is no path: an open binary file, a member of an archive. `read` gives all of its bytes."""

    def read(self) -> bytes: ...


def _is_readable(source: object) -> TypeGuard[Readable]:
    """As isinstance, which takes ten times as long for a protocol."""
    return callable(getattr(source, "read", None))


ImageSource = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Readable
T = TypeVar("T")

_TRANSPOSE: Mapping[int, Image.Transpose] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
_KEEP_OPEN = "Pass it while it is open, or pass its path or bytes."
_ORIENTATION = 274  # the EXIF and TIFF tag


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """Facts of a header. Width and height are those of the decoded image, EXIF orientation applied."""

    width: int
    height: int
    mode: str  # Pillow's, as stored: 'L', 'RGB', 'P', 'CMYK', 'I;16', ...
    format: str  # 'JPEG', 'MPO', 'PNG', ..., 'HEIF'; 'memory' for a Pillow image or array without a file
    bits: int  # per channel
    is_animated: bool  # more than one frame or page, of which the first is decoded; MPO and HEIF never count
    num_frames: int | None  # None where it is above 1 and the header does not tell
    num_dropped_bands: int = 0  # of a TIFF that has more than its colours, and no transparency, such as near infrared


def decode(
    source: ImageSource,
    *,
    name: str | None = None,
    channels: int = 3,
    min_side: int | None = None,
    grey16_max: int = FULL_SCALE_16,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> NDArray[np.uint8]:
    """The image as people see it, uint8 [H0, W0, `channels`], sRGB or grey (ITU-R 601), in memory of its own.

    `source` is a path, an encoded file's bytes, an open file, a Pillow image, or uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].
    Orientation is applied, transparency is laid on white, the first frame of several is taken. Of 16-bit
    images, `grey16_max` becomes white. With `min_side`, a JPEG file may be reduced by 2, 4 or 8 while it is decoded, its
    short side never below 2 * `min_side`; without, nothing is scaled. Raises BadImage under `name`.
    """
    image = decode_image(source, name=name, channels=channels, min_side=min_side, grey16_max=grey16_max, limits=limits)
    return np.array(image).reshape(image.height, image.width, channels)


def decode_image(
    source: ImageSource,
    *,
    name: str | None = None,
    channels: int = 3,
    min_side: int | None = None,
    grey16_max: int = FULL_SCALE_16,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> Image.Image:
    """As `decode`, but a loaded Pillow image of mode 'L' or 'RGB', which spares Preprocess two copies."""
    _check_settings(channels, min_side, grey16_max)
    name = name or source_name(source)

    def work() -> Image.Image:
        with _opened(source, name, limits, whole=True) as image:
            mend_header(image, grey16_max, name)
            white = full_scale(image, grey16_max)
            if min_side is not None and (isinstance(source, str | os.PathLike | bytes) or _is_readable(source)):
                _reduce_jpeg(image, min_side)
            low = _low_bytes(image, name) if white != FULL_SCALE_16 else None
            if isinstance(source, Image.Image):
                image.load()
            else:
                image = load_pixels(image, name)
            if low is not None:
                image = join_bytes(image, low, white, name)
            pixels = to_channels(image, channels=channels, white=white, name=name)
            method = _TRANSPOSE.get(_orientation(image))
            return pixels if method is None else pixels.transpose(method)

    return _as_bad_image(work, name)


def probe(source: ImageSource, *, name: str | None = None, limits: ImageLimits = DEFAULT_LIMITS) -> ImageInfo:
    """The facts of the header, without decoding pixels. Raises BadImage as `decode` does, but for damage behind the header."""
    name = name or source_name(source)

    def work() -> ImageInfo:
        with _opened(source, name, limits, whole=False) as image:
            return _read_info(image)

    return _as_bad_image(work, name)


def _low_bytes(image: Image.Image, name: str) -> Image.Image | None:
    """The lower 8 bits of each colour of a file that has 16 and is not loaded yet, as an image; None for any other."""
    file = getattr(image, "fp", None)
    if not is_deep_colour(image) or not isinstance(file, MeteredFile):
        return None
    position = file.tell()
    file.seek(0)
    low = open_with_pillow(image.format or "", io.BytesIO(file.read()), name)
    file.seek(position)
    swap_bytes(low)
    low.load()
    return low


def grey16_level(source: ImageSource, *, name: str | None = None, limits: ImageLimits = DEFAULT_LIMITS) -> int | None:
    """The highest level of a 16-bit image, grey or colour, whose file does not state what is white; None for any other.

    Raises BadImage as `decode` does.
    """
    name = name or source_name(source)

    def work() -> int | None:
        with _opened(source, name, limits, whole=True) as image:
            # a PGM states its maximum, and Pillow applies it: there the answer is full scale whatever is asked for
            if (low := _low_bytes(image, name)) is not None:
                image.load()
                return highest_level(image, low)
            if not image.mode.startswith("I") or full_scale(image, 1) != 1:
                return None
            level = int(np.asarray(image).max())
            return level if 0 <= level <= FULL_SCALE_16 else None

    return _as_bad_image(work, name)


def source_name(source: ImageSource) -> str:
    """What errors call a source that was given no name."""
    if isinstance(source, str | os.PathLike):
        return str(os.fspath(source))
    kinds: tuple[tuple[type, str], ...] = ((bytes, "<bytes>"), (Image.Image, "<image>"), (np.ndarray, "<array>"))
    known = next((name for kind, name in kinds if isinstance(source, kind)), None)
    return known or (str(getattr(source, "name", "<file>")) if _is_readable(source) else "<source>")


def _check_settings(channels: int, min_side: int | None, grey16_max: int) -> None:
    if channels not in (1, 3):
        raise ConfigError(f"channels is {channels}; it must be 1 (grey) or 3 (colour).")
    if min_side is not None and min_side < 1:
        raise ConfigError(f"min_side is {min_side}; it must be at least 1, or None to scale nothing.")
    if not 1 <= grey16_max <= FULL_SCALE_16:
        raise ConfigError(f"grey16_max is {grey16_max}; it must lie in 1 to {FULL_SCALE_16}.")


def _as_bad_image(work: Callable[[], T], name: str) -> T:
    try:
        with quiet_pillow():
            return work()
    except BadImage as error:
        reason, remedy = error.reason, error.remedy
    except MemoryError:
        reason, remedy = "there is not enough memory to decode it", "Reduce the image or free memory."
    except Exception as error:  # noqa: BLE001  on hostile bytes, Pillow's plugins raise exceptions of any type
        is_closed = isinstance(error, ValueError) and re.search("closed (file|image)", str(error))
        reason, remedy = ("it was closed before it was read", _KEEP_OPEN) if is_closed else (_explain(error), REPLACE)
    # Outside of the except blocks: a kept error must not keep the file's bytes alive through its traceback.
    raise BadImage(name, reason, remedy)


def _explain(error: Exception) -> str:
    message = " ".join(str(error).split())[:200].rstrip(".")
    if re.search("truncated|end of file", message, re.IGNORECASE) or isinstance(error, EOFError):
        return "the file is truncated: it ends before the image does"
    return f"the file is damaged and cannot be decoded ({message or type(error).__name__})"


@contextlib.contextmanager
def _opened(source: object, name: str, limits: ImageLimits, *, whole: bool) -> Iterator[Image.Image]:
    """The image with its header read and its limits checked. With `whole`, the file is in memory and its body checked too."""
    if isinstance(source, np.ndarray):
        source = _from_array(source, name)
    if isinstance(source, Image.Image):
        if getattr(source, "tile", None) and getattr(source, "fp", None) is None:
            raise ValueError("closed image")  # what Pillow itself raises for images that were loaded before
        check_size(source.size, name, limits)
        yield source
        return
    position = _position(source)
    if _is_readable(source):
        source = source.read()
        if source == b"" and position:
            raise BadImage(name, f"the open file is at its end, byte {position:,}", "Call seek(0) first.")
        if not isinstance(source, bytes):  # a text must not be taken for a path
            raise BadImage(name, f"reading it gives {type(source).__name__}, not bytes", "Open it in binary mode.")
    if not isinstance(source, str | os.PathLike | bytes):
        reason = f"a {type(source).__name__} is not an image source"
        raise BadImage(name, reason, "Give a path, an encoded file's bytes, a Pillow image or a NumPy array.")
    with open_encoded(source, name, limits) as file:
        data = _read_whole(file, limits) if whole else b""
        if whole:
            file = io.BytesIO(data)
        prefix = file.read(PREFIX_BYTES)
        kind = _recognise(prefix, name, position)
        image = open_with_pillow(kind, file, name)
        check_size(image.size, name, limits)
        check_tiles(image, name)
        if whole:
            _check_whole(kind, data, image.size, name)
        yield image


def _recognise(prefix: bytes, name: str, position: int) -> str:
    """As `recognise`; an open file that is read from `position` on is not called damaged for that."""
    try:
        return recognise(prefix, name)
    except BadImage as error:
        reason = f"the open file was read from byte {position:,} on, where {error.reason}"
        raise BadImage(name, reason, "Call seek(0) first.") if position else error from None


def _check_whole(kind: str, data: bytes, size: tuple[int, int], name: str) -> None:
    check_strict(kind, name)
    check_body(kind, data, size[0] * size[1], name)
    if kind == "JPEG2000":
        check_jpeg2000(data, size, name)


def _position(file: object) -> int:
    """Where reading would begin; 0 where it is no file or does not tell, as a pipe or a member of an archive."""
    try:
        return int(file.tell())  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return 0


def _read_whole(file: BinaryIO, limits: ImageLimits) -> bytes:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return file.read(min(size, limits.max_bytes))  # read(max_bytes) would first ask for so much memory, for each file


def _from_array(array: NDArray[Any], name: str) -> Image.Image:
    shape = array.shape
    if array.dtype != np.uint8:
        finite = array.dtype.kind != "f" or bool(np.isfinite(array).all())
        reason = f"it is an array of {array.dtype}{'' if finite else ' with NaN or infinite values'}, not uint8"
        raise BadImage(name, reason, "Scale it to 0..255 with one scale for all images, then .astype(np.uint8).")
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        channels_first = len(shape) == 3 and shape[0] in (1, 3, 4)
        cure = " Channels-first needs .transpose(1, 2, 0)." if channels_first else ""
        reason = f"it is an array of shape {shape}"
        raise BadImage(name, reason, f"Expected [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].{cure}")
    return Image.fromarray(array[:, :, 0] if shape[2:] == (1,) else array)


def _reduce_jpeg(image: Image.Image, min_side: int) -> None:
    if image.format in ("JPEG", "MPO"):
        image.draft(None, (2 * min_side, 2 * min_side))


def _orientation(image: Image.Image) -> int:
    """1 to 8 by EXIF, else XMP; 1 where there is neither, or where it is broken, as every viewer takes it."""
    try:
        if has_absurd_exif(image.info.get("exif", b"")):
            return 1
        # PngImageFile.getexif decodes the pixels to look behind them
        exif = Image.Image.getexif(image) if _ends_metadata_in_header(image) else image.getexif()
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  Pillow parses hostile EXIF with the same plugins
        return 1
    return int(value) if value in _TRANSPOSE else 1


def _ends_metadata_in_header(image: Image.Image) -> bool:
    """Whether this is a PNG, not loaded yet, whose pixels are followed by no chunk that could change their orientation."""
    file = getattr(image, "fp", None)
    if image.format != "PNG" or not isinstance(file, MeteredFile) or not getattr(image, "tile", None):
        return False
    position = file.tell()
    has_late = has_late_png_metadata(file)
    file.seek(position)
    return not has_late


def _read_info(image: Image.Image) -> ImageInfo:
    mode, bits, width, height = image.mode, bits_per_channel(image), image.width, image.height
    turned_by_pillow = getattr(image, "tag_v2", {}).get(_ORIENTATION, 1) in (
        5,
        6,
        7,
        8,
    )  # TIFFs open with the final size
    if _orientation(image) >= 5 and not turned_by_pillow:
        width, height = height, width
    is_animated, num_frames = count_frames(image)
    return ImageInfo(
        width=width,
        height=height,
        mode=mode,
        format=image.format or "memory",
        bits=bits,
        is_animated=is_animated,
        num_frames=num_frames,
        num_dropped_bands=num_dropped_bands(image),
    )
