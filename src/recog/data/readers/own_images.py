"""Images that a program holds in memory as 8-bit arrays: Pillow images, arrays, tensors, floats that are 8-bit levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.errors import BadImage, DataError
from recog.core.images.decode import decode

# How the numbers of an image were written. 'black and white' holds 0 and 1 only, which may be levels or shares of 255.
Scale = Literal["8 bits", "k/255", "whole numbers", "black and white"]
_GREY = ("1", "L", "LA", "I", "I;16")
_ROUNDING = 1e-4  # of k/255 times 255 in float32: at most 255 * 2**-24 * 2, which is 3e-5


def image_array(image: Any, name: str) -> tuple[NDArray[np.uint8], Scale]:
    """uint8 [H, W] or [H, W, C], C 3 or 4, in memory of its own, and how the numbers were written.

    'k/255' and 'black and white' are multiplied by 255. DataError where no image of the data can be right, BadImage where this
    one is not.
    """
    if isinstance(image, Image.Image):
        channels = 1 if image.mode in _GREY or image.mode.startswith("I") else 3
        pixels = decode(image, name=name, channels=channels)
        return (pixels[:, :, 0] if channels == 1 else pixels), "8 bits"
    array = _numbers(image, name)
    if (
        hasattr(image, "device")
        and not isinstance(image, np.ndarray)
        and array.ndim == 3
        and array.shape[0] in (1, 3, 4)
    ):
        array = array.transpose(1, 2, 0)  # a tensor
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = " Move the channels to the end: X.transpose(0, 2, 3, 1)." if first else ""
        hint = " Give each row its shape: X.reshape(-1, H, W)." if array.ndim == 1 else hint
        raise DataError(
            f"item {name} has an image of shape {array.shape}; expected an array (H, W) or (H, W, C), or a tensor (C, H, W)."
            f"{hint}"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return _levels(array, name)


def _numbers(image: Any, name: str) -> NDArray[Any]:
    if hasattr(image, "device") and hasattr(image, "detach"):
        image = image.detach().cpu()
    try:
        array = np.asarray(image)
    except (TypeError, ValueError, RuntimeError):
        array = np.asarray(None)
    if array.dtype.kind not in "uifb":
        raise DataError(
            f"item {name} has an image of type {type(image).__name__}; expected a path, a Pillow image, an array or a tensor."
        )
    return array


def _levels(array: NDArray[Any], name: str) -> tuple[NDArray[np.uint8], Scale]:
    if array.dtype == np.uint8:
        return np.array(array), "8 bits"  # a copy: the user's buffer may be used again for the next item
    if not array.size:
        raise BadImage(name, "it has no pixels", "Leave it out.")
    if array.dtype.itemsize < 4 and array.dtype.kind == "f":
        array = array.astype(np.float32)
    low, high = array.min(), array.max()
    if low >= 0 and high <= 1:
        scaled = array.astype(np.float64) * 255
        whole = np.rint(scaled)
        if np.abs(scaled - whole).max() < _ROUNDING:
            is_binary = bool(np.isin(whole, (0, 255)).all())
            return whole.astype(np.uint8), "black and white" if is_binary else "k/255"
    elif low >= 0 and high <= 255 and (array.dtype.kind in "ui" or bool((array == np.rint(array)).all())):
        return array.astype(np.uint8), "whole numbers"
    raise DataError(
        f"item {name} has an image of dtype {array.dtype}, from {low:.4g} to {high:.4g}; expected uint8 from 0 to 255, "
        "a Pillow image, or floats that are exactly k/255, as ToTensor gives them. Leave out transforms such as "
        "Normalize, and resizing after ToTensor: recog resizes and normalises by itself."
    )


def agree_on_scale(
    read: Sequence[tuple[str, NDArray[np.uint8], Scale]],
) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """Of (name, image, scale), the images on one scale, and in words how their numbers were read.

    DataError where they were written on two scales.
    """
    first = {scale: (name, image) for name, image, scale in reversed(read)}
    if {"k/255", "whole numbers"} <= set(first):
        (share, _), (levels, image) = first["k/255"], first["whole numbers"]
        raise DataError(
            f"item {share} has values from 0 to 1 and item {levels} up to {image.max()}; expected one scale for all images."
        )
    images = [image for _, image, _ in read]
    if "whole numbers" in first:
        images = [image // 255 if scale == "black and white" else image for _, image, scale in read]
        brightest = max(int(image.max()) for _, image, scale in read if scale == "whole numbers")
        return images, [f"images: whole numbers up to {brightest} were taken for levels from 0, black, to 255, white"]
    if "k/255" in first or "black and white" in first:
        return images, ["images: values from 0 to 1 were multiplied by 255, which gave whole levels: nothing was lost"]
    return images, []
