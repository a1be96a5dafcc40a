"""The one Preprocess: from a decoded image to the pixels that the network takes. Equal to timm's evaluation transform."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.decode import Source, decode
from recog.core.errors import BundleError, ConfigError, ShapeError

INTERPOLATIONS: Mapping[str, Image.Resampling] = MappingProxyType(
    {
        "nearest": Image.Resampling.NEAREST,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "box": Image.Resampling.BOX,
        "hamming": Image.Resampling.HAMMING,
        "lanczos": Image.Resampling.LANCZOS,
    }
)
CROP_MODES = ("center", "squash", "border")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Resize and centre crop, as timm's evaluation transform does for the same pretrained_cfg, bit for bit.

    `crop_mode` center: the shorter side to image_size / crop_pct, then the middle; squash: both sides, aspect lost; border:
    the longer side, then `fill` around it.
    """

    image_size: tuple[int, int]  # (height, width) in px
    channels: int = 3  # 3 colour, 1 grey
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    crop_mode: str = "center"
    fill: tuple[int, ...] = (128, 128, 128)  # border only: one grey level per channel
    grey16_max: int = 65535  # the 16-bit grey level that becomes 255

    def __post_init__(self) -> None:
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise ConfigError(f"image_size is {self.image_size}; it must be (height, width), both 1 px or more.")
        if self.channels not in (1, 3):
            raise ConfigError(f"channels is {self.channels}; it must be 1 (grey) or 3 (colour).")
        if self.interpolation not in INTERPOLATIONS:
            raise ConfigError(
                f"interpolation is '{self.interpolation}'; it must be one of {', '.join(INTERPOLATIONS)}."
            )
        if not 0 < self.crop_pct <= 1:
            raise ConfigError(f"crop_pct is {self.crop_pct}; it must be above 0 and at most 1.")
        if self.crop_mode not in CROP_MODES:
            raise ConfigError(f"crop_mode is '{self.crop_mode}'; it must be one of {', '.join(CROP_MODES)}.")
        if self.crop_mode == "border" and (
            len(self.fill) != self.channels or not all(0 <= f <= 255 for f in self.fill)
        ):
            raise ConfigError(f"fill is {self.fill}; it must be {self.channels} grey levels from 0 to 255.")
        if not 1 <= self.grey16_max <= 65535:
            raise ConfigError(f"grey16_max is {self.grey16_max}; it must be from 1 to 65535.")

    @property
    def resize_size(self) -> tuple[int, int]:
        """(height, width) that the image is scaled towards before the crop."""
        height, width = self.image_size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)

    def read(self, source: Source, *, name: str | None = None) -> NDArray[np.uint8]:
        """Decode and apply: uint8 [H, W, C]. Raises BadImage."""
        image = decode(
            source,
            name=name,
            channels=self.channels,
            min_side=max(self.resize_size),
            grey16_max=self.grey16_max,
        )
        return self(image)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image uint8 [H0, W0, C] as uint8 [H, W, C]."""
        if image.ndim != 3 or image.shape[2] != self.channels or image.dtype != np.uint8:
            raise ShapeError(
                f"the image has shape {image.shape} and dtype {image.dtype}; expected uint8 (H, W, {self.channels})."
            )
        pixels = Image.fromarray(image[:, :, 0] if self.channels == 1 else image)
        height, width = self._scaled_size(pixels.height, pixels.width)
        if (width, height) != pixels.size:
            pixels = pixels.resize((width, height), INTERPOLATIONS[self.interpolation])
        cropped = np.asarray(self._crop(pixels))
        return cropped.reshape(*self.image_size, self.channels)

    def _scaled_size(self, height: int, width: int) -> tuple[int, int]:
        target_height, target_width = self.resize_size
        if self.crop_mode == "squash":
            return target_height, target_width
        ratios = (height / target_height, width / target_width)
        if self.crop_mode == "border":
            return _round_all(height, width, max(ratios))
        if target_height != target_width:
            return _round_all(height, width, min(ratios))
        # torchvision's rule for one target side: the longer side is cut to a whole number, not rounded
        if width <= height:
            return int(target_height * height / width), target_height
        return target_height, int(target_height * width / height)

    def _crop(self, pixels: Image.Image) -> Image.Image:
        """torchvision's centre crop: where the image is smaller, it is padded first, the odd pixel right and below."""
        height, width = self.image_size
        if pixels.width < width or pixels.height < height:
            left, top = max(0, width - pixels.width) // 2, max(0, height - pixels.height) // 2
            padded_size = (max(width, pixels.width), max(height, pixels.height))
            fill = self.fill if self.crop_mode == "border" else (0,) * self.channels
            padded = Image.new(pixels.mode, padded_size, fill[0] if self.channels == 1 else fill)
            padded.paste(pixels, (left, top))
            pixels = padded
        left, top = round((pixels.width - width) / 2.0), round((pixels.height - height) / 2.0)
        return pixels.crop((left, top, left + width, top + height))

    def to_dict(self) -> dict[str, Any]:
        table = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in table.items()}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Preprocess:
        """What `to_dict` gave. BundleError where a field is unknown or impossible."""
        unknown = set(table) - {field.name for field in fields(cls)}
        if unknown:
            raise BundleError(
                f"Preprocess has the unknown field '{min(unknown)}'; a newer release may have written it."
            )
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
            return cls(**values)
        except (TypeError, ValueError, ConfigError) as error:
            raise BundleError(f"Preprocess cannot be read: {error}") from None


def _round_all(height: int, width: int, ratio: float) -> tuple[int, int]:
    return round(height / ratio), round(width / ratio)
