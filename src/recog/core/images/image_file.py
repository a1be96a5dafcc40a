"""Image files before a pixel is decoded: opened without hanging, checked for damage and bombs."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from recog.core.errors import BadImage, ConfigError

REPLACE = "Replace the file with an intact copy or remove it."
CONVERT = "Convert it to JPEG or PNG, or remove it."
_RESAVE = "Save it again with an image editor, or remove it."

_MAX_READS = 200_000  # some 0.5 s of parsing; a 50-megapixel PNG in 4 KiB chunks needs 75,000
_MAX_JPEG_HEADER_BYTES = 8 << 20  # a CMYK profile and a depth map in XMP need some 4 MB
_MAX_JPEG_EXIF_BYTES = 1 << 20  # the standard allows 64 KiB; Pillow joins what is spread over several segments
_MAX_JPEG_SEGMENTS = 10_000
_MAX_JPEG_SCANS = 100  # encoders write 10 to 20
_MAX_JPEG_SCAN_PIXELS = 2_000_000_000  # some 0.7 s of coefficient passes
_MAX_PNG_CHUNKS = 100_000
_MAX_TIFF_VALUES = 200_000  # a 16-bit palette has 196,608; strips are at most 16,384 in 4 planes
_MAX_FRACTIONS = 10_000  # Pillow makes an object of each, at some 2 us; cameras write some 20
_MAX_DIRECTORIES = 8
_FREE_PART_PIXELS = 1 << 22  # a tile or frame of up to 2048 x 2048 may be in an image of any size
_SUB_DIRECTORIES = frozenset({34_665, 34_853, 40_965})  # EXIF, GPS, interoperability: Pillow reads them with the pixels
_ORIENTATION = 274  # the EXIF and TIFF tag
_TILE_SIDES = frozenset({322, 323})  # TileWidth, TileLength
_MAX_TIFF_CHANNELS = 6  # Pillow's own limit; above it, it logs an error to stderr


@dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """What an image may claim before anything is decoded. Above: BadImage."""

    max_pixels: int = 50_000_000  # decoding takes up to 14 bytes for each, in each thread
    max_side: int = 16_384  # pixels
    max_bytes: int = 256 << 20  # of the encoded file; 50 million pixels of uncompressed RGBA are 200 MB

    def __post_init__(self) -> None:
        for name, highest in MAX_LIMITS.items():
            value = getattr(self, name)
            if not 1 <= value <= highest:
                raise ConfigError(f"limits.{name} is {value}; it must be from 1 to {highest}.")


MAX_LIMITS: Mapping[str, int] = MappingProxyType(
    {"max_pixels": 178_956_970, "max_side": 1_000_000, "max_bytes": 1 << 30}  # Pillow opens no more pixels
)
DEFAULT_LIMITS = ImageLimits()


def allow(setting: str, value: int) -> str:
    """How to allow images up to `value` of the limit `setting`, where that is possible: ', or train with --set ...'."""
    if value > MAX_LIMITS[setting]:
        return "."
    return f", or allow it when training: --set limits.{setting}={value}."


class MeteredFile(io.BufferedIOBase):
    """The file as Pillow sees it; BadImage where a header makes its parsing loops read more often than any honest one does."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._read = file, file.read
        self._name = name
        self._num_reads = 0
        self._num_bytes = 0
        self._num_exif_bytes = 0
        self.max_bytes: int | None = None  # in all reads together, while set

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._read(
            -1 if size is None else size
        )  # some 40 times for a JPEG, so this is a share of reading small images
        self._num_reads += 1
        self._num_bytes += len(data)
        if data[:6] == b"Exif\0\0":  # Pillow reads segment by segment
            self._num_exif_bytes += len(data)
        if self._num_reads > _MAX_READS or (self.max_bytes is not None and self._is_too_long(self.max_bytes)):
            raise BadImage(self._name, "its header is longer than that of any real image", REPLACE)
        return data

    def _is_too_long(self, max_bytes: int) -> bool:
        return self._num_bytes > max_bytes or self._num_exif_bytes > _MAX_JPEG_EXIF_BYTES

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


@contextlib.contextmanager
def open_encoded(source: str | os.PathLike[str] | bytes, name: str, limits: ImageLimits) -> Iterator[BinaryIO]:
    """The bytes of a regular file or of `source` itself, not empty and not above `limits.max_bytes`; never waits for a pipe."""
    if isinstance(source, bytes):
        check_num_bytes(len(source), name, limits)
        yield io.BytesIO(source)
        return
    try:
        file = _open_regular(source, name)
    except (OSError, ValueError) as error:  # ValueError: a zero byte or a lone surrogate in the path
        raise _explain_open_error(error, source, name) from None
    with file:
        check_num_bytes(os.fstat(file.fileno()).st_size, name, limits)
        yield file


def check_num_bytes(num_bytes: int, name: str, limits: ImageLimits) -> None:
    if num_bytes == 0:
        raise BadImage(name, "it is empty (0 bytes)", REPLACE)
    if num_bytes > limits.max_bytes:
        raise BadImage(
            name,
            f"it has {num_bytes:,} bytes, above the limit of {limits.max_bytes:,}",
            f"Reduce the image{allow('max_bytes', num_bytes)}",
        )


def _open_regular(path: str | os.PathLike[str], name: str) -> BinaryIO:
    _check_regular(os.stat(path).st_mode, name)  # before opening: opening a device may act on it
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check_regular(os.fstat(file.fileno()).st_mode, name)  # again: the name may have come to mean a pipe
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(mode: int, name: str) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise BadImage(name, "it is a folder, not an image file", "Name the files in it.")
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    raise BadImage(name, f"it is {kind}, not a regular file", "Copy its content into a file first.")


def _explain_open_error(error: OSError | ValueError, path: str | os.PathLike[str] | bytes, name: str) -> BadImage:
    if isinstance(error, FileNotFoundError):
        if os.path.islink(path):
            return BadImage(name, "it is a link to a missing file", "Correct the link or remove it.")
        return BadImage(name, "there is no such file", "Check the path.")
    if isinstance(error, PermissionError):
        return BadImage(name, "it may not be read (permission denied)", "Give yourself permission to read it.")
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return BadImage(name, "it is a link that leads back to itself", "Correct the link or remove it.")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return BadImage(name, f"it cannot be opened or read ({reason})", "Check the path and the disk.")


def check_header(kind: str, file: MeteredFile, name: str) -> None:
    """BadImage where the header would make Pillow itself slow. Leaves `file` at an arbitrary position."""
    if kind == "JPEG":
        file.max_bytes = _MAX_JPEG_HEADER_BYTES
    if kind == "TIFF":
        _check_tiff(file, name)


def check_part(part: tuple[int, int], whole: tuple[int, int], what: str, name: str) -> None:
    """BadImage where a tile or frame of `part` = (width, height) pixels is far larger than the image that it is a part of.

    Decoders allocate the part; encoders round its sides up to blocks, but do not double the image.
    """
    width, height = part
    if width * height > max(_FREE_PART_PIXELS, 2 * whole[0] * whole[1]):
        reason = f"it is an image of {whole[0]} x {whole[1]} pixels, but {what} in it has {width} x {height}"
        raise BadImage(name, reason, REPLACE)


def check_body(kind: str, data: bytes, num_pixels: int, name: str) -> None:
    """BadImage for what Pillow does not look at: a PNG's checksums and end, and the number of a JPEG's scans."""
    if kind == "JPEG":
        _check_jpeg(data, num_pixels, name)
    if kind == "PNG":
        _check_png(data, name)
    if kind == "TGA":
        _check_tga(data, num_pixels, name)


_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in scan data only stuffing and restarts follow 0xFF


def _check_jpeg(data: bytes, num_pixels: int, name: str) -> None:
    max_scans = max(1, min(_MAX_JPEG_SCANS, _MAX_JPEG_SCAN_PIXELS // num_pixels))
    num_scans, position = 0, 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        marker = _JPEG_MARKER.search(data, position)
        if marker is None:  # zeros, as downloads that reserved their space leave, would decode as flat colour
            raise BadImage(name, "the file is truncated: it lacks the marker that ends a JPEG", REPLACE)
        if marker[0] == b"\xff\xd9":
            return
        num_scans += marker[0] == b"\xff\xda"
        if num_scans > max_scans:
            raise BadImage(name, f"this JPEG has more than {max_scans} scans, a way to stall decoders", _RESAVE)
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    raise BadImage(name, f"this JPEG has more than {_MAX_JPEG_SEGMENTS:,} segments", _RESAVE)


def _check_png(data: bytes, name: str) -> None:
    view = memoryview(data)
    position = 8
    for _ in range(_MAX_PNG_CHUNKS):
        length = int.from_bytes(view[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data):
            raise BadImage(name, "the file is truncated: it ends before the image does", REPLACE)
        kind = bytes(view[position + 4 : position + 8])
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            chunk = kind.decode("ascii", "replace")
            raise BadImage(name, f"the file is damaged: the checksum of its {chunk} chunk is wrong", REPLACE)
        if kind == b"IEND":
            return
        position = end + 4
    raise BadImage(name, f"this PNG has more than {_MAX_PNG_CHUNKS:,} chunks", REPLACE)


def _check_tga(data: bytes, num_pixels: int, name: str) -> None:
    """Pillow fills up what is missing behind run lengths; an image of `n` pixels takes `n` / 128 of these or more."""
    is_packed, num_bytes = data[2] & 8, -(-data[16] // 8)
    least = 18 + data[0] + (-(-num_pixels // 128) * (1 + num_bytes) if is_packed else num_pixels * num_bytes)
    if len(data) < least:
        raise BadImage(name, "the file is truncated: it ends before the image does", REPLACE)


def has_late_png_metadata(file: MeteredFile) -> bool:
    """Whether a PNG carries EXIF or XMP behind its pixels, where reading the header alone would miss the orientation."""
    position, seen_pixels = 8, False
    for _ in range(_MAX_PNG_CHUNKS):
        file.seek(position)
        head = file.read(32)
        kind = head[4:8]
        if len(head) < 12 or kind == b"IEND":
            return False
        seen_pixels |= kind == b"IDAT"
        text = kind in (b"iTXt", b"tEXt", b"zTXt") and head[8:].startswith((b"XML:com.adobe", b"Raw profile"))
        if seen_pixels and (text or kind == b"eXIf"):
            return True
        position += 12 + int.from_bytes(head[:4], "big")
    return False


class _Entry(NamedTuple):
    """One line of a TIFF or EXIF directory."""

    tag: int
    kind: int  # 3 and 4: whole numbers of 16 and 32 bits; 5 and 10: fractions
    num_values: int
    value: int  # the number itself where it is one of 16 or 32 bits, else where the values are


def _read_directories(file: BinaryIO | MeteredFile, follow: frozenset[int]) -> list[list[_Entry]]:
    """The entries of a TIFF's first directory, and of the readable ones that its entries of the tags `follow` point to."""
    file.seek(0)
    head = file.read(16)
    order, is_big = "<" if head[:2] == b"II" else ">", b"+" in head[2:4]
    waiting = [struct.unpack_from(order + ("Q" if is_big else "I"), head, 8 if is_big else 4)[0]]
    directories: list[list[_Entry]] = []
    while waiting and len(directories) < _MAX_DIRECTORIES:
        try:
            entries = _read_directory(file, waiting.pop(0), order, is_big)
        except (struct.error, OverflowError, ValueError, OSError):
            if not directories:
                raise
            continue
        directories.append(entries)
        waiting += [entry.value for entry in entries if entry.tag in follow][:_MAX_DIRECTORIES]
    return directories


def _read_directory(file: BinaryIO | MeteredFile, position: int, order: str, is_big: bool) -> list[_Entry]:
    file.seek(position)
    count = struct.Struct(order + ("Q" if is_big else "H"))
    line = struct.Struct(order + ("HHQQ" if is_big else "HHII"))
    (num_entries,) = count.unpack(file.read(count.size))
    table = file.read(min(num_entries, 65_535) * line.size)
    entries = []
    for tag, kind, num_values, value in line.iter_unpack(table[: len(table) // line.size * line.size]):
        num_bits, field_bits = {3: 16, 4: 32}.get(kind, 64), 64 if is_big else 32
        if num_bits < field_bits:  # the number stands at the beginning of its field
            value = value >> (field_bits - num_bits) if order == ">" else value & ((1 << num_bits) - 1)
        entries.append(_Entry(tag, kind, num_values, value))
    return entries


def has_absurd_exif(block: bytes) -> bool:
    """Whether an EXIF block claims so many values for the orientation that Pillow would take seconds to look it up."""
    tiff = io.BytesIO(re.sub(rb"^(Exif\0\0){1,2}", b"", block))
    try:
        entries = _read_directories(tiff, frozenset())[0]
    except (struct.error, OverflowError, ValueError):
        return False
    return any(entry.tag == _ORIENTATION and entry.num_values > _MAX_FRACTIONS for entry in entries)


def _check_tiff(file: MeteredFile, name: str) -> None:
    num_bytes = file.seek(0, os.SEEK_END)
    try:
        directories = _read_directories(file, _SUB_DIRECTORIES)
    except (struct.error, OverflowError, ValueError, OSError):
        raise BadImage(name, "the file is truncated: its directory lies behind its end", REPLACE) from None
    for entry in directories[0]:
        if entry.num_values > _MAX_TIFF_VALUES and entry.kind not in (1, 2, 6, 7):  # those are bytes and text
            raise BadImage(name, f"entry {entry.tag} of this TIFF claims {entry.num_values:,} values", REPLACE)
        if entry.kind in (3, 4):
            _check_tiff_number(entry.tag, entry.value, name)
    sides = {entry.tag: entry.value for entry in directories[0] if entry.tag in {256, 257, *_TILE_SIDES}}
    if sides.keys() >= _TILE_SIDES:
        check_part((sides[322], sides[323]), (sides.get(256, 0), sides.get(257, 0)), "a tile", name)
    fractions = [entry.num_values for entries in directories for entry in entries if entry.kind in (5, 10)]
    num_fractions = sum(n for n in fractions if 8 * n <= num_bytes)  # Pillow leaves out what cannot be there
    if num_fractions > _MAX_FRACTIONS:
        raise BadImage(name, f"the directories of this TIFF claim {num_fractions:,} fractions", REPLACE)


def _check_tiff_number(tag: int, value: int, name: str) -> None:
    if tag == 277 and value > _MAX_TIFF_CHANNELS:
        raise BadImage(name, f"this TIFF has {value} channels", "Keep 1 or 3 of them, as JPEG or PNG.")
    if tag == 254 and value & 1:
        reason = "its first picture is only a preview, as in cameras' raw files (DNG, NEF, ARW)"
        raise BadImage(name, reason, CONVERT)
