"""The decoded cache: images in memory while they fit, else in one mapped file of the user's cache, else decoded each time.

A file stands under its final name only when it is whole: it is written beside, flushed, then renamed. Two processes may
build the same entry at once; each uses what it wrote, and the later rename wins with the same content. A file whose size,
digest or key is not as written is built anew. Its key is taken over the content hashes of the images and all that decides
how they are read, so edited photos or another input size never meet old pixels.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
from numpy.typing import NDArray

from recog.core.errors import BadImage, DataError
from recog.core.files import cache_folder, canonical_json, sha256_bytes
from recog.core.hardware import available_memory_bytes
from recog.data.dataset import Sample
from recog.data.store import ImageStore, Reader, Shape, StreamedImages, read_images

PURPOSE = "images"
SUFFIX = ".images"
UNFINISHED = ".unfinished"
MEMORY_SHARE = 0.4  # of the memory that is free; three splits may be held at once, and training needs the rest
MIN_FREE_DISK_BYTES = 1 << 30  # left for others
FORMAT_VERSION = 1
_MAGIC = b"recog images 1\n\0"
_DATA_START = 4096  # pixels begin on a page
_HEADER_BYTES = len(_MAGIC) + 8 + 8 + 32  # magic, where the index begins, its length, its sha256
_CHECK_DISK_EVERY = 64 << 20


@dataclass(frozen=True, kw_only=True)
class DecodedImages:
    """What can be used of some samples: `images[r]` is that of sample `rows[r]`; `bad` are the others."""

    images: ImageStore | StreamedImages
    rows: NDArray[np.int64]
    bad: tuple[BadImage, ...]
    note: str | None = None  # where the images are, if not in memory


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One file of the cache as it is listed; `problem` says why it cannot be used."""

    path: Path
    num_bytes: int
    name: str = ""  # of the data
    reader: str = ""
    num_images: int = 0
    problem: str | None = None


class DamagedEntryError(DataError):
    """A cache file that is not as it was written."""


def decode_images(
    samples: Sequence[Sample],
    reader: Reader,
    hashes: Sequence[str],
    *,
    name: str,
    max_memory_bytes: int | None = None,
    num_sharers: int = 1,
) -> DecodedImages:
    """All `samples`, whose content hashes are `hashes`, through `reader`; from the cache where it holds them.

    `name` is shown by `recog cache`. Up to `max_memory_bytes` are held in memory, by default a share of what is free, of
    which each of `num_sharers` processes on this machine has its part; what is mapped from the cache they have in common.
    """
    key = cache_key(hashes, reader)
    found = _from_cache(key, samples)
    if found is not None:
        return found
    if max_memory_bytes is None:
        max_memory_bytes = int(MEMORY_SHARE * available_memory_bytes()) // num_sharers
    index = _Index(name=name, key=key, reader=reader.describe())
    pixels, problem = _collect(samples, reader, index, max_memory_bytes)
    if pixels is not None:
        note = f"{_sizes(index)} are mapped from the cache" if isinstance(pixels, np.memmap) else None
        return _decoded(pixels, index, len(samples), note)
    streamed = StreamedImages(
        [samples[row] for row in index.good_rows(len(samples))], reader, one_shape=reader.one_shape
    )
    note = (
        f"{_sizes(index)} fit neither memory nor the cache ({problem}), so every epoch decodes them again; "
        "free some space, or set XDG_CACHE_HOME to a folder on a larger disk"
    )
    return _decoded(streamed, index, len(samples), note)


def _collect(
    samples: Sequence[Sample], reader: Reader, index: _Index, budget: int
) -> tuple[NDArray[np.uint8] | None, str]:
    """All pixels in memory or a mapped file, and `index` filled; None and the reason where neither has the room."""
    pixels = _Pixels(index.key, budget)
    try:
        for row, image in enumerate(read_images(samples, reader)):
            if isinstance(image, BadImage):
                index.bad.append((row, image.name, image.reason, image.remedy))
            else:
                index.shapes.append(image.shape)
                pixels.add(image)  # also where there is no room: what is bad must still be found
        return pixels.finish(index), pixels.problem
    finally:
        pixels.discard()


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
            size = path.stat().st_size
        except OSError:
            continue  # another process removed or renamed it just now
        if path.name.endswith(UNFINISHED):
            entries.append(CacheEntry(path=path, num_bytes=size, problem="unfinished; a run writes it or was stopped"))
        elif path.name.endswith(SUFFIX):
            entries.append(_describe(path, size))
    return sorted(entries, key=lambda entry: -entry.num_bytes)


def clear_entries() -> list[CacheEntry]:
    """Remove every file of the cache; what a running process has open stays readable for it."""
    entries = list_entries()
    for entry in entries:
        entry.path.unlink(missing_ok=True)
    return entries


def _describe(path: Path, size: int) -> CacheEntry:
    try:
        index, _ = _read_index(path)
    except DamagedEntryError as error:
        return CacheEntry(path=path, num_bytes=size, problem=str(error))
    return CacheEntry(
        path=path, num_bytes=size, name=index.name, reader=str(index.reader["reader"]), num_images=len(index.shapes)
    )


@dataclass(kw_only=True)
class _Index:
    """What a cache file says about its pixels."""

    name: str
    key: str
    reader: dict[str, Any]

    def __post_init__(self) -> None:
        self.shapes: list[Shape] = []
        self.bad: list[tuple[int, str, str, str]] = []  # row, name, reason, remedy

    def good_rows(self, num_samples: int) -> NDArray[np.int64]:
        return np.setdiff1d(np.arange(num_samples), [row for row, *_ in self.bad])

    def to_json(self) -> bytes:
        table = {"name": self.name, "key": self.key, "reader": self.reader, "shapes": self.shapes, "bad": self.bad}
        return canonical_json(table)

    @classmethod
    def from_json(cls, data: bytes) -> _Index:
        table = json.loads(data)
        index = cls(name=table["name"], key=table["key"], reader=table["reader"])
        index.shapes = [(h, w, c) for h, w, c in table["shapes"]]
        index.bad = [(row, name, reason, remedy) for row, name, reason, remedy in table["bad"]]
        return index


def _decoded(
    images: ImageStore | StreamedImages | NDArray[np.uint8], index: _Index, num_samples: int, note: str | None
) -> DecodedImages:
    if isinstance(images, np.ndarray):
        images = ImageStore.over(images, index.shapes)
    bad = tuple(BadImage(name, reason, remedy) for _, name, reason, remedy in index.bad)
    return DecodedImages(images=images, rows=index.good_rows(num_samples), bad=bad, note=note)


def _sizes(index: _Index) -> str:
    num_bytes = sum(h * w * c for h, w, c in index.shapes)
    return f"{len(index.shapes):,} decoded images of {num_bytes / 1e9:.1f} GB"


def _from_cache(key: str, samples: Sequence[Sample]) -> DecodedImages | None:
    try:
        path = cache_folder(PURPOSE) / f"{key}{SUFFIX}"
        if not path.exists():
            return None
        index, num_bytes = _read_index(path)
        if index.key != key:
            raise DamagedEntryError("it holds other data")
        pixels = _map(path, num_bytes)
    except (DataError, OSError, ValueError):
        return None  # it is built anew, or is not needed
    index.bad = [(row, samples[row].name, reason, remedy) for row, _, reason, remedy in index.bad]
    return _decoded(pixels, index, len(samples), f"{_sizes(index)} from {path}")


def _read_index(path: Path) -> tuple[_Index, int]:
    """The index and the pixels' number of bytes; DamagedEntryError where size, digest or counts are not as written."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            start, length = (int.from_bytes(header[at : at + 8], "little") for at in (16, 24))
            if not header.startswith(_MAGIC) or start + length != os.fstat(file.fileno()).st_size:
                raise DamagedEntryError("its size is not as written")
            file.seek(start)
            data = file.read(length)
        if hashlib.sha256(data).digest() != header[32:]:
            raise DamagedEntryError("its index is not as written")
        index = _Index.from_json(data)
    except OSError as error:
        raise DamagedEntryError(f"it cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise DamagedEntryError("its index cannot be read") from None
    num_bytes = sum(h * w * c for h, w, c in index.shapes)
    if _DATA_START + num_bytes != start:
        raise DamagedEntryError("its pixels are not as many as its index says")
    return index, num_bytes


def _map(file: Path | BinaryIO, num_bytes: int) -> NDArray[np.uint8]:
    return np.memmap(file, dtype=np.uint8, mode="r", offset=_DATA_START, shape=(num_bytes,))


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
        self._file: _File | None = None
        self.problem = ""

    def add(self, image: NDArray[np.uint8]) -> None:
        if self._memory is not None and self._memory.add(image):
            return
        if not self.problem:
            try:
                self._file = self._file or _File(self._key)
                if self._memory is not None:
                    self._file.add(self._memory.pixels)
                self._file.add(image)
            except (OSError, DataError) as error:
                self.problem = _why(error)
                self.discard()
        self._memory = None

    def finish(self, index: _Index) -> NDArray[np.uint8] | None:
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


class _File:
    """A cache file in the making, under a name that no reader takes."""

    def __init__(self, key: str) -> None:
        folder = cache_folder(PURPOSE)
        self.target = folder / f"{key}{SUFFIX}"
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=key[:16] + "-", suffix=UNFINISHED)
        self._path = Path(name)
        self._file: BinaryIO = os.fdopen(descriptor, "w+b")
        self._file.seek(_DATA_START)
        self._since_check = _CHECK_DISK_EVERY

    def add(self, pixels: NDArray[np.uint8]) -> None:
        self._since_check += pixels.size
        if self._since_check >= _CHECK_DISK_EVERY:
            self._since_check = 0
            if shutil.disk_usage(self._path.parent).free < MIN_FREE_DISK_BYTES + _CHECK_DISK_EVERY:
                raise OSError(28, f"less than {MIN_FREE_DISK_BYTES >> 20:,} MiB would be left on its disk")
        self._file.write(np.ascontiguousarray(pixels).data)

    def finish(self, index: _Index) -> NDArray[np.uint8]:
        """Give the file its name and map what was written, even if somebody has cleared the cache meanwhile."""
        start = self._file.tell()
        data = index.to_json()
        self._file.write(data)
        header = _MAGIC + start.to_bytes(8, "little") + len(data).to_bytes(8, "little") + hashlib.sha256(data).digest()
        self._file.seek(0)
        self._file.write(header)
        self._file.flush()
        os.fsync(self._file.fileno())
        pixels = _map(self._file, start - _DATA_START)
        with contextlib.suppress(FileNotFoundError):
            self._path.replace(self.target)
        self._file.close()
        return pixels

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()  # flushing what is buffered may fail again
        self._path.unlink(missing_ok=True)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@dataclass(frozen=True, kw_only=True)
class CacheListing:
    """The files of the decoded cache, the largest first; `cleared` says whether they have just been removed."""

    folder: Path
    entries: tuple[CacheEntry, ...]
    cleared: bool

    @property
    def num_bytes(self) -> int:
        return sum(entry.num_bytes for entry in self.entries)


def cache(*, clear: bool = False) -> CacheListing:
    """List the decoded cache, and empty it where `clear` is set. Runs that have it open keep what they read."""
    entries = clear_entries() if clear else list_entries()
    return CacheListing(folder=cache_folder(PURPOSE), entries=tuple(entries), cleared=clear)
