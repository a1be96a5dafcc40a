"""The one Preprocess: a decoded image of any size -> the network's input size, bit for bit as timm's evaluation transform."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.config import config_to_dict, nearest
from recog.core.errors import BadImage, ConfigError, ShapeError
from recog.core.images.decode import DEFAULT_LIMITS, ImageLimits, ImageSource, decode_image, source_name

CROP_MODES = ("center", "squash", "border")
INTERPOLATIONS: Mapping[str, Image.Resampling] = MappingProxyType(
    {  # timm's names
        "nearest": Image.Resampling.NEAREST,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
        "box": Image.Resampling.BOX,
        "hamming": Image.Resampling.HAMMING,
    }
)
_MAX_SIDE = 16_384
_MIN_CROP_PCT, _MAX_CROP_PCT = 0.05, 2.0
_MAX_SCALED_PIXELS = 100_000_000  # reached by images that are hundreds of times as long as wide


class _Window(NamedTuple):
    """Which part of a scaled axis is kept, and where it begins in the result; outside of it the result is fill."""

    start: int
    stop: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Scale and crop to `image_size` = (height, width), as timm does for the same pretrained_cfg.

    `crop_mode`: 'center' scales until the shorter side fits and crops the middle; 'squash' scales each side by itself
    and crops the middle; 'border' scales until the longer side fits and surrounds it with `fill`. The scaled image is
    1 / `crop_pct` times the crop.
    """

    image_size: tuple[int, int]
    channels: int = 3
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    crop_mode: str = "center"
    fill: tuple[int, ...] = ()  # of the border, one value 0..255 per channel; timm: round(255 * mean). () is black
    grey16_max: int = 65_535  # what becomes white in 16-bit files
    limits: ImageLimits = DEFAULT_LIMITS  # what larger images may be refused for; they were the same in training

    def __post_init__(self) -> None:
        _check_ints("image_size", self.image_size, low=1, high=_MAX_SIDE)
        if len(self.image_size) != 2:
            raise ConfigError(f"preprocess.image_size is {self.image_size}; it must be (height, width).")
        if self.channels not in (1, 3):
            raise ConfigError(f"preprocess.channels is {self.channels}; it must be 1 (grey) or 3 (colour).")
        _check_choice("interpolation", self.interpolation, tuple(INTERPOLATIONS))
        _check_choice("crop_mode", self.crop_mode, CROP_MODES)
        if not _MIN_CROP_PCT <= self.crop_pct <= _MAX_CROP_PCT or min(self._scale_size) < 1:
            raise ConfigError(
                f"preprocess.crop_pct is {self.crop_pct}; it must be from {_MIN_CROP_PCT:g} to {_MAX_CROP_PCT:g}, "
                "the part of the scaled image that the crop keeps (0.875 to 1.0 is usual)."
            )
        _check_ints("fill", self.fill, low=0, high=255)
        if len(self.fill) not in (0, self.channels):
            raise ConfigError(f"preprocess.fill is {self.fill}; it must hold one value per channel ({self.channels}).")
        _check_ints("grey16_max", (self.grey16_max,), low=1, high=65_535)

    @property
    def _scale_size(self) -> tuple[int, int]:
        height, width = self.image_size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H0, W0, C] -> uint8 [H, W, C]. ShapeError for another dtype or shape; BadImage as `read`."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != self.channels or 0 in image.shape:
            raise ShapeError(
                f"the image is {image.dtype} of shape {image.shape}; expected uint8 (H, W, {self.channels}). "
                "recog.core.images.decode.decode gives that from any image."
            )
        return self.fit(Image.fromarray(image[:, :, 0] if self.channels == 1 else image), "<array>")

    def read(self, source: ImageSource, *, name: str | None = None) -> NDArray[np.uint8]:
        """Decode and fit: uint8 [H, W, C]. JPEG files above four times the scaled size are reduced while decoding.

        BadImage where `source` cannot be decoded, or is so long and thin that its scaled form would fill the memory.
        """
        name = name or source_name(source)
        return self.fit(self.decode(source, name=name, min_side=self.min_side), name)

    @property
    def min_side(self) -> int:
        """What `read` decodes for: see `recog.core.images.decode.decode`."""
        return max(self._scale_size)

    def decode(self, source: ImageSource, *, name: str, min_side: int) -> Image.Image:
        """The first half of `read`: the whole image, of these channels. BadImage where it cannot be decoded."""
        return decode_image(
            source,
            name=name,
            channels=self.channels,
            min_side=min_side,
            grey16_max=self.grey16_max,
            limits=self.limits,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return config_to_dict(self)

    def fit(self, image: Image.Image, name: str) -> NDArray[np.uint8]:
        """The second half of `read`: scaled and cropped, uint8 [H, W, C]. BadImage where its scaled form is too large."""
        height, width = self.image_size
        new_height, new_width = self._resized(image.height, image.width)
        if new_height * new_width > _MAX_SCALED_PIXELS:
            raise BadImage(
                name,
                f"it is {image.width} x {image.height} pixels and would be {new_width} x {new_height} when scaled",
                "Crop it, or train with a smaller model.image_size.",
            )
        # Scaling only what the crop keeps would be faster, but not the same bits: the filters of `box` shift by its
        # rounding, and in which order Pillow runs its two passes depends on its version and on both sizes.
        picture = image.resize((new_width, new_height), INTERPOLATIONS[self.interpolation])
        rows, columns = _window(new_height, height), _window(new_width, width)
        if picture.size != (width, height):
            picture = picture.crop((columns.start, rows.start, columns.stop, rows.stop))
        if picture.size != (width, height):
            fill = self.fill if self.fill and self.crop_mode == "border" else (0,) * self.channels
            canvas = Image.new(picture.mode, (width, height), fill)
            canvas.paste(picture, (columns.offset, rows.offset))
            picture = canvas
        return np.array(picture).reshape(height, width, self.channels)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """The size to scale to. The arithmetic, down to its roundings, is timm's and torchvision's."""
        target_height, target_width = self._scale_size
        if self.crop_mode == "squash":
            return target_height, target_width
        if self.crop_mode == "center" and target_height == target_width:
            short, long = min(height, width), max(height, width)
            new_long = int(target_height * long / short)
            return (new_long, target_height) if width <= height else (target_height, new_long)
        ratios = height / target_height, width / target_width
        ratio = max(ratios) if self.crop_mode == "border" else min(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))  # timm fails at 0


def _window(size: int, crop: int) -> _Window:
    """As torchvision's center_crop: the middle `crop` of `size`, halves to even; a smaller axis is kept whole and centred."""
    if crop > size:
        return _Window(start=0, stop=size, offset=(crop - size) // 2)
    start = round((size - crop) / 2.0)
    return _Window(start=start, stop=start + crop, offset=0)


def _check_choice(key: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"preprocess.{key} is {value!r}; it must be one of {', '.join(known)}.{nearest(str(value), known)}"
        )


def _check_ints(key: str, values: object, *, low: int, high: int) -> None:
    numbers = values if isinstance(values, tuple) else (None,)
    if not all(type(number) is int and low <= number <= high for number in numbers):
        raise ConfigError(
            f"preprocess.{key} is {values!r}; it must hold whole numbers from {low} to {high}, as a tuple."
        )
