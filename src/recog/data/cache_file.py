"""One file of the decoded cache: pixels, then an index with a checksum for each image.

A file has its final name only when it is whole: it is written beside, flushed, then renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import multiprocessing
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError
from recog.core.files import cache_folder, canonical_json, open_regular
from recog.core.records import decode_record
from recog.data.dataset import Sample
from recog.data.store import ImageStore, LazyRows, Reader, Rows, Shape

logger = logging.getLogger(__name__)

PURPOSE = "images"
SUFFIX = ".images"
UNFINISHED = ".unfinished"
FORMAT_VERSION = 2
DATA_START = 4096  # pixels begin on a page
MIN_FREE_DISK_BYTES = 1 << 30  # left for others
MAX_INDEX_BYTES = 1 << 30  # some ten million images
MAX_LISTED = 3  # damaged images that are named
_MAGIC = b"recog images 2\n\0"
_HEADER_BYTES = len(_MAGIC) + 8 + 8 + 32  # magic, where the index begins, its length, its sha256
_CHECK_DISK_EVERY = 64 << 20


class DamagedEntryError(DataError):
    """A cache file that is not as it was written."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """What a cache file holds beside its pixels."""

    name: str
    key: str
    reader: str
    shapes: tuple[Shape, ...]
    checksums: tuple[int, ...]  # `checksum` of each image
    bad: tuple[tuple[int, str, str, str], ...]  # row, name, reason, remedy; rows rise

    def __post_init__(self) -> None:
        rows = [row for row, *_ in self.bad]
        are_rows = rows == sorted(set(rows)) and all(0 <= row < len(rows) + len(self.shapes) for row in rows)
        if len(self.checksums) != len(self.shapes) or not are_rows or any(min(shape) < 1 for shape in self.shapes):
            raise DamagedEntryError("its shapes, checksums and bad rows do not belong together.")

    @property
    def num_samples(self) -> int:
        return len(self.shapes) + len(self.bad)

    @property
    def num_bytes(self) -> int:
        return sum(h * w * c for h, w, c in self.shapes)

    def good_rows(self) -> NDArray[np.int64]:
        return np.setdiff1d(np.arange(self.num_samples), [row for row, *_ in self.bad])

    def to_json(self) -> bytes:
        return canonical_json(asdict(self))


def read_index(path: Path) -> tuple[Index, int]:
    """The index and the pixels' number of bytes; DamagedEntryError where size, digest or counts are not as written."""
    with open_regular(path, error=DamagedEntryError) as file:
        try:
            header = file.read(_HEADER_BYTES)
            start, length = (int.from_bytes(header[at : at + 8], "little") for at in (16, 24))
            if not header.startswith(_MAGIC) or start + length != os.fstat(file.fileno()).st_size:
                raise DamagedEntryError(f"{path} is of another size than was written, or by another release.")
            if length > MAX_INDEX_BYTES:
                raise DamagedEntryError(
                    f"{path} has an index of {length:,} bytes; at most {MAX_INDEX_BYTES:,} are read."
                )
            file.seek(start)
            data = file.read(length)
        except OSError as error:
            raise DamagedEntryError(f"{path} cannot be read: {error.strerror}.") from None
    if hashlib.sha256(data).digest() != header[32:]:
        raise DamagedEntryError(f"{path} has an index that is not as written.")
    index = decode_record(data, Index, where=str(path), error=DamagedEntryError)
    if DATA_START + index.num_bytes != start:
        raise DamagedEntryError(f"{path} has another number of pixels than its index lists.")
    return index, index.num_bytes


class CachedImages(ImageStore):
    """Images mapped from a cache file: each is compared with its checksum when first used, and decoded again if it differs.

    A disk or a copy that flips a bit must not train another model. Processes that are forked from this one share which images
    were compared.
    """

    def __init__(self, pixels: NDArray[np.uint8], index: Index, samples: Sequence[Sample], reader: Reader) -> None:
        self._pixels = pixels
        readable = pixels.view()
        readable.flags.writeable = False
        self._lay_out(readable, index.shapes)
        self._checksums = index.checksums
        self._samples = [samples[row] for row in index.good_rows()]
        self._reader = reader
        self._num_restored = 0
        self._is_checked = np.frombuffer(mmap.mmap(-1, max(1, len(self))), dtype=np.bool_)

    def rows(self) -> Rows:
        return LazyRows(self)

    def stack(self, indices: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        images = super().stack(indices)
        if indices is not None and isinstance(self._pixels, np.memmap):
            _release(self._pixels)  # `images` is a copy
        return images

    def _before_use(self, indices: NDArray[np.int64]) -> None:
        for index in np.unique(indices[~self._is_checked[indices]]):
            at = slice(self._starts[index], self._starts[index + 1])
            if checksum(self._buffer[at]) != self._checksums[index]:
                self._restore(int(index), at)
            self._is_checked[index] = True

    def _restore(self, index: int, at: slice) -> None:
        sample = self._samples[index]
        self._num_restored += 1
        if self._num_restored <= MAX_LISTED:
            _warn(
                f"warning: {sample.name} is damaged in the image cache, probably on the disk; it is decoded again"
                + (". Further ones are not listed" if self._num_restored == MAX_LISTED else "")
            )
        image = self._reader(sample)
        if checksum(image) != self._checksums[index] or not self._pixels.flags.writeable:
            raise DataError(
                f"{sample.name} is damaged in the image cache and cannot be replaced there. To empty the cache: "
                "recog cache --clear"
            )
        self._pixels[at] = image.reshape(-1)


def checksum(image: NDArray[np.uint8]) -> int:
    """CRC-32 of the pixels in order: finds any error in up to 32 neighbouring bits, at some 2 GB/s."""
    return zlib.crc32(np.ascontiguousarray(image).data)


def _warn(text: str) -> None:
    logger.warning("%s", text)
    if multiprocessing.parent_process() is not None:  # a loader's process, whose log is not shown
        print(text, file=sys.__stderr__)


def map_pixels(file: Path | BinaryIO, num_bytes: int) -> NDArray[np.uint8]:
    """The pixels uint8 [bytes] of a cache file; writable where the file is, so that a damaged image can be replaced."""
    try:
        return np.memmap(file, dtype=np.uint8, mode="r+", offset=DATA_START, shape=(num_bytes,))
    except OSError:  # a cache that the user can only read
        return np.memmap(file, dtype=np.uint8, mode="r", offset=DATA_START, shape=(num_bytes,))


def _release(pixels: np.memmap[Any, Any]) -> None:
    """Let the mapped pages go, which would count as this process's memory; the system keeps them while it has room."""
    mapping = getattr(pixels, "_mmap", None)  # NumPy offers it in no other way
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


class CacheFile:
    """A cache file in the making, under a name that no reader takes."""

    def __init__(self, key: str) -> None:
        folder = cache_folder(PURPOSE)
        self.target = folder / f"{key}{SUFFIX}"
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=key[:16] + "-", suffix=UNFINISHED)
        self._path = Path(name)
        self._file: BinaryIO = os.fdopen(descriptor, "w+b")
        self._file.seek(DATA_START)
        self._since_check = _CHECK_DISK_EVERY

    def add(self, pixels: NDArray[np.uint8]) -> None:
        self._since_check += pixels.size
        if self._since_check >= _CHECK_DISK_EVERY:
            self._since_check = 0
            if shutil.disk_usage(self._path.parent).free < MIN_FREE_DISK_BYTES + _CHECK_DISK_EVERY:
                raise OSError(28, f"less than {MIN_FREE_DISK_BYTES >> 20:,} MiB would be left on its disk")
        self._file.write(np.ascontiguousarray(pixels).data)

    def finish(self, index: Index) -> NDArray[np.uint8]:
        """Give the file its name and map what was written, even if somebody has cleared the cache meanwhile."""
        start = self._file.tell()
        data = index.to_json()
        self._file.write(data)
        header = _MAGIC + start.to_bytes(8, "little") + len(data).to_bytes(8, "little") + hashlib.sha256(data).digest()
        self._file.seek(0)
        self._file.write(header)
        self._file.flush()
        os.fsync(self._file.fileno())
        pixels = map_pixels(self._file, start - DATA_START)
        with contextlib.suppress(FileNotFoundError):
            self._path.replace(self.target)
        self._file.close()
        return pixels

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()  # flushing what is buffered may fail again
        self._path.unlink(missing_ok=True)
