"""Decode once: images of a run as uint8, in memory, in a mapped file or read again each time; bad files named and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.core.errors import BadImage, DataError
from recog.core.files import natural_key
from recog.core.parallel import map_in_parallel
from recog.core.preprocess import Preprocess
from recog.core.text import plural, visible
from recog.data.dataset import Dataset, Exclusion, Sample

BadImagePolicy = Literal["auto", "skip", "error", "quarantine"]
MAX_BAD_FRACTION, MAX_BAD_FILES = 0.01, 3  # by policy auto the larger of both; more would hide that something is wrong
MAX_REMEDIES = 3  # that a message on bad files names
_COUNTED_AT_ONCE = 3 << 20  # bytes: bincount widens what it counts eightfold

Shape = tuple[int, int, int]
T = TypeVar("T")


class ReadImage(Protocol):
    """From a sample to its image, uint8 [H, W, C]; raises BadImage."""

    def __call__(self, sample: Sample, /) -> NDArray[np.uint8]: ...


class Rows(Protocol):
    """Images of one shape, uint8 [N, H, W, C], that are taken a slice at a time; a NumPy array is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]: ...


class Images(Protocol):
    """What holds the images of a split, wherever they are."""

    def __len__(self) -> int: ...

    def fetch(self, indices: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """The images at `indices` int64 [B], each uint8 [H, W, C] of its own size; not to be written to."""
        ...

    @property
    def one_shape(self) -> Shape | None:
        """The shape that all images share, or None."""
        ...

    def stack(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images at `indices` int64 [B], which have one shape, as a new array uint8 [B, H, W, C]."""
        ...

    def rows(self) -> Rows:
        """All images, which have one shape, in order, without a copy of the whole."""
        ...


class ImageStore:
    """Images uint8 [H, W, C] of any sizes, in one flat buffer, so that processes can share them without copies."""

    def __init__(self, images: Sequence[NDArray[np.uint8]]) -> None:
        buffer = np.empty(sum(image.size for image in images), dtype=np.uint8)
        end = 0
        for image in images:
            buffer[end : end + image.size] = image.reshape(-1)
            end += image.size
        self._lay_out(buffer, [image.shape for image in images])

    @classmethod
    def over(cls, buffer: NDArray[np.uint8], shapes: Sequence[Shape]) -> ImageStore:
        """The images of `shapes` that stand one after another in `buffer` uint8 [bytes], which is not copied."""
        store = cls.__new__(cls)
        store._lay_out(buffer, shapes)
        return store

    def _lay_out(self, buffer: NDArray[np.uint8], shapes: Sequence[Shape]) -> None:
        self._buffer = buffer
        self._shapes = list(shapes)
        self._starts = np.cumsum([0, *(h * w * c for h, w, c in self._shapes)])
        self._one_shape = self._shapes[0] if len(set(self._shapes)) == 1 else None

    def __len__(self) -> int:
        return len(self._shapes)

    def _before_use(self, indices: NDArray[np.int64]) -> None:
        """Called with the images that are about to be read, for stores that check them first."""

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Image `index`, uint8 [H, W, C], a view."""
        self._before_use(np.array([index]))
        flat = self._buffer[self._starts[index] : self._starts[index + 1]]
        return flat.reshape(self._shapes[index])

    def fetch(self, indices: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        return [self[i] for i in indices]

    @property
    def num_bytes(self) -> int:
        return int(self._starts[-1])

    @property
    def one_shape(self) -> Shape | None:
        return self._one_shape

    def stack(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """Images of one shape as uint8 [B, H, W, C]: those at `indices`, or all of them without a copy."""
        shape = self._one_shape
        if shape is None:
            raise DataError("images of several sizes cannot be stacked; they need Preprocess first.")
        self._before_use(np.arange(len(self)) if indices is None else indices)
        images: NDArray[np.uint8] = self._buffer.reshape(len(self), *shape)
        chosen: NDArray[np.uint8] = images if indices is None else images[indices]
        return chosen

    def rows(self) -> Rows:
        return self.stack()

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """As the function `channel_statistics`, of this store."""
        return channel_statistics(self)

    def pixel_blocks(self) -> Iterator[NDArray[np.uint8]]:
        """All pixels, uint8 [P, C] at a time."""
        channels = self._shapes[0][2]
        step = _COUNTED_AT_ONCE // channels * channels
        for start in range(0, len(self._buffer), step):  # every image holds whole pixels, so channels keep their turn
            block = self._buffer[start : start + step]
            first, last = np.searchsorted(self._starts, [start, start + len(block) - 1], side="right") - 1
            self._before_use(np.arange(first, last + 1))
            yield block.reshape(-1, channels)


class StreamedImages:
    """Images that fit neither memory nor the disk's cache: each is decoded when it is asked for, and not kept."""

    def __init__(self, samples: Sequence[Sample], read: ReadImage, *, one_shape: Shape | None) -> None:
        self._samples = list(samples)
        self._read = read
        self._one_shape = one_shape

    def __len__(self) -> int:
        return len(self._samples)

    def fetch(self, indices: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        images = []
        for image in read_images([self._samples[i] for i in indices], self._read):
            if isinstance(image, BadImage):
                raise image  # it was whole when the run began, so it must not be passed over now
            images.append(image)
        return images

    @property
    def one_shape(self) -> Shape | None:
        return self._one_shape

    def stack(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack(self.fetch(indices))

    def rows(self) -> Rows:
        return LazyRows(self)

    def pixel_blocks(self) -> Iterator[NDArray[np.uint8]]:
        for image in read_images(self._samples, self._read):
            if isinstance(image, BadImage):
                raise image
            yield image.reshape(-1, image.shape[2])


class ChosenImages:
    """Some images of a store, without a copy: those at `indices` int64 [N], in their order."""

    def __init__(self, images: Images, indices: NDArray[np.int64]) -> None:
        self._images, self._indices = images, indices

    def __len__(self) -> int:
        return len(self._indices)

    def fetch(self, indices: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        return self._images.fetch(self._indices[indices])

    @property
    def one_shape(self) -> Shape | None:
        return self._images.one_shape

    def stack(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._images.stack(self._indices[indices])

    def rows(self) -> Rows:
        return LazyRows(self)

    def pixel_blocks(self) -> Iterator[NDArray[np.uint8]]:
        for index in range(len(self)):
            (image,) = self.fetch(np.array([index]))
            yield image.reshape(-1, image.shape[2])


class LazyRows:
    """Rows of a store, read a slice at a time."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        return self._images.stack(np.arange(len(self))[rows])


def channel_statistics(
    images: ImageStore | StreamedImages | ChosenImages,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel over all pixels, on the scale [0, 1], to six digits."""
    channels = images.fetch(np.zeros(1, dtype=np.int64))[0].shape[2]
    counts = np.zeros((channels, 256))
    for pixels in images.pixel_blocks():
        counts += np.stack([np.bincount(pixels[:, c], minlength=256) for c in range(channels)])
    levels = np.arange(256) / 255
    shares = counts / counts.sum(axis=1, keepdims=True)
    means = shares @ levels
    deviations = np.sqrt(np.maximum(shares @ levels**2 - means**2, 1e-6))
    return tuple(round(float(m), 6) for m in means), tuple(round(float(d), 6) for d in deviations)


@dataclass(frozen=True)
class ExactReader:
    """What evaluation sees: the one decoder and the one Preprocess."""

    preprocess: Preprocess

    @property
    def min_side(self) -> int:
        return self.preprocess.min_side

    def __call__(self, sample: Sample) -> NDArray[np.uint8]:
        return self.preprocess.read(sample.source, name=sample.name)

    def of(self, image: Image.Image, name: str) -> NDArray[np.uint8]:
        """From the decoded image."""
        return self.preprocess.fit(image, name)

    @property
    def one_shape(self) -> Shape | None:
        return (*self.preprocess.image_size, self.preprocess.channels)

    def describe(self) -> dict[str, Any]:
        """All that decides what is read, for a cache's key."""
        return {"reader": "exact", **self.preprocess.to_dict()}


@dataclass(frozen=True)
class LargerReader:
    """What training augments from: whole images, the short side `margin` times the network's, or smaller."""

    preprocess: Preprocess
    margin: float = 1.15

    @property
    def short_side(self) -> int:
        return round(max(self.preprocess.image_size) * self.margin)

    @property
    def min_side(self) -> int:
        return self.short_side

    def __call__(self, sample: Sample) -> NDArray[np.uint8]:
        image = self.preprocess.decode(sample.source, name=sample.name, min_side=self.min_side)
        return self.of(image, sample.name)

    def of(self, image: Image.Image, name: str) -> NDArray[np.uint8]:
        """From the decoded image."""
        pixels = np.array(image).reshape(image.height, image.width, self.preprocess.channels)
        return shrink_to_short_side(pixels, self.short_side)

    @property
    def one_shape(self) -> Shape | None:
        return None

    def describe(self) -> dict[str, Any]:
        table = {"channels": self.preprocess.channels, "grey16_max": self.preprocess.grey16_max}
        return {"reader": "larger", "short_side": self.short_side, **table}


Reader = ExactReader | LargerReader


def read_exact(preprocess: Preprocess) -> ExactReader:
    """The reader that evaluation uses."""
    return ExactReader(preprocess)


def read_larger(preprocess: Preprocess, margin: float = 1.15) -> LargerReader:
    """The reader that training augments from."""
    return LargerReader(preprocess, margin)


def read_each(sample: Sample, readers: Sequence[Reader]) -> list[NDArray[np.uint8] | BadImage]:
    """What each of `readers`, which differ in size only, reads of `sample`; decoded once where that gives the same pixels."""
    largest = max(readers, key=lambda reader: reader.min_side)
    image = largest.preprocess.decode(sample.source, name=sample.name, min_side=largest.min_side)
    found: list[NDArray[np.uint8] | BadImage] = []
    for reader in readers:
        # a JPEG file is halved while its short side stays at 2 * min_side, so from 4 * min_side on it may be smaller
        is_same = reader.min_side == largest.min_side or min(image.size) < 4 * reader.min_side
        try:
            found.append(reader.of(image, sample.name) if is_same else reader(sample))
        except BadImage as error:
            found.append(error)
    return found


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
    samples: Sequence[Sample], read: Callable[[Sample], T], *, num_threads: int | None = None
) -> Iterator[T | BadImage]:
    """Per sample, in order: what `read` makes of it, such as its image, or the BadImage with the reason."""

    def attempt(sample: Sample) -> T | BadImage:
        try:
            return read(sample)
        except BadImage as error:
            return error

    return map_in_parallel(attempt, samples, num_threads=num_threads)


def exclude_bad(dataset: Dataset, bad: Sequence[BadImage], *, policy: BadImagePolicy) -> Dataset:
    """The dataset without its bad files.

    DataError by policy 'error', and by policy 'auto' where they are more than 1 % of all and more than 3.
    """
    if not bad:
        return dataset
    if policy == "error" or (policy == "auto" and are_too_many(len(bad), len(dataset.samples))):
        limit = f"more than {MAX_BAD_FRACTION:.0%} of all and more than {MAX_BAD_FILES}"
        why, remedy = (
            (limit, "\n  Or leave them out: --bad-images skip.") if policy == "auto" else ("--bad-images error", "")
        )
        raise DataError(
            f"{len(bad):,} of {plural(len(dataset.samples), 'file')} of {dataset.name} cannot be used ({why}):\n"
            f"{_listed(bad)}{remedy}"
        )
    return dataset.without(Exclusion(name=error.name, reason=error.reason) for error in bad)


def _listed(bad: Sequence[BadImage], limit: int = 10) -> str:
    """The first files by name with their reasons, a line each, then what to do, once."""
    first = sorted(bad, key=lambda error: natural_key(error.name))[:limit]
    more = [f"and {len(bad) - limit:,} more"] if len(bad) > limit else []
    remedies = list(dict.fromkeys(error.remedy for error in first))[:MAX_REMEDIES]
    lines = [*(f"{error.name}: {error.reason}" for error in first), *more, *remedies]
    return "\n".join(f"  {visible(line)}" for line in lines)


def are_too_many(num_bad: int, num_images: int) -> bool:
    """Whether policy 'auto' stops at so many bad files."""
    return num_bad > max(MAX_BAD_FRACTION * num_images, MAX_BAD_FILES)


def describe_bad(num_bad: int, num_images: int) -> list[str]:
    """A warning that images are left out; nothing where none is."""
    if not num_bad:
        return []
    files = "1 file is unusable and is" if num_bad == 1 else f"{num_bad:,} files are unusable and are"
    return [f"of {num_images:,} images {files} left out; --bad-images error stops instead"]
