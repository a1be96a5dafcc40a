"""Filters that the corruptions share. Images are float32 [H, W, C] in [0, 1]."""

from __future__ import annotations

import io
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from scipy import fft, ndimage

Picture = Pictures.Image
Image = NDArray[np.float32]  # [H, W, C] in [0, 1]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, as in OpenCV's RGB2GRAY


@lru_cache(maxsize=64)
def _blur_matrix(size: int, sigma: float, mode: str, truncate: float) -> NDArray[np.float32]:
    """SciPy's Gaussian filter of an axis of `size` as a matrix [size, size]: one product is faster than the filter."""
    columns = ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode=mode, truncate=truncate)
    return np.asarray(columns, np.float32)


def gaussian(image: Image, sigma: float, *, mode: str = "nearest", truncate: float = 4.0) -> Image:
    """Gaussian blur of `sigma` px, each channel by itself; the defaults are those of skimage.filters.gaussian."""
    height, width, channels = image.shape
    rows = _blur_matrix(height, sigma, mode, truncate) @ image.reshape(height, width * channels)
    by_row = rows.reshape(height, width, channels).transpose(0, 2, 1).reshape(height * channels, width)
    blurred = by_row @ _blur_matrix(width, sigma, mode, truncate).T
    return np.ascontiguousarray(blurred.reshape(height, channels, width).transpose(0, 2, 1))


def filter_mirrored(image: Image, kernel: NDArray[np.float32]) -> Image:
    """Convolution with a symmetric `kernel` of odd sides; borders are mirrored about their last pixel (OpenCV's default)."""
    top, left = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = pad(image, top, left, "reflect")
    shape = [fft.next_fast_len(n + k - 1, real=True) for n, k in zip(padded.shape[:2], kernel.shape, strict=True)]
    planes = fft.rfft2(padded.transpose(2, 0, 1), shape)  # faster than along the first axes
    planes *= fft.rfft2(kernel, shape)
    whole = fft.irfft2(planes, shape, overwrite_x=True).transpose(1, 2, 0)
    rows, columns = 2 * top + image.shape[0], 2 * left + image.shape[1]
    return np.ascontiguousarray(whole[2 * top : rows, 2 * left : columns], np.float32)


def pad(image: Image, rows: int, columns: int, mode: str) -> Image:
    """NumPy's padding; 'reflect' also of images smaller than the border."""
    return np.asarray(np.pad(image, ((rows, rows), (columns, columns), (0, 0)), mode=mode))  # type: ignore[call-overload]


@lru_cache(maxsize=64)
def disk(radius: float, alias_blur: float) -> NDArray[np.float32]:
    """The defocus kernel of Hendrycks and Dietterich (2019): a disk of `radius` px, its edge blurred by `alias_blur`."""
    reach, half = (8, 1) if radius <= 8 else (math.floor(radius), 2)
    places = np.arange(-reach, reach + 1)
    kernel = ((places[:, None] ** 2 + places**2) <= radius**2).astype(np.float64)
    taps = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * alias_blur**2))
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, taps / taps.sum(), axis=axis, mode="mirror")
    return np.asarray(kernel / kernel.sum(), np.float32)


def motion(image: Image, radius: int, sigma: float, angle: float) -> Image:
    """ImageMagick's motion blur: the mean of 2 radius + 1 pixels in direction `angle` (degrees), half a Gaussian as weights."""
    taps = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    steps = np.arange(2 * radius + 1)
    down = np.ceil(steps * math.sin(math.radians(angle)) - 0.5).astype(int)
    right = np.ceil(steps * math.cos(math.radians(angle)) - 0.5).astype(int)
    reach = 2 * radius + 1
    padded = pad(image, reach, reach, "edge")
    height, width = image.shape[:2]
    blurred = np.zeros_like(image)
    for tap, row, column in zip(taps, down + reach, right + reach, strict=True):
        blurred += np.float32(tap) * padded[row : row + height, column : column + width]
    return blurred


def zoomed(picture: Picture, factor: float) -> Picture:
    """The middle of `picture`, enlarged by `factor` to the same size: bilinear, its first and last pixels on the borders.

    The places are those of scipy.ndimage.zoom of order 1, which the published program uses.
    """
    left, right = _zoom_range(picture.width, factor)
    top, bottom = _zoom_range(picture.height, factor)
    return picture.resize(picture.size, Pictures.Resampling.BILINEAR, box=(left, top, right, bottom))


def _zoom_range(size: int, factor: float) -> tuple[float, float]:
    """The part of an axis that is enlarged. Pillow's pixels have their centres at halves, SciPy's at whole numbers."""
    kept = math.ceil(size / factor)
    enlarged = round(kept * factor)
    step = (kept - 1) / max(1, enlarged - 1)
    start = (size - kept) // 2 + (enlarged - size) // 2 * step + (1 - step) / 2
    return max(0.0, start), min(float(size), start + step * size)


def sample(image: Image, rows: NDArray[np.float32], columns: NDArray[np.float32]) -> Image:
    """Bilinear values at float places [H, W]; beyond the borders the image is mirrored about its last pixel."""
    height, width, channels = image.shape
    rows, columns = _mirrored(rows, height), _mirrored(columns, width)
    top = np.minimum(rows.astype(np.intp), max(0, height - 2))  # the type that `take` needs
    left = np.minimum(columns.astype(np.intp), max(0, width - 2))
    below, beside = rows - top.astype(np.float32), columns - left.astype(np.float32)
    first, down, right = top * width + left, (width if height > 1 else 0), (1 if width > 1 else 0)
    result = np.empty_like(image, order="C")
    for channel in range(channels):  # planes are gathered faster than pixels
        plane = np.ascontiguousarray(image[:, :, channel]).ravel()
        upper, lower = plane.take(first), plane.take(first + down)
        upper += beside * (plane.take(first + right) - upper)
        lower += beside * (plane.take(first + down + right) - lower)
        result[:, :, channel] = upper + below * (lower - upper)
    return result


def _mirrored(places: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    period = max(1, 2 * (size - 1))
    places = np.abs(places)
    if size > 1 and places.max() >= period:  # the remainder is slow, and seldom another number
        places = places % period
    return np.asarray(np.minimum(places, period - places) if size > 1 else places * 0, np.float32)


def grey(image: Image) -> Image:
    """Luma [H, W, 1]."""
    return image if image.shape[2] == 1 else image @ LUMA[:, None]


def as_colour(colour: tuple[int, int, int], channels: int) -> NDArray[np.float32]:
    """An 8-bit colour on the scale [0, 1] as [3], or its luma [1]."""
    levels = np.asarray(np.array(colour) / 255, np.float32)
    return levels if channels == 3 else np.asarray([levels @ LUMA], np.float32)


def value_of(image: Image) -> Image:
    """The largest channel [H, W, 1], the value of HSV."""
    return _over_channels(np.maximum, image)


def least_of(image: Image) -> Image:
    """The smallest channel [H, W, 1]."""
    return _over_channels(np.minimum, image)


def _over_channels(choose: np.ufunc, image: Image) -> Image:
    """As a reduction over the last axis, which NumPy is slow at where it is 3 long."""
    result = image[:, :, :1]
    for channel in range(1, image.shape[2]):
        result = choose(result, image[:, :, channel : channel + 1])
    return result


def to_picture(image: Image) -> Picture:
    """Whole levels of 255 as an 8-bit picture."""
    levels = np.rint(image * 255).astype(np.uint8)
    return Pictures.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)


def from_picture(picture: Picture) -> Image:
    levels = np.asarray(np.asarray(picture, np.float32) / 255, np.float32)
    return levels[:, :, None] if levels.ndim == 2 else levels


def scaled(picture: Picture, factor: float) -> tuple[int, int]:
    """(width, height), rounded down as in the published program, at least 1."""
    return max(1, int(picture.width * factor)), max(1, int(picture.height * factor))


def recompressed(picture: Picture, quality: int) -> Picture:
    """After JPEG compression."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Pictures.open(file)
