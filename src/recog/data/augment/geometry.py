"""Where the pixels of a training image come from: crops, mirroring, and the affine warps, on uint8 images by given coins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from recog.data.store import Shape

CROP_TRIES = 10
CROP_COINS = 2 * CROP_TRIES + 2
_MAX_TABLE_BYTES = 16 << 20  # of resampling matrices: sides up to about 54 px
_UNIT = 256  # resampling weights are whole multiples of 1 / 256


def random_boxes(
    sizes: NDArray[np.int64], coins: NDArray[np.float64], *, min_area: float, max_aspect: float
) -> NDArray[np.int64]:
    """A box (top, left, height, width) int64 [B, 4] per image of `sizes` (height, width) int64 [B, 2].

    The law is that of torchvision's RandomResizedCrop, after Szegedy et al. (2014): area uniform in [min_area, 1] of the
    image, log aspect (width : height) uniform in -/+ log(max_aspect), the first of ten tries that fits; where none does,
    the largest centred box of an allowed aspect. `coins` float64 [B, 22] are uniform in [0, 1).
    """
    height, width = sizes[:, :1], sizes[:, 1:]
    tries = coins[:, : 2 * CROP_TRIES].reshape(-1, CROP_TRIES, 2)
    area = height * width * (min_area + (1 - min_area) * tries[:, :, 0])
    aspect = np.exp((2 * tries[:, :, 1] - 1) * math.log(max_aspect))
    heights = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    widths = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    fits = (heights >= 1) & (widths >= 1) & (heights <= height) & (widths <= width)
    first = fits.argmax(axis=1)
    rows = np.arange(len(sizes))
    box_height, box_width = heights[rows, first], widths[rows, first]
    top = (coins[:, -2] * (sizes[:, 0] - box_height + 1)).astype(np.int64)
    left = (coins[:, -1] * (sizes[:, 1] - box_width + 1)).astype(np.int64)
    boxes = np.stack([top, left, box_height, box_width], axis=1)
    for b in np.flatnonzero(~fits.any(axis=1)):
        boxes[b] = _centred_box(int(sizes[b, 0]), int(sizes[b, 1]), max_aspect)
    return boxes


def _centred_box(height: int, width: int, max_aspect: float) -> tuple[int, int, int, int]:
    box_height = min(height, max(1, round(width * max_aspect)))
    box_width = min(width, max(1, round(height * max_aspect)))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def is_small(shape: Shape | None, image_size: tuple[int, int]) -> bool:
    """Whether images of one `shape` go through `crop_small`: a matter of the data, never of the batch."""
    return shape is not None and _table_bytes(shape, image_size) <= _MAX_TABLE_BYTES


def crop_batch(
    images: Sequence[NDArray[np.uint8]],
    boxes: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
    image_size: tuple[int, int],
) -> torch.Tensor:
    """Box `boxes[b]` of `images[b]` resized to `image_size`, left and right swapped where `mirrored[b]`: uint8 [B, H, W, C].

    Bilinear with antialiasing.
    """
    # on one thread: torch's own threads within ours, and Python's lock, take longer than a second core gains
    crops = torch.empty((len(images), *image_size, images[0].shape[2]), dtype=torch.uint8)
    for b, image in enumerate(images):
        crops[b] = crop_one(image, boxes[b], bool(mirrored[b]), image_size)
    return crops


def crop_one(
    image: NDArray[np.uint8], box: NDArray[np.int64], mirrored: bool, image_size: tuple[int, int]
) -> torch.Tensor:
    """The box (top, left, height, width) of `image` uint8 [H0, W0, C] as uint8 [H, W, C]."""
    top, left, height, width = box
    # a batch of one in channels-last strides: torch resizes these twice as fast as a bare permuted image
    pixels = as_tensor(image[top : top + height, left : left + width])[None].permute(0, 3, 1, 2)
    if mirrored:
        pixels = pixels.flip(-1)
    resized = F.interpolate(pixels, size=image_size, mode="bilinear", antialias=True, align_corners=False)
    return resized[0].permute(1, 2, 0)


def shrink(images: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    """Images uint8 [B, H0, W0, C] at `image_size`, uint8 [B, H, W, C]. Bilinear with antialiasing."""
    planes = images.permute(0, 3, 1, 2)
    return F.interpolate(planes, size=image_size, mode="bilinear", antialias=True).permute(0, 2, 3, 1).contiguous()


def as_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Without a copy where the array may be written to; torch does not know arrays that may not, such as a mapped file's."""
    return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())


def crop_small(
    images: NDArray[np.uint8],
    boxes: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
    image_size: tuple[int, int],
) -> torch.Tensor:
    """As `crop_batch`, for uint8 [B, H0, W0, C] of one small size: the whole batch in two batched matrix products.

    Weights are whole 256ths, so every product and sum is a whole number below 2^24, which float32 holds exactly: the
    result is the same in whatever order, batch or number of threads the sums are taken.
    """
    count, height, width, channels = images.shape
    out_height, out_width = image_size
    along_rows = _resampling_table(height, out_height)[_table_row(boxes[:, 0], boxes[:, 2], height)]
    columns = _table_row(boxes[:, 1], boxes[:, 3], width) + torch.from_numpy(mirrored) * _num_segments(width)
    along_columns = _resampling_table(width, out_width)[columns]
    pixels = torch.from_numpy(images).view(count, height, width * channels).float()
    rows = torch.bmm(along_rows, pixels).view(count, out_height, width, channels)
    turned = rows.transpose(1, 2).reshape(count, width, out_height * channels)
    levels = torch.bmm(along_columns, turned).add_(_UNIT**2 // 2).mul_(1 / _UNIT**2)
    return levels.to(torch.uint8).view(count, out_width, out_height, channels).transpose(1, 2).contiguous()


def _num_segments(side: int) -> int:
    return side * (side + 1) // 2


def _table_bytes(shape: tuple[int, int, int], image_size: tuple[int, int]) -> int:
    return max(2 * _num_segments(shape[axis]) * shape[axis] * image_size[axis] * 4 for axis in (0, 1))


def _table_row(starts: NDArray[np.int64], lengths: NDArray[np.int64], side: int) -> torch.Tensor:
    """Where `_resampling_table` holds the segment of each (start, length): int64 [B]."""
    shorter = lengths - 1
    return torch.from_numpy(shorter * side - shorter * (shorter - 1) // 2 + starts)


@lru_cache(maxsize=8)
def _resampling_table(side: int, out_side: int) -> torch.Tensor:
    """For each segment of `side` px the matrix that resizes it to `out_side` px: float32 [S, out_side, side], then mirrored.

    S counts all segments, by length, then by start. A row is a triangle over the segment's pixels (antialiasing where
    it shrinks), in whole 256ths that sum to 1, scaled by 256.
    """
    lengths = np.repeat(np.arange(1, side + 1), np.arange(side, 0, -1))
    starts = np.concatenate([np.arange(side - length + 1) for length in range(1, side + 1)])
    scale = lengths[:, None, None] / out_side
    centres = starts[:, None, None] + (np.arange(out_side)[None, :, None] + 0.5) * scale
    pixels = np.arange(side)[None, None, :]
    weights = np.maximum(0, 1 - np.abs(pixels + 0.5 - centres) / np.maximum(scale, 1))
    weights *= (pixels >= starts[:, None, None]) & (pixels < (starts + lengths)[:, None, None])
    # rounding the running sum keeps every row at exactly 256
    sums = np.rint(np.cumsum(weights / weights.sum(axis=2, keepdims=True), axis=2) * _UNIT)
    table = np.diff(sums, axis=2, prepend=0).astype(np.float32)
    return torch.from_numpy(np.concatenate([table, table[:, ::-1]]))


def mirror(images: torch.Tensor, mirrored: NDArray[np.bool_]) -> torch.Tensor:
    """Image b of [B, H, W, C] with left and right swapped where `mirrored[b]`."""
    chosen = torch.from_numpy(np.flatnonzero(mirrored))
    turned = images.clone()
    turned[chosen] = images[chosen].flip(2)
    return turned


def translate(images: torch.Tensor, shifts: NDArray[np.int64], max_px: int) -> torch.Tensor:
    """uint8 [B, H, W, C] moved down and right by `shifts` int64 [B, 2] px, each from -`max_px` to `max_px`.

    What comes in from outside is the reflection in the edge.
    """
    _, height, width, _ = images.shape
    padded = np.pad(images.numpy(), ((0, 0), (max_px, max_px), (max_px, max_px), (0, 0)), mode="reflect")
    windows = np.moveaxis(sliding_window_view(padded, (height, width), axis=(1, 2)), 3, -1)  # [B, S, S, H, W, C]
    chosen = windows[np.arange(len(images)), max_px - shifts[:, 0], max_px - shifts[:, 1]]
    return torch.from_numpy(np.ascontiguousarray(chosen))


def affine_matrices(
    *,
    degrees: NDArray[np.float64],
    zoom: NDArray[np.float64],
    shift: NDArray[np.float64],
    shear: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """float64 [B, 2, 3] from output to input places, in units of half a side with the origin in the middle.

    `zoom` above 1 shows more, so things look smaller; `shift` and `shear` [B, 2] are (x, y), `shift` in sides.
    """
    angle = np.radians(degrees)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    turn = np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
    if shear is not None:
        slant = np.tile(np.eye(2), (len(shear), 1, 1))
        slant[:, 0, 1], slant[:, 1, 0] = shear[:, 0], shear[:, 1]
        turn = turn @ slant
    return np.concatenate([turn, 2 * shift[:, :, None]], axis=2)


def warp(images: torch.Tensor, matrices: NDArray[np.float64]) -> torch.Tensor:
    """uint8 [B, H, W, C] sampled bilinearly where `matrices` [B, 2, 3] say; edges repeat outwards."""
    count, height, width, _ = images.shape
    terms = torch.from_numpy(matrices).float().view(count, 2, 3, 1, 1)
    y = ((2 * torch.arange(height) + 1) / height - 1).view(1, height, 1)
    x = ((2 * torch.arange(width) + 1) / width - 1).view(1, 1, width)
    # term by term: affine_grid's matrix product may sum in another order for another batch
    # the off-diagonal terms carry the aspect, so that a turn stays a turn where the sides differ
    places = [
        terms[:, 0, 0] * x + terms[:, 0, 1] * (height / width) * y + terms[:, 0, 2],
        terms[:, 1, 0] * (width / height) * x + terms[:, 1, 1] * y + terms[:, 1, 2],
    ]
    grid = torch.stack(places, dim=3)
    planes = images.permute(0, 3, 1, 2).float()
    sampled = F.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
