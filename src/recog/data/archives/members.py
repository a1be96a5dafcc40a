"""Members of archives as sources of samples: where their bytes lie, never an open handle. And the limits of archives."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from recog.core.errors import BadImage, DataError
from recog.core.files import printable_name, shown
from recog.core.images.formats import PREFIX_BYTES

if sys.platform != "win32":
    import fcntl

# With the machine's name: a temporary folder that machines share may have locks that hold on one of them only.
_SPOOL_PREFIX = f"recog-spool-{re.sub(r'[^A-Za-z0-9]', '-', platform.node())[:60]}-"
_CHANGED = "Close what writes to it, or download it again."
_DRIVE = re.compile(r"^[A-Za-z]:")
_CHUNK_BYTES = 1 << 20
_RESERVE_BYTES = 256 << 20  # of the temporary folder, left to other programs, or a twentieth of it where that is less


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """Above these an archive is refused before its members are unpacked."""

    max_entries: int = 1_000_000
    max_total_bytes: int = 1 << 40  # of all members, unpacked
    max_member_bytes: int = (
        200 << 20
    )  # as core.images.decode's limit for a file; of what it unpacks to, and of what it is packed in
    max_name_bytes: int = 512 << 20  # of all names with the folders above them, as these stay in memory
    max_ratio: float = 100.0  # unpacked : packed, of a member and of the whole, from `free_bytes` on
    free_bytes: int = 4 << 20  # smaller unpacked sizes are harmless, whatever the ratio


DEFAULT_LIMITS = ArchiveLimits()


class Spool:
    """A temporary file that members of a source without random access are copied to; gone with the last that holds it.

    It is locked while its process lives, so that the next Spool can remove those of processes that were killed.
    """

    def __init__(self, why: str, num_bytes: int = 0) -> None:
        """Raises DataError where the temporary folder has not the room for `num_bytes`, the least that will be added."""
        self._why, self._folder, self._size = why, tempfile.gettempdir(), 0
        remove_abandoned_spools(Path(self._folder))
        self._check_room(num_bytes)
        handle, self.path = _create_locked()
        self._file = os.fdopen(handle, "wb")
        weakref.finalize(
            self, _remove, self.path, os.getpid(), os.dup(handle)
        )  # the lock lasts until the copy is closed

    def add(self, name: str, chunks: Iterable[bytes]) -> StoredBytes:
        """Raises DataError before the temporary folder is full: a small archive may unpack to more than there is room."""
        start = self._size
        for chunk in chunks:
            self._check_room(len(chunk))
            self._file.write(chunk)
            self._size += len(chunk)
        return StoredBytes(name=name, path=self.path, offset=start, size=self._size - start, owner=self)

    def _check_room(self, num_bytes: int) -> None:
        disk = shutil.disk_usage(self._folder)
        if num_bytes > disk.free - min(_RESERVE_BYTES, disk.total // 20):
            raise DataError(
                f"{self._why} needs {(self._size + num_bytes) / 1e9:.1f} GB or more in the temporary folder {self._folder}, "
                f"which has {disk.free / 1e9:.1f} GB left. Free some or set TMPDIR to a larger disk."
            )

    def close(self) -> None:
        """No more is added; members can be read from now on."""
        self._file.close()


def _remove(path: Path, pid: int, lock: int) -> None:
    if os.getpid() == pid:  # a forked worker is not the owner
        path.unlink(missing_ok=True)
        os.close(lock)


def _create_locked() -> tuple[int, Path]:
    """A new spool file, open for writing and locked where the file system has locks."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_SPOOL_PREFIX)
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            if not _lock(handle) or os.path.samestat(os.fstat(handle), os.stat(name)):
                return handle, Path(name)
        os.close(handle)  # another process took it for abandoned in the moment before it was locked


def remove_abandoned_spools(folder: Path) -> None:
    """Remove from `folder` the spools whose processes were killed, on this machine and by this user."""
    for path in folder.glob(f"{_SPOOL_PREFIX}*"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            try:
                if stat.S_ISREG(os.fstat(handle).st_mode) and _lock(handle):
                    path.unlink()
            finally:
                os.close(handle)


def _lock(handle: int) -> bool:
    """Lock the file until its last handle is closed; False where there are no locks. BlockingIOError where another has it."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class StoredBytes:
    """`size` bytes at `offset` of a file: a member of an uncompressed tar, or of a Spool."""

    name: str
    path: Path
    offset: int
    size: int
    owner: Spool | None = field(default=None, repr=False, compare=False)

    def read(self) -> bytes:
        """Raises BadImage where the file is gone or shorter than it was."""
        data = read_range(self.path, self.offset, self.size, name=self.name)
        if len(data) != self.size:
            raise BadImage(self.name, f"{self.path.name} is shorter than when it was opened", _CHANGED)
        return data

    def read_prefix(self) -> bytes:
        """The first bytes, to recognise a format by. Raises BadImage where the file cannot be read."""
        return read_range(self.path, self.offset, min(self.size, PREFIX_BYTES), name=self.name)


@dataclass(frozen=True, kw_only=True)
class ZipMember:
    """A member of a zip, stored or deflated, as the central directory describes it."""

    name: str
    path: Path
    header_offset: int
    packed_size: int
    size: int
    crc: int
    is_deflated: bool

    def read(self) -> bytes:
        """Raises BadImage where the bytes are not those that the central directory describes."""
        data = self._unpack(self.packed_size, self.size + 1)
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise self._damaged("its checksum or size is wrong")
        return data

    def read_prefix(self) -> bytes:
        """The first bytes, to recognise a format by; nothing is checked. Raises BadImage as `read`."""
        return self._unpack(min(self.packed_size, 2 * PREFIX_BYTES), PREFIX_BYTES)

    def _unpack(self, packed_bytes: int, max_bytes: int) -> bytes:
        """At most `max_bytes` of what the first `packed_bytes` unpack to."""
        header = read_range(self.path, self.header_offset, 30, name=self.name)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise self._damaged("its header is not where the archive says")
        start = (
            self.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        )
        data = read_range(self.path, start, packed_bytes, name=self.name)
        if not self.is_deflated:
            return data
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, max_bytes)
        except zlib.error as error:
            raise self._damaged(str(error)) from None

    def _damaged(self, why: str) -> BadImage:
        return BadImage(
            self.name, f"the member of {self.path.name} is damaged ({why})", "Make or download the archive again."
        )


@dataclass(frozen=True, kw_only=True)
class RefusedMember:
    """A member that is an image by its name and is not read, such as an encrypted one: a bad image with its reason."""

    name: str
    reason: str

    def read(self) -> bytes:
        """Raises BadImage."""
        raise BadImage(self.name, self.reason, "Unpack the archive and name the folder, or remove the member.")

    def read_prefix(self) -> bytes:
        """Raises BadImage."""
        return self.read()


def read_range(path: Path, offset: int, size: int, *, name: str) -> bytes:
    """Up to `size` bytes at `offset`. Raises BadImage where the file cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise BadImage(name, f"{path} cannot be read ({error.strerror})", _CHANGED) from None


def copy_chunks(file: IO[bytes], size: int) -> Iterable[bytes]:
    while size > 0:
        chunk = file.read(min(size, _CHUNK_BYTES))
        if not chunk:
            return
        size -= len(chunk)
        yield chunk


def clean_name(name: str, archive: Path) -> str:
    """A member's name with '/', without './'. DataError where it points out of the archive: nothing of such a file is trusted."""
    plain = name.replace("\\", "/") if "/" not in name else name
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if plain.startswith("/") or _DRIVE.match(plain) or ".." in parts or "\0" in plain:
        raise DataError(
            f"{archive} has a member named {shown(name)}, which points out of the archive; it may be made to attack, so "
            "nothing of it is used. Make the archive again with relative names."
        )
    return printable_name("/".join(parts))


def name_bytes(name: str) -> int:
    """What a member's name may come to in memory: itself, and a name for each folder above it."""
    return len(name) * (1 + name.count("/"))


def check_totals(archive: Path, *, count: int, total: int, held: int, packed_bytes: int, limits: ArchiveLimits) -> None:
    """Raise DataError where `count` members of `total` bytes are more, larger or more tightly packed than images are.

    `held` are the `name_bytes` of all of them.
    """
    if count > limits.max_entries:
        raise DataError(_too_much(archive, f"{count:,} entries; at most {limits.max_entries:,} are read"))
    if total > limits.max_total_bytes:
        raise DataError(_too_much(archive, f"{total:,} bytes unpacked; at most {limits.max_total_bytes:,} are read"))
    if held > limits.max_name_bytes:
        raise DataError(_too_much(archive, f"names of {held:,} bytes; at most {limits.max_name_bytes:,} are read"))
    if total > limits.free_bytes and total > limits.max_ratio * packed_bytes:
        raise DataError(
            f"{archive} unpacks to {total / max(1, packed_bytes):,.0f} times its size; images do not shrink more than "
            f"{limits.max_ratio:g} times, so it is taken for an archive bomb. If it is honest, unpack it and name the folder."
        )


def _too_much(archive: Path, what: str) -> str:
    return f"{archive} has {what}. Unpack it and name the folder, or split it."
