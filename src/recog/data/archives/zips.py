"""A reader of zip archives that unpacks nothing: the central directory, checked before it is believed."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from recog.core.errors import DataError
from recog.core.files import shown
from recog.data.archives.members import (
    DEFAULT_LIMITS,
    ArchiveLimits,
    ZipMember,
    check_totals,
    clean_name,
    name_bytes,
)

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_MAX_COMMENT = 65_535
_MAX_ENTRY_BYTES = 1 << 10  # of the central directory for one member, on average
_ENCRYPTED, _UTF8, _UNIX = 0x1, 0x800, 3
_UNICODE_PATH = 0x7075
_LIKELY_ENCODINGS = ("gbk", "shift_jis", "euc_kr", "cp1252", "cp1251")
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd"}  # APPNOTE 4.4.5
_DOCUMENTS = {  # a member that only such files have
    "[Content_Types].xml": "a Microsoft Office document",
    "mimetype": "an OpenDocument or EPUB file",
    "META-INF/MANIFEST.MF": "a Java or Android package",
    "AndroidManifest.xml": "an Android package",
    "doc.kml": "a map (.kmz)",
}
_SUFFIXES = {
    ".whl": "a Python package (.whl)",
    ".pt": "a PyTorch checkpoint",
    ".pth": "a PyTorch checkpoint",
    ".keras": "a Keras model",
    ".ipa": "an iOS package",
    ".sketch": "a Sketch document",
}
_LINK, _FOLDER, _FILE = 0o120000, 0o040000, 0o100000


@dataclass(frozen=True, kw_only=True)
class ZipEntry:
    """One entry; `member` reads a file's bytes, and where it is None, `refusal` is the reason."""

    name: str
    is_folder: bool
    member: ZipMember | None = None
    refusal: str = ""
    raw_name: bytes = b""  # where neither the file nor the caller states its encoding and it is not UTF-8


@dataclass(frozen=True, kw_only=True)
class _Directory:
    start: int
    size: int
    num_entries: int
    shift: int  # bytes put before the archive, as self-extracting ones have


def is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


def read_zip(
    path: Path, limits: ArchiveLimits = DEFAULT_LIMITS, *, encoding: str = "", refuse_documents: bool = True
) -> tuple[ZipEntry, ...]:
    """All entries. Raises DataError where the archive is damaged, cut off, too large or hostile.

    `encoding` is that of names for which the archive states none; else they are UTF-8 or, as the format has it, code page 437.
    With `refuse_documents`, a zip that is another program's file is refused too.
    """
    try:
        with path.open("rb") as file:
            directory = _find_directory(file, path)
            file.seek(0)
            if directory.shift and file.read(4) == b"PK\x03\x04":
                raise DataError(
                    f"{path} is two zip archives, joined one behind the other, of which readers see the last only. Unpack both."
                )
            if directory.num_entries > limits.max_entries or directory.size > limits.max_entries * _MAX_ENTRY_BYTES:
                raise DataError(
                    f"{path} has {directory.num_entries:,} entries in {directory.size:,} bytes of directory; at most "
                    f"{limits.max_entries:,} entries are read. Unpack it and name the folder, or split it."
                )
            file.seek(directory.start)
            table = file.read(directory.size)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        entries = tuple(_entries(table, path, directory, limits, encoding))
    except struct.error:
        raise _damaged(path, "its directory is cut off") from None
    _check(entries, path, limits, end_bytes=directory.start)
    if refuse_documents:
        _refuse_documents(entries, path)
    return entries


def _refuse_documents(entries: Sequence[ZipEntry], path: Path) -> None:
    """DataError where the zip is another program's file, whose pictures and folders mean something else."""
    names = {entry.name for entry in entries if not entry.is_folder}
    kind = next((kind for name, kind in _DOCUMENTS.items() if name in names), None)
    if any(name.endswith("/data.pkl") and f"{name[:-8]}version" in names for name in names):
        kind = "a PyTorch checkpoint"
    kind = kind or _SUFFIXES.get(path.suffix.lower())
    if kind is not None:
        raise DataError(
            f"{path} is {kind}, which is zip inside but no archive of images. Name a folder or a .zip of class folders, a CSV "
            "file that lists the images, or in Python pass the arrays as a torch Dataset."
        )


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged: {why}. Make it or download it again.")


def _find_directory(file: IO[bytes], path: Path) -> _Directory:
    size = file.seek(0, 2)
    tail_start = max(0, size - _MAX_COMMENT - _END.size)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise _damaged(path, "it has no end record, so it was cut off")
    _, _, _, _, num_entries, directory_size, start, _ = _END.unpack_from(tail, at)
    end = tail_start + at
    file.seek(max(0, end - _LOCATOR64.size))
    locator = file.read(_LOCATOR64.size)
    if locator[:4] == b"PK\x06\x07":  # some tools write it although no number needs 64 bits
        end = min(_LOCATOR64.unpack(locator)[2], end)
        file.seek(end)
        record = file.read(_END64.size)
        if record[:4] != b"PK\x06\x06" or len(record) < _END64.size:
            raise _damaged(path, "its 64-bit end record is missing")
        num_entries, directory_size, start = _END64.unpack(record)[-3:]
    shift = end - directory_size - start
    if shift < 0:
        raise _damaged(path, "its directory is not where the end record says")
    return _Directory(start=start + shift, size=directory_size, num_entries=num_entries, shift=shift)


def _entries(
    table: bytes, path: Path, directory: _Directory, limits: ArchiveLimits, encoding: str
) -> Iterator[ZipEntry]:
    at = count = 0
    while at < len(table):
        fields = _ENTRY.unpack_from(table, at)
        if fields[0] != b"PK\x01\x02":
            raise _damaged(path, "its directory is garbled")
        name_at = at + _ENTRY.size
        extra_at = name_at + fields[10]
        at = extra_at + fields[11] + fields[12]
        if at > len(table):
            raise _damaged(path, "its directory is cut off")
        count += 1
        if count > limits.max_entries:
            raise DataError(
                f"{path} has more than {limits.max_entries:,} entries. Unpack it and name the folder, or split it."
            )
        raw_name, extra = table[name_at:extra_at], table[extra_at : extra_at + fields[11]]
        text, is_guess = _decode_name(raw_name, extra, path, encoding=encoding, is_utf8=bool(fields[3] & _UTF8))
        entry = _entry(text, extra, fields, path, directory.shift)
        yield replace(entry, raw_name=raw_name) if is_guess else entry
    if count != directory.num_entries:
        raise _damaged(path, f"its end record counts {directory.num_entries:,} entries, its directory {count:,}")


def _entry(text: str, extra: bytes, fields: tuple[int, ...], path: Path, shift: int) -> ZipEntry:
    _, made_by, _, flags, method, _, _, crc, packed, size, *_, attributes, offset = fields
    packed, size, offset = _wide(extra, packed, size, offset)
    name = clean_name(text, path)
    mode = (attributes >> 16) & 0o170000 if made_by >> 8 == _UNIX else 0
    if text.endswith(("/", "\\")) or mode == _FOLDER:
        return ZipEntry(name=name, is_folder=True)
    refusal = ""
    if mode == _LINK:
        refusal = "it is a link in an archive, which is not followed"
    elif mode not in (0, _FILE):
        refusal = "it is a pipe, socket or device in an archive"
    elif flags & _ENCRYPTED:
        refusal = "it is encrypted; only its password unpacks it"
    elif method not in (0, 8):
        named = f" ({_METHODS[method]})" if method in _METHODS else ""
        refusal = f"it is packed by method {method}{named}; only stored and deflated members are read"
    member = ZipMember(
        name=name,
        path=path,
        header_offset=offset + shift,
        packed_size=packed,
        size=size,
        crc=crc,
        is_deflated=method == 8,
    )
    return ZipEntry(name=name, is_folder=False, member=None if refusal else member, refusal=refusal)


def _decode_name(raw: bytes, extra: bytes, path: Path, *, encoding: str, is_utf8: bool) -> tuple[str, bool]:
    """(name, whether its encoding is a guess). Most tools write UTF-8 whether they say so or not.

    Info-ZIP adds the name in UTF-8 as an extra field (APPNOTE 4.6.9), which counts only with the right checksum.
    """
    for tag, value in _extra_fields(extra):
        if tag == _UNICODE_PATH and value[:1] == b"\1" and value[1:5] == zlib.crc32(raw).to_bytes(4, "little"):
            return value[5:].decode("utf-8", errors="replace"), False
    with contextlib.suppress(UnicodeDecodeError):
        return raw.decode("utf-8" if is_utf8 or not encoding else encoding), False
    if encoding and not is_utf8:
        raise DataError(
            f"{path} has a name that is not {encoding}: {shown(raw.decode('latin-1'))}. Name another encoding with --names, "
            "or leave it out."
        )
    return raw.decode("cp437"), True


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        yield tag, extra[at + 4 : at + 4 + length]
        at += 4 + length


def name_notes(entries: Sequence[ZipEntry], path: Path) -> list[str]:
    """What a person should know of names whose encoding is a guess: how they were read, and how other encodings read one."""
    guessed = [entry for entry in entries if entry.raw_name]
    if not guessed:
        return []
    sample = max(guessed, key=lambda entry: sum(byte > 0x7F for byte in entry.raw_name))
    readings = []
    for encoding in _LIKELY_ENCODINGS:
        with contextlib.suppress(UnicodeDecodeError):
            readings.append(f"{encoding}: {shown(sample.raw_name.decode(encoding))}")
    return [
        f"{path.name} states no encoding for {len(guessed):,} names that are not UTF-8; they were read as code page 437, as "
        f"{shown(sample.name)}. If that is wrong, name theirs with --names ({'; '.join(readings)})"
    ]


def _wide(extra: bytes, packed: int, size: int, offset: int) -> tuple[int, int, int]:
    """(packed, size, offset) with what stands in the 64-bit extra field where the 32-bit one is full."""
    for tag, value in _extra_fields(extra):
        if tag == 1:
            values = [int.from_bytes(value[i : i + 8], "little") for i in range(0, len(value) - 7, 8)]
            queue = iter(values)
            size = next(queue, size) if size == 0xFFFFFFFF else size
            packed = next(queue, packed) if packed == 0xFFFFFFFF else packed
            offset = next(queue, offset) if offset == 0xFFFFFFFF else offset
    return packed, size, offset


def _check(entries: tuple[ZipEntry, ...], path: Path, limits: ArchiveLimits, *, end_bytes: int) -> None:
    """Bombs, members that overlap or end behind `end_bytes`, and names that stand twice are what attacks are made of."""
    names: set[str] = set()
    members = [entry.member for entry in entries if entry.member is not None]
    for entry in entries:
        if entry.name in names and not entry.is_folder:
            raise DataError(
                f"{path} holds {shown(entry.name)} twice; it is not clear which one counts. Make the archive again."
            )
        names.add(entry.name)
    for member in members:
        if member.size > limits.free_bytes and member.size > limits.max_ratio * member.packed_size:
            raise DataError(
                f"{path} has a member that unpacks to {member.size / max(1, member.packed_size):,.0f} times its size, "
                f"{shown(member.name)}; it is taken for an archive bomb. If it is honest, unpack it and name the folder."
            )
    end, last = 0, ""
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise DataError(
                f"{path}: the members {shown(last)} and {shown(member.name)} overlap; it is taken for an archive bomb."
            )
        end, last = member.header_offset + 30 + member.packed_size, member.name
    if end > end_bytes:
        raise _damaged(
            path, f"{shown(last)} ends behind the members' end, or its packed size is not the one that is told"
        )
    total = sum(member.size for member in members)
    held = sum(name_bytes(entry.name) for entry in entries)
    check_totals(path, count=len(entries), total=total, held=held, packed_bytes=path.stat().st_size, limits=limits)
