"""The decoded cache: images in memory while they fit, else in one mapped file of the user's cache, else decoded each time.

Two processes may build the same entry at once; each uses what it wrote, and the later rename wins with the same content. A
file whose size, digest or key is not as written is built anew, with a warning. Its key is taken over the content hashes of
the images and all that decides how they are read, so edited photos or another input size never meet old pixels.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from recog.core.errors import BadImage, DataError
from recog.core.files import cache_folder, canonical_json, sha256_bytes
from recog.core.hardware import available_memory_bytes
from recog.data.cache_file import (
    FORMAT_VERSION,
    PURPOSE,
    SUFFIX,
    UNFINISHED,
    CachedImages,
    CacheFile,
    DamagedEntryError,
    Index,
    checksum,
    map_pixels,
    read_index,
)
from recog.data.dataset import Sample
from recog.data.store import ImageStore, Reader, Shape, StreamedImages, read_each, read_images

logger = logging.getLogger(__name__)

MEMORY_SHARE = 0.4  # of the memory that is free; three splits may be held at once, and training needs the rest


@dataclass(frozen=True, kw_only=True)
class DecodedImages:
    """What can be used of some samples: `images[r]` is that of sample `rows[r]`; `bad` are the others."""

    images: ImageStore | StreamedImages
    rows: NDArray[np.int64]
    bad: tuple[BadImage, ...]
    note: str | None = None  # where the images are, if not in memory


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One file of the cache as it is listed; `problem` is why it cannot be used."""

    path: Path
    num_bytes: int
    name: str = ""  # of the data
    reader: str = ""
    num_images: int = 0
    problem: str | None = None


def decode_for_each(
    samples: Sequence[Sample],
    readers: Sequence[Reader],
    hashes: Sequence[str],
    *,
    name: str,
    max_memory_bytes: int | None = None,
    num_sharers: int = 1,
) -> list[DecodedImages]:
    """For each of `readers` all `samples`, whose content hashes are `hashes`; from the cache where it holds them.

    Each file is decoded once, see `read_each`. `name` is shown by `recog cache`. Up to a share of the free memory is used, of
    which each of `num_sharers` processes on this machine has its part, and up to `max_memory_bytes`; what is mapped from the
    cache they have in common.
    """
    keys = [cache_key(hashes, reader) for reader in readers]
    cached = {key: _from_cache(key, samples, reader) for key, reader in zip(keys, readers, strict=True)}
    found = {key: decoded for key, decoded in cached.items() if decoded is not None}
    missing = {key: reader for key, reader in zip(keys, readers, strict=True) if key not in found}
    if missing:
        limit = int(MEMORY_SHARE * available_memory_bytes()) // num_sharers
        limit = limit if max_memory_bytes is None else min(limit, max_memory_bytes)
        building = [_Building(key, reader, limit // len(missing)) for key, reader in missing.items()]
        found |= dict(zip(missing, _decode_all(samples, building, name), strict=True))
    return [found[key] for key in keys]


def _decode_all(samples: Sequence[Sample], building: Sequence[_Building], name: str) -> list[DecodedImages]:
    readers = [part.reader for part in building]

    def read(sample: Sample) -> list[NDArray[np.uint8] | BadImage]:
        return read_each(sample, readers) if len(readers) > 1 else [readers[0](sample)]

    try:
        for row, images in enumerate(read_images(samples, read)):
            for number, part in enumerate(building):
                part.add(row, images if isinstance(images, BadImage) else images[number])
        return [part.finish(samples, name) for part in building]
    finally:
        for part in building:
            part.pixels.discard()


class _Building:
    """The images of one reader, on their way into an entry."""

    def __init__(self, key: str, reader: Reader, budget: int) -> None:
        self.reader, self.pixels = reader, _Pixels(key, budget)
        self._key = key
        self._shapes: list[Shape] = []
        self._checksums: list[int] = []
        self._bad: list[tuple[int, str, str, str]] = []

    def add(self, row: int, image: NDArray[np.uint8] | BadImage) -> None:
        if isinstance(image, BadImage):
            self._bad.append((row, image.name, image.reason, image.remedy))
            return
        self._shapes.append((image.shape[0], image.shape[1], image.shape[2]))
        self._checksums.append(checksum(image))
        self.pixels.add(image)  # also where there is no room: what is bad must still be found

    def finish(self, samples: Sequence[Sample], name: str) -> DecodedImages:
        index = Index(
            name=name,
            key=self._key,
            reader=str(self.reader.describe()["reader"]),
            shapes=tuple(self._shapes),
            checksums=tuple(self._checksums),
            bad=tuple(self._bad),
        )
        pixels = self.pixels.finish(index)
        if isinstance(pixels, np.memmap):
            images = CachedImages(pixels, index, samples, self.reader)
            return _decoded(images, index, samples, note=f"{_sizes(index)} are mapped from the cache")
        if pixels is not None:
            return _decoded(ImageStore.over(pixels, index.shapes), index, samples, note=None)
        good = [samples[row] for row in index.good_rows()]
        note = (
            f"{_sizes(index)} fit neither memory nor the cache ({self.pixels.problem}), so every epoch decodes them again; "
            "free some space, or set XDG_CACHE_HOME to a folder on a larger disk"
        )
        streamed = StreamedImages(good, self.reader, one_shape=self.reader.one_shape)
        return _decoded(streamed, index, samples, note=note)


def cache_key(hashes: Sequence[str], reader: Reader) -> str:
    """A digest over everything that decides the pixels: contents in order, the reading, the decoder's version."""
    table = {
        "format": FORMAT_VERSION,
        "pillow": PIL.__version__,
        "reader": reader.describe(),
        "hashes": list(hashes),
    }
    return sha256_bytes(canonical_json(table))


def list_entries() -> list[CacheEntry]:
    """Every file of the cache, the largest first, with those that a stopped run left unfinished."""
    entries = []
    for path in sorted(cache_folder(PURPOSE).iterdir()):
        try:
            found = path.lstat()
        except OSError:
            continue  # another process removed or renamed it just now
        if path.name.endswith(UNFINISHED) and stat.S_ISREG(found.st_mode):
            problem = "unfinished; a run writes it or was stopped"
            entries.append(CacheEntry(path=path, num_bytes=found.st_size, problem=problem))
        elif path.name.endswith((SUFFIX, UNFINISHED)):
            entries.append(_describe(path, found.st_size))
    return sorted(entries, key=lambda entry: -entry.num_bytes)


def clear_entries() -> list[CacheEntry]:
    """Remove every file of the cache; what a running process has open stays readable for it. A folder among them stays."""
    entries = [entry for entry in list_entries() if entry.path.is_symlink() or not entry.path.is_dir()]
    for entry in entries:
        entry.path.unlink(missing_ok=True)
    return entries


def _describe(path: Path, size: int) -> CacheEntry:
    try:
        index, _ = read_index(path)
    except DamagedEntryError as error:
        return CacheEntry(path=path, num_bytes=size, problem=str(error).removeprefix(f"{path} ").rstrip("."))
    return CacheEntry(path=path, num_bytes=size, name=index.name, reader=index.reader, num_images=len(index.shapes))


def _decoded(
    images: ImageStore | StreamedImages, index: Index, samples: Sequence[Sample], *, note: str | None
) -> DecodedImages:
    bad = tuple(BadImage(samples[row].name, reason, remedy) for row, _, reason, remedy in index.bad)
    return DecodedImages(images=images, rows=index.good_rows(), bad=bad, note=note)


def _sizes(index: Index) -> str:
    return f"{len(index.shapes):,} decoded images of {index.num_bytes / 1e9:.1f} GB"


def _from_cache(key: str, samples: Sequence[Sample], reader: Reader) -> DecodedImages | None:
    try:
        path = cache_folder(PURPOSE) / f"{key}{SUFFIX}"
        if not os.path.lexists(path):
            return None
        index, num_bytes = read_index(path)
        if index.key != key or index.num_samples != len(samples):
            raise DamagedEntryError(f"{path} holds other data.")
        pixels = map_pixels(path, num_bytes)
    except (DataError, OSError, ValueError) as error:
        logger.warning("warning: a file of the image cache is not used, the images are decoded again: %s", error)
        return None
    images = CachedImages(pixels, index, samples, reader)
    return _decoded(images, index, samples, note=f"{_sizes(index)} from {path}")


class _Memory:
    """A buffer of `limit` bytes of address space, of which only what is written takes memory."""

    def __init__(self, limit: int) -> None:
        try:
            self._buffer = np.empty(limit, dtype=np.uint8)
        except MemoryError:
            self._buffer = np.empty(0, dtype=np.uint8)
        self._used = 0

    def add(self, image: NDArray[np.uint8]) -> bool:
        """Whether there was room for `image`."""
        end = self._used + image.size
        if end > len(self._buffer):
            return False
        self._buffer[self._used : end] = image.reshape(-1)
        self._used = end
        return True

    def finish(self) -> NDArray[np.uint8]:
        self._buffer.resize(self._used, refcheck=False)
        return self._buffer

    @property
    def pixels(self) -> NDArray[np.uint8]:
        return self._buffer[: self._used]


class _Pixels:
    """Pixels on their way into memory, from there into a file once they are too many, and nowhere once the disk is full."""

    def __init__(self, key: str, budget: int) -> None:
        self._key = key
        self._memory: _Memory | None = _Memory(budget)
        self._file: CacheFile | None = None
        self.problem = ""

    def add(self, image: NDArray[np.uint8]) -> None:
        if self._memory is not None and self._memory.add(image):
            return
        if not self.problem:
            try:
                self._file = self._file or CacheFile(self._key)
                if self._memory is not None:
                    self._file.add(self._memory.pixels)
                self._file.add(image)
            except (OSError, DataError) as error:
                self.problem = _why(error)
                self.discard()
        self._memory = None

    def finish(self, index: Index) -> NDArray[np.uint8] | None:
        if self._memory is not None:
            return self._memory.finish()
        if self.problem or self._file is None:
            return None
        try:
            return self._file.finish(index)
        except OSError as error:
            self.problem = _why(error)
            return None

    def discard(self) -> None:
        """Remove what is unfinished."""
        if self._file is not None:
            self._file.discard()
            self._file = None


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@dataclass(frozen=True, kw_only=True)
class CacheListing:
    """The files of the decoded cache, the largest first; `cleared`: `entries` were removed, and `left` are what could not be."""

    folder: Path
    entries: tuple[CacheEntry, ...]
    cleared: bool
    left: tuple[CacheEntry, ...] = ()

    @property
    def num_bytes(self) -> int:
        return sum(entry.num_bytes for entry in self.entries)


def cache(*, clear: bool = False) -> CacheListing:
    """List the decoded cache, and empty it where `clear` is set. Runs that have it open keep what they read."""
    folder = cache_folder(PURPOSE)
    if not clear:
        return CacheListing(folder=folder, entries=tuple(list_entries()), cleared=False)
    removed = tuple(clear_entries())
    return CacheListing(folder=folder, entries=removed, cleared=True, left=tuple(list_entries()))
