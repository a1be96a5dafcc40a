"""Decode once: all images of a run as uint8 in one buffer, read by several threads, bad files named and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.decode import decode
from recog.core.errors import BadImage, DataError
from recog.core.hardware import num_cores
from recog.core.preprocess import Preprocess
from recog.data.dataset import Dataset, Exclusion, Sample

BadImagePolicy = Literal["skip", "error", "quarantine"]
MAX_BAD_FRACTION = 0.01  # above this share of the files, skipping would hide that something is wrong

ReadImage = Callable[[Sample], NDArray[np.uint8]]


class ImageStore:
    """Images uint8 [H, W, C] of any sizes, in one flat buffer, so that processes can share them without copies."""

    def __init__(self, images: Sequence[NDArray[np.uint8]]) -> None:
        self._shapes = [image.shape for image in images]
        self._starts = np.cumsum([0, *(image.size for image in images)])
        self._buffer = np.empty(self._starts[-1], dtype=np.uint8)
        for image, start, end in zip(images, self._starts, self._starts[1:], strict=False):
            self._buffer[start:end] = image.reshape(-1)

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Image `index`, uint8 [H, W, C], a view."""
        flat = self._buffer[self._starts[index] : self._starts[index + 1]]
        return flat.reshape(self._shapes[index])

    @property
    def num_bytes(self) -> int:
        return int(self._starts[-1])

    @property
    def one_shape(self) -> tuple[int, int, int] | None:
        """The shape that all images share, or None."""
        return self._shapes[0] if len(set(self._shapes)) == 1 else None

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel over all pixels, on the scale [0, 1], to six digits."""
        channels = self._shapes[0][2]
        counts = np.stack(
            [np.bincount(self._buffer[c::channels], minlength=256).astype(np.float64) for c in range(channels)]
        )  # every image holds whole pixels, so the flat buffer keeps the channels in turn
        levels = np.arange(256) / 255
        shares = counts / counts.sum(axis=1, keepdims=True)
        means = shares @ levels
        deviations = np.sqrt(np.maximum(shares @ levels**2 - means**2, 1e-6))
        return tuple(round(float(m), 6) for m in means), tuple(round(float(d), 6) for d in deviations)

    def stack(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """Images of one shape as uint8 [B, H, W, C]: those at `indices`, or all of them without a copy."""
        shape = self.one_shape
        if shape is None:
            raise DataError("images of several sizes cannot be stacked; they need Preprocess first.")
        images: NDArray[np.uint8] = self._buffer.reshape(len(self), *shape)
        chosen: NDArray[np.uint8] = images if indices is None else images[indices]
        return chosen


def read_exact(preprocess: Preprocess) -> ReadImage:
    """The reader that evaluation uses: the one decoder and the one Preprocess."""

    def read(sample: Sample) -> NDArray[np.uint8]:
        return preprocess.read(sample.source, name=sample.name)

    return read


def read_larger(preprocess: Preprocess, margin: float = 1.15) -> ReadImage:
    """The reader that training augments from: whole images, the short side `margin` times the network's, or smaller."""
    short_side = round(max(preprocess.image_size) * margin)

    def read(sample: Sample) -> NDArray[np.uint8]:
        image = decode(
            sample.source,
            name=sample.name,
            channels=preprocess.channels,
            min_side=short_side,
            grey16_max=preprocess.grey16_max,
        )
        return shrink_to_short_side(image, short_side)

    return read


def shrink_to_short_side(image: NDArray[np.uint8], short_side: int) -> NDArray[np.uint8]:
    """uint8 [H, W, C] with its short side at `short_side` px, bicubic; an image that is smaller already stays."""
    height, width, channels = image.shape
    scale = short_side / min(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pixels = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    return np.asarray(pixels.resize(size, Image.Resampling.BICUBIC)).reshape(size[1], size[0], channels)


def read_images(
    samples: Sequence[Sample], read: ReadImage, *, num_threads: int | None = None
) -> Iterator[NDArray[np.uint8] | BadImage]:
    """Per sample, in order: its image, or the BadImage that says why there is none. Pillow decodes outside Python's lock."""

    def attempt(sample: Sample) -> NDArray[np.uint8] | BadImage:
        try:
            return read(sample)
        except BadImage as error:
            return error

    with ThreadPoolExecutor(num_threads or num_cores()) as pool:
        yield from pool.map(attempt, samples)


def exclude_bad(dataset: Dataset, bad: Sequence[BadImage], *, policy: BadImagePolicy) -> Dataset:
    """The dataset without its bad files. DataError by policy 'error', or where they are above 1 % of all."""
    if not bad:
        return dataset
    listed = "\n".join(f"  {error}" for error in bad[:10])
    more = f"\n  and {len(bad) - 10} more" if len(bad) > 10 else ""
    share = len(bad) / len(dataset.samples)
    if policy == "error" or share > MAX_BAD_FRACTION:
        why = "data.bad_images is 'error'" if policy == "error" else f"more than {MAX_BAD_FRACTION:.0%} of all"
        raise DataError(
            f"{len(bad)} of {len(dataset.samples)} files of {dataset.name} cannot be used ({why}):\n{listed}{more}\n"
            "Mend or remove them, then start again."
        )
    return dataset.without(Exclusion(name=error.name, reason=error.reason) for error in bad)
