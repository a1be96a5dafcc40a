"""A reader of tar archives that unpacks nothing: headers in order, each member's place. Plain, gzip, bzip2 or xz.

Our own, as tarfile takes headers of any size into memory and its extraction filters have been bypassed (CVE-2025-4517).
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from recog.core.errors import DataError
from recog.core.files import shown
from recog.data.archives.members import (
    DEFAULT_LIMITS,
    ArchiveLimits,
    Spool,
    StoredBytes,
    check_totals,
    clean_name,
    copy_chunks,
    name_bytes,
)

Kind = Literal["file", "folder", "link", "special", "large"]

_BLOCK = 512
_MAX_HEADER_BYTES = 1 << 20  # of a long name or a pax header
_MAX_PADDING_BYTES = 64 << 20  # zeros behind an end mark; tapes are padded to 1 MiB at most
_DECIMAL = re.compile(r"[0-9]{1,20}")  # int() takes other scripts' digits, and raises on too many
_SPARSE = "GNU.sparse"  # what such a file's keys of a pax header begin with
_KINDS: dict[bytes, Kind] = {b"0": "file", b"\0": "file", b"7": "file", b"5": "folder", b"1": "link", b"2": "link"}


@dataclass(frozen=True, kw_only=True)
class TarMember:
    """One entry; `stored` tells where a file's bytes are."""

    name: str
    kind: Kind
    stored: StoredBytes | None = None


@dataclass(frozen=True, kw_only=True)
class TarContent:
    members: tuple[TarMember, ...]
    has_end_mark: bool  # two zero blocks; without them the archive may have been cut off between members
    num_archives: int = 1  # joined in the file, one behind the other
    end_of_archives: int | None = None  # the byte at which something else begins, which is not read


def is_tar(path: Path) -> bool:
    """Whether the first block is a tar header, compressed or not."""
    try:
        with _open(path) as file:
            block = file.read(_BLOCK)
    except (OSError, EOFError, lzma.LZMAError, zlib.error):
        return False
    return len(block) == _BLOCK and _has_checksum(block)


def read_tar(path: Path, limits: ArchiveLimits = DEFAULT_LIMITS) -> TarContent:
    """All entries of the archive. A compressed one is unpacked once into a temporary file, as it has no random access.

    Raises DataError where it is damaged, cut off, too large or hostile.
    """
    reader = _Reader(path, limits)
    try:
        with _open(path) as file:
            members = tuple(reader.read(file))
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise reader.damaged(f"its compression breaks off ({error})") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None
    finally:
        if reader.spool is not None:
            reader.spool.close()
    return TarContent(
        members=members,
        has_end_mark=reader.has_end_mark,
        num_archives=reader.num_archives,
        end_of_archives=reader.end_of_archives,
    )


def _open(path: Path) -> IO[bytes]:
    magic = _magic(path)
    if magic.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if magic.startswith(b"BZh"):
        return bz2.open(path, "rb")
    if magic.startswith(b"\xfd7zXZ"):
        return cast(IO[bytes], io.BufferedReader(XzReader(path)))
    return path.open("rb")


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(6)


class _Reader:
    """Reads one archive from front to back."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        self.path, self.limits = path, limits
        self.has_end_mark = False
        self.num_archives, self.end_of_archives = 1, cast(int | None, None)
        self._packed_bytes = path.stat().st_size
        is_plain = not _magic(path).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ"))
        self.spool = None if is_plain else Spool(f"unpacking {path.name}", self._packed_bytes)
        self._position = 0
        self._count = self._total = self._held = 0

    def damaged(self, why: str) -> DataError:
        return DataError(f"{self.path} is damaged at byte {self._position:,}: {why}. Make it or download it again.")

    def read(self, file: IO[bytes]) -> Iterator[TarMember]:
        extra: dict[str, str] = {}
        names: set[str] = set()
        while (block := self._next_header(file)) is not None:
            kind, size = block[156:157], self._number(block[124:136])
            self._add(_BLOCK)
            if kind in (b"x", b"g", b"L", b"K"):
                self._read_extra(kind, self._small(file, size), extra)
                continue
            if "size" in extra:
                size = int(extra["size"]) if _DECIMAL.fullmatch(extra["size"]) else -1
            name = clean_name(extra.get("path") or _plain_name(block), self.path)
            is_sparse = _SPARSE in extra
            extra = {}
            member = self._member(file, name, "special" if is_sparse else _kind_of(kind, block), size)
            yield member
            if name in names and member.kind != "folder":
                raise DataError(
                    f"{self.path} holds {shown(name)} twice; it is not clear which one counts. Make the archive again."
                )
            names.add(name)

    def _member(self, file: IO[bytes], name: str, kind: Kind, size: int) -> TarMember:
        if size < 0:
            raise self.damaged(f"the size of {shown(name)} is no number")
        if kind in ("folder", "link"):
            size = 0  # the field may hold the size of what a link points to
        self._count += 1
        self._held += name_bytes(name)
        self._add(size)
        stored = None
        if kind == "file" and size > self.limits.max_member_bytes:
            kind = "large"
        if kind == "file":
            stored = self._store(file, name, size)
        else:
            self._skip(file, size)
        self._skip(file, -size % _BLOCK)
        return TarMember(name=name, kind=kind, stored=stored)

    def _add(self, num_bytes: int) -> None:
        """Count what is about to be unpacked, headers too, as a member of no bytes still has a name."""
        self._total += num_bytes
        check_totals(
            self.path,
            count=self._count,
            total=self._total,
            held=self._held,
            packed_bytes=self._packed_bytes,
            limits=self.limits,
        )

    def _store(self, file: IO[bytes], name: str, size: int) -> StoredBytes:
        if self.spool is None:
            stored = StoredBytes(name=name, path=self.path, offset=self._position, size=size)
            self._skip(file, size)
            return stored
        stored = self.spool.add(name, self._counted(copy_chunks(file, size)))
        if stored.size != size:
            raise self._cut(name)
        return stored

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._position += len(chunk)
            yield chunk

    def _skip(self, file: IO[bytes], size: int) -> None:
        if self.spool is not None:
            num_bytes = sum(len(chunk) for chunk in copy_chunks(file, size))
            self._position += num_bytes
            if num_bytes != size:
                raise self._cut("")
            return
        self._position += size
        if self._position > self._packed_bytes:
            raise self._cut("")
        file.seek(self._position)

    def _cut(self, name: str) -> DataError:
        return self.damaged(f"it ends within {shown(name) if name else 'a member'}, so it was cut off")

    def _next_header(self, file: IO[bytes]) -> bytes | None:
        """The next header, of this archive or of one that is joined behind it; None at the end."""
        block = file.read(_BLOCK)
        if not block:
            return None
        if len(block) < _BLOCK:
            raise self.damaged("it ends within a header, so it was cut off")
        if not any(block):
            self.has_end_mark = True
            self._position += _BLOCK
            return self._next_archive(file)
        if not _has_checksum(block):
            raise self.damaged("there is no tar header where one must be")
        self._position += _BLOCK
        return block

    def _next_archive(self, file: IO[bytes]) -> bytes | None:
        """The first header behind the zeros of an end mark; None where there is none."""
        for _ in range(_MAX_PADDING_BYTES // _BLOCK):
            self._add(_BLOCK)
            try:
                block = file.read(_BLOCK)
            except (EOFError, OSError, lzma.LZMAError, zlib.error):  # junk behind the compressed archive
                self.end_of_archives = self._position
                return None
            if not block:
                return None
            if any(block):
                is_header = len(block) == _BLOCK and _has_checksum(block)
                self.end_of_archives = None if is_header else self._position
                self.num_archives += is_header
                self._position += _BLOCK
                return block if is_header else None
            self._position += len(block)
        return None

    def _small(self, file: IO[bytes], size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise self.damaged(f"a header claims {size:,} bytes; at most {_MAX_HEADER_BYTES:,} are read")
        padded = size + -size % _BLOCK
        self._add(padded)
        data = file.read(padded)
        if len(data) != padded:
            raise self._cut("")
        self._position += padded
        return data[:size]

    def _read_extra(self, kind: bytes, data: bytes, extra: dict[str, str]) -> None:
        if kind == b"L":
            extra["path"] = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif kind == b"x":
            while data:
                length, _, rest = data.partition(b" ")
                if not _DECIMAL.fullmatch(length.decode("latin-1")) or not len(length) < int(length) <= len(data):
                    raise self.damaged("a pax header is malformed")
                key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
                if key in (b"path", b"size"):
                    extra[key.decode()] = value.decode("utf-8", "surrogateescape")
                elif key.startswith(_SPARSE.encode()):
                    extra[_SPARSE] = ""
                data = data[int(length) :]

    def _number(self, field: bytes) -> int:
        if field[0] & 0x80:  # base 256, of GNU tar
            return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big") if field[0] != 0xFF else -1
        digits = field.strip(b" \0")
        if digits and not all(0x30 <= digit <= 0x37 for digit in digits):
            raise self.damaged("a size is no octal number")
        return int(digits or b"0", 8)


def _kind_of(flag: bytes, block: bytes) -> Kind:
    if flag == b"\0" and _plain_name(block).endswith("/"):
        return "folder"  # before POSIX, a slash at the end was all that told
    return _KINDS.get(flag, "special")


def _plain_name(block: bytes) -> str:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "surrogateescape")


def _has_checksum(block: bytes) -> bool:
    digits = block[148:156].strip(b" \0")
    if not digits or not all(0x30 <= digit <= 0x37 for digit in digits):
        return False
    return int(digits, 8) == sum(block[:148]) + sum(block[156:]) + 8 * 0x20


MAX_MEMORY_BYTES = 256 << 20  # xz -9 needs 65 MiB to unpack (xz's manual page)
_CHUNK_BYTES = 1 << 20


class XzReader(io.RawIOBase):
    """The unpacked bytes of all streams of a file, from front to back.

    Raises DataError where unpacking needs more memory than `max_memory_bytes`, LZMAError where the file is damaged, and
    EOFError where it is cut off.
    """

    def __init__(self, path: Path, max_memory_bytes: int = MAX_MEMORY_BYTES) -> None:
        super().__init__()
        self._path, self._max_memory_bytes = path, max_memory_bytes
        self._file = path.open("rb")
        self._packed = b""
        self._stream = self._new_stream()

    def _new_stream(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=self._max_memory_bytes)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` in part; 0 at the end."""
        data = b""
        while not data:
            if self._stream.eof and not self._begin_next():
                return 0
            if self._stream.needs_input and not self._packed:
                self._packed = self._file.read(_CHUNK_BYTES)
                if not self._packed:
                    raise EOFError("it ends within a stream")
            data = self._unpack(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _begin_next(self) -> bool:
        """Whether another stream follows, as in files that were joined; zeros between streams are padding."""
        packed = self._stream.unused_data.lstrip(b"\0")
        while not packed and (chunk := self._file.read(_CHUNK_BYTES)):
            packed = chunk.lstrip(b"\0")
        self._packed, self._stream = packed, self._new_stream()
        return bool(packed)

    def _unpack(self, max_bytes: int) -> bytes:
        packed, self._packed = self._packed, b""
        try:
            return self._stream.decompress(packed, max_bytes)
        except lzma.LZMAError as error:
            if "emory usage limit" not in str(error):
                raise
            raise DataError(
                f"{self._path} needs more than {self._max_memory_bytes >> 20} MiB of memory to be unpacked, as its xz "
                "dictionary is so large; it may be made to attack. If it is honest, pack it again with xz -9 or less."
            ) from None
