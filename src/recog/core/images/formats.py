"""Image formats: recognised by a file's first bytes, and by its suffix. What is an image counts as one, readable or not."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from recog.core.errors import BadImage
from recog.core.images.image_file import CONVERT, DEFAULT_LIMITS, REPLACE, open_encoded

PREFIX_BYTES = 1024  # enough to tell every kind below, and an SVG behind an XML preamble and a comment
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".mpo", ".avif", ".heic", ".heif"}
    | {".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".tga", ".dcm"}
    # not read, but images: each is a bad file with its format as the reason
    | {
        ".jxl",
        ".jxr",
        ".psd",
        ".exr",
        ".hdr",
        ".dng",
        ".cr2",
        ".nef",
        ".arw",
    }
)

# First bytes -> Pillow's name of the format. Everything else is refused unopened.
_ALLOWED: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb".{128}DICM", re.DOTALL), "DICOM"),  # before TIFF, which the 128 bytes may be the header of
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"II[*+]\0(?!.{4}CR)|MM\0[*+]", re.DOTALL), "TIFF"),  # "CR" follows in Canon's raw files
    (re.compile(rb"BM.{4}", re.DOTALL), "BMP"),
    (re.compile(rb"P[1-6]\s"), "PPM"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG2000"),
    (  # without a signature: type, colour map, place, size, depth and orientation, all within their limits
        re.compile(
            rb".(?:\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09].{4}[\x0f\x10\x18\x20]).{4}(?!\0\0).{2}(?!\0\0).{2}[\x08\x10\x18\x20][\0-\x2f]",
            re.DOTALL,
        ),
        "TGA",
    ),
)

_REFUSED: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer, not the image it stands for"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "PostScript (EPS)"),
    (re.compile(rb"\s*%PDF"), "a PDF document"),
    (re.compile(rb"8BPS"), "a Photoshop document (PSD)"),
    (re.compile(rb"SIMPLE  ="), "a FITS file"),
    (re.compile(rb"II\*\0|FUJIFILM|IIR[OS]|IIU\0"), "a camera's raw file"),
    (re.compile(rb"\0\0\0\x0cJXL |\xff\x0a"), "JPEG XL"),
    (re.compile(rb"II\xbc"), "JPEG XR"),
    (re.compile(rb"\0\0\x01\0"), "an icon (ICO)"),
    (re.compile(rb"P[Ff]\s"), "a float image (PFM)"),
    (re.compile(rb"\x76\x2f\x31\x01"), "OpenEXR"),
    (re.compile(rb"#\?RADIANCE|#\?RGBE"), "a Radiance HDR image"),
    (re.compile(rb"qoif"), "a QOI image"),
    (re.compile(rb"DDS "), "a DDS texture"),
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


_REFUSED_IMAGES = frozenset(
    {"PostScript (EPS)", "a Photoshop document (PSD)", "a FITS file", "a camera's raw file"}
    | {"JPEG XL", "JPEG XR", "an icon (ICO)", "a float image (PFM)", "an SVG drawing"}
    | {"OpenEXR", "a Radiance HDR image", "a QOI image", "a DDS texture"}
)
_STRICT: Mapping[str, re.Pattern[bytes]] = MappingProxyType(
    {  # formats whose first bytes are so short that other files, such as a text about BMWs, may begin with them
        "BMP": re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0{3}", re.DOTALL),
        "PPM": re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s"),
        "an icon (ICO)": re.compile(rb"\0\0\x01\0[\x01-\x40]\0.{3}\0", re.DOTALL),
        "a float image (PFM)": re.compile(rb"P[Ff]\s+\d+\s+\d+\s+-?[\d.]+\s"),
    }
)


def recognise(prefix: bytes, name: str) -> str:
    """Pillow's name for the format of a file that starts with `prefix`, or 'HEIF'. BadImage names what it looks like instead."""
    kind = _read_kind(prefix)
    if kind is not None:
        return kind
    kind = _refused_kind(prefix)
    if kind is not None:
        reason = f"it is not an image that recog reads; it looks like {kind}"
        raise BadImage(name, reason, _REMEDIES.get(kind, CONVERT))
    raise BadImage(name, "it is not an image; its first bytes belong to no known format", REPLACE)


def has_image_suffix(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def is_image_content(prefix: bytes) -> bool:
    """Whether a file that starts with `prefix` is an image, of a format that recog reads or not."""
    kind = _read_kind(prefix)
    if kind is None:
        kind = _refused_kind(prefix)
        if kind not in _REFUSED_IMAGES:
            return False
    return kind not in _STRICT or _STRICT[kind].match(prefix) is not None


def is_image_file(path: Path) -> bool:
    """By the suffix, else by the first bytes, whatever `path` is: a pipe or an unreadable file is none."""
    if has_image_suffix(path.name):
        return True
    try:
        with open_encoded(path, path.name, DEFAULT_LIMITS) as file:
            return is_image_content(file.read(PREFIX_BYTES))
    except (BadImage, OSError):
        return False


def _read_kind(prefix: bytes) -> str | None:
    for pattern, kind in _ALLOWED:
        if pattern.match(prefix):
            return kind
    brands = _iso_brands(prefix)
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return "HEIF"
    return None


def _refused_kind(prefix: bytes) -> str | None:
    text = prefix.removeprefix(b"\xef\xbb\xbf")
    return next((kind for pattern, kind in _REFUSED if pattern.match(text)), None)


def _iso_brands(prefix: bytes) -> set[bytes]:
    """The major and compatible brands of an ISO base media file, such as AVIF, HEIC and MP4; empty for other files."""
    if prefix[4:8] != b"ftyp":
        return set()
    box = prefix[: min(int.from_bytes(prefix[:4], "big"), 256)]
    return {box[8:12], *(box[i : i + 4] for i in range(16, len(box) - 3, 4))}
