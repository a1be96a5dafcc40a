"""Image files before a pixel is decoded: opened without hanging, recognised by first bytes, checked for damage and bombs."""

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
from typing import BinaryIO

from recog.core.errors import BadImage, ConfigError

REPLACE = "Replace the file with an intact copy or remove it."
CONVERT = "Convert it to JPEG or PNG, or remove it."
_RESAVE = "Save it again with an image editor, or remove it."

PREFIX_BYTES = 1024  # enough to tell every kind below, and an SVG behind an XML preamble and a comment
_MAX_READS = 200_000  # some 0.5 s of parsing; a 50-megapixel PNG in 4 KiB chunks needs 75,000
_MAX_JPEG_HEADER_BYTES = 8 << 20  # a CMYK profile and a depth map in XMP need some 4 MB
_MAX_JPEG_SEGMENTS = 10_000
_MAX_JPEG_SCANS = 100  # encoders write 10 to 20
_MAX_JPEG_SCAN_PIXELS = 2_000_000_000  # some 0.7 s of coefficient passes
_MAX_PNG_CHUNKS = 100_000
_MAX_TIFF_VALUES = 200_000  # a 16-bit palette has 196,608; strips are at most 16,384 in 4 planes
_MAX_TIFF_CHANNELS = 6  # Pillow's own limit; above it, it logs an error to stderr


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a source may claim before anything is decoded. Above: BadImage."""

    max_pixels: int = 50_000_000
    max_side: int = 16_384
    max_bytes: int = 256 << 20  # of the encoded file; 50 million pixels of uncompressed RGBA are 200 MB

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_side", "max_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"limits.{name} is {getattr(self, name)}; it must be at least 1.")


DEFAULT_LIMITS = Limits()


class MeteredFile(io.BufferedIOBase):
    """The file as Pillow sees it; BadImage where a header makes its parsing loops read more often than any honest one does."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._num_reads = 0
        self._num_bytes = 0
        self.max_bytes: int | None = None  # in all reads together, while set

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._file.read(-1 if size is None else size)
        self._num_reads += 1
        self._num_bytes += len(data)
        too_long = self.max_bytes is not None and self._num_bytes > self.max_bytes
        if too_long or self._num_reads > _MAX_READS:
            raise BadImage(self._name, "its header is longer than that of any real image", REPLACE)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


@contextlib.contextmanager
def open_encoded(source: str | os.PathLike[str] | bytes, name: str, limits: Limits) -> Iterator[BinaryIO]:
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


def check_num_bytes(num_bytes: int, name: str, limits: Limits) -> None:
    if num_bytes == 0:
        raise BadImage(name, "it is empty (0 bytes)", REPLACE)
    if num_bytes > limits.max_bytes:
        raise BadImage(
            name,
            f"it has {num_bytes:,} bytes, above the limit of {limits.max_bytes:,}",
            "Reduce the image, or raise limits.max_bytes.",
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
            return BadImage(name, "it is a link to a file that is not there", "Mend the link or remove it.")
        return BadImage(name, "there is no such file", "Check the path, or make the list of files again.")
    if isinstance(error, PermissionError):
        return BadImage(name, "it may not be read (permission denied)", "Give yourself permission to read it.")
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return BadImage(name, "it is a link that leads back to itself", "Mend the link or remove it.")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return BadImage(name, f"it cannot be opened or read ({reason})", "Check the path and the disk.")


# First bytes -> Pillow's name of the format. Everything else is refused unopened.
_ALLOWED: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"II[*+]\0(?!.{4}CR)|MM\0[*+]", re.DOTALL), "TIFF"),  # "CR" follows in Canon's raw files
    (re.compile(rb"BM.{4}", re.DOTALL), "BMP"),
    (re.compile(rb"P[1-6]\s"), "PPM"),
)

_REFUSED: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer, not the image it stands for"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "PostScript (EPS)"),
    (re.compile(rb"\s*%PDF"), "a PDF document"),
    (re.compile(rb"8BPS"), "a Photoshop document (PSD)"),
    (re.compile(rb"SIMPLE  ="), "a FITS file"),
    (re.compile(rb".{128}DICM", re.DOTALL), "a DICOM file"),
    (re.compile(rb"II\*\0|FUJIFILM|IIR[OS]|IIU\0"), "a camera's raw file"),
    (re.compile(rb"\0\0\0\x0cJXL |\xff\x0a"), "JPEG XL"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"II\xbc"), "JPEG XR"),
    (re.compile(rb"\0\0\x01\0"), "an icon (ICO)"),
    (re.compile(rb"P[Ff]\s"), "a float image (PFM)"),
    (re.compile(rb".{4}ftyp|RIFF....AVI |\x1aE\xdf\xa3", re.DOTALL), "a video"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
    (re.compile(rb"\x1f\x8b|7z\xbc\xaf|Rar!|BZh"), "a compressed archive"),
    (re.compile(rb"\x89HDF"), "an HDF5 file"),
    (re.compile(rb"\x93NUMPY"), "a NumPy array"),
    (re.compile(rb"\s*(<\?xml|<!--|<!DOCTYPE svg).*<svg|\s*<svg", re.DOTALL | re.IGNORECASE), "an SVG drawing"),
    (re.compile(rb"\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"\s*<\?xml", re.IGNORECASE), "an XML document"),
    (re.compile(rb"\s*[\[{]\s*[\"\[{]"), "JSON"),
    (re.compile(rb"[\t\n\r\x20-\x7e]{16}"), "text"),
)

_REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "a Git LFS pointer, not the image it stands for": "Run 'git lfs pull' in its repository.",
        "an HTML page": "Download the image again; a server sent an error page in its place.",
        "a video": "Extract its frames as JPEG or PNG first.",
        "a ZIP archive": "Unpack it first.",
        "a compressed archive": "Unpack it first.",
    }
)


def recognise(prefix: bytes, name: str) -> str:
    """Pillow's name for the format of a file that starts with `prefix`, or 'HEIF'. BadImage names what it looks like instead."""
    for pattern, kind in _ALLOWED:
        if pattern.match(prefix):
            return kind
    brands = _iso_brands(prefix)
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return "HEIF"
    text = prefix.removeprefix(b"\xef\xbb\xbf")
    for pattern, kind in _REFUSED:
        if pattern.match(text):
            remedy = _REMEDIES.get(kind, CONVERT)
            raise BadImage(name, f"it is not an image that recog reads; it looks like {kind}", remedy)
    raise BadImage(name, "it is not an image; its first bytes belong to no known format", REPLACE)


def _iso_brands(prefix: bytes) -> set[bytes]:
    """The major and compatible brands of an ISO base media file, such as AVIF, HEIC and MP4; empty for other files."""
    if prefix[4:8] != b"ftyp":
        return set()
    box = prefix[: min(int.from_bytes(prefix[:4], "big"), 256)]
    return {box[8:12], *(box[i : i + 4] for i in range(16, len(box) - 3, 4))}


def check_header(kind: str, file: MeteredFile, name: str) -> None:
    """BadImage where the header would make Pillow itself slow. Leaves `file` at an arbitrary position."""
    if kind == "JPEG":
        file.max_bytes = _MAX_JPEG_HEADER_BYTES
    if kind == "TIFF":
        _check_tiff(file, name)


def check_body(kind: str, data: bytes, num_pixels: int, name: str) -> None:
    """BadImage for what Pillow does not look at: a PNG's checksums and end, and the number of a JPEG's scans."""
    if kind == "JPEG":
        _check_jpeg(data, num_pixels, name)
    if kind == "PNG":
        _check_png(data, name)


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


def _check_tiff(file: MeteredFile, name: str) -> None:
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    is_big = b"+" in head[2:4]
    offset_format, count_format, entry_format = ("Q", "Q", "HHQ") if is_big else ("I", "H", "HHI")
    entry_bytes = 20 if is_big else 12
    try:
        file.seek(struct.unpack_from(order + offset_format, head, 8 if is_big else 4)[0])
        (num_entries,) = struct.unpack(order + count_format, file.read(8 if is_big else 2))
        table = file.read(min(num_entries, 65_535) * entry_bytes)
    except (struct.error, OverflowError, ValueError, OSError):
        raise BadImage(name, "the file is truncated: its directory lies behind its end", REPLACE) from None
    for start in range(0, len(table) - entry_bytes + 1, entry_bytes):
        tag, kind, num_values = struct.unpack_from(order + entry_format, table, start)
        if num_values > _MAX_TIFF_VALUES and kind not in (1, 2, 6, 7):  # those are bytes and text
            raise BadImage(name, f"entry {tag} of this TIFF claims {num_values:,} values", REPLACE)
        if kind in (3, 4):  # one 16-bit or 32-bit number
            value_start = start + entry_bytes - (8 if is_big else 4)
            (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), table, value_start)
            _check_tiff_number(tag, value, name)


def _check_tiff_number(tag: int, value: int, name: str) -> None:
    if tag == 277 and value > _MAX_TIFF_CHANNELS:
        raise BadImage(name, f"this TIFF has {value} channels", "Keep 1 or 3 of them, as JPEG or PNG.")
    if tag == 254 and value & 1:
        reason = "its first picture is only a preview, as in cameras' raw files (DNG, NEF, ARW)"
        raise BadImage(name, reason, CONVERT)
