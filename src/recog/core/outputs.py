"""Names and places of what recog writes, checked before any work begins."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from recog.core.errors import ConfigError, DataError, DiskError, RecogError
from recog.core.text import visible

MAX_NAME_BYTES = 200  # file systems take 255; the rest is for suffixes such as those of temporary files
PREVIEW_SOFTWARE = "recog scan --preview"
_FORBIDDEN = frozenset('/\\:*?"<>|')  # by Linux, macOS or Windows
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))}  # by Windows
_MARK_WITHIN = 256  # bytes
_EXPECTED = "Give one name of a folder that every system takes, such as flowers-2."


def check_name(name: str, option: str) -> str:
    """`name`, given by `option`, if it is one path component that is valid on every system; else ConfigError."""
    wrong = _what_is_wrong(name)
    if wrong:
        text = visible(name)
        raise ConfigError(f"{option} is '{text[:60]}{'...' if len(text) > 60 else ''}', which {wrong}. {_EXPECTED}")
    return name


def derive_name(text: str) -> str:
    """A valid name near `text`, such as the name of a data set: what no name may contain becomes '-'."""
    name = "".join("-" if c in _FORBIDDEN or visible(c) != c else c for c in text)
    name = name.encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip(". ").lstrip("-. ") or "data"
    return f"data-{name}" if _what_is_wrong(name) else name


def check_new_path(path: Path, option: str, *, suffix: str = "", own_mark: bytes = b"") -> None:
    """ConfigError, DataError or DiskError unless `path`, given by `option`, can be created, with the folders above it.

    `suffix`: what the name of a file has to end with. A file that has `own_mark` in its first bytes may be replaced.
    """
    if not path.name:
        raise ConfigError(f"{option} is '{path}', which names no new file or folder. Give the path of one.")
    if suffix and path.suffix.lower() != suffix:
        raise ConfigError(
            f"{option} is {path}; the file is a {suffix[1:].upper()}, so its name has to end with {suffix}."
        )
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise ConfigError(f"{option} has a name of more than {MAX_NAME_BYTES} bytes: {path}. Choose a shorter one.")
    if _exists(path, option) and not _has_mark(path, own_mark):
        raise DataError(f"{path} exists already; nothing was written. Choose another name or move it away.")
    _check_writable(path.absolute(), option)


def check_output_folder(folder: Path, option: str) -> None:
    """DataError or DiskError unless files can be put into `folder`, given by `option`: a folder, or nothing yet."""
    if folder.is_symlink() or (os.path.lexists(folder) and not folder.is_dir()):
        raise DataError(f"{option} is {folder}, which is not a folder. Choose another name.")
    if not folder.is_dir():
        check_new_path(folder, option)
    elif not os.access(folder, os.W_OK | os.X_OK):
        raise DiskError(f"{option}: no right to write into {folder}. Choose another folder.")


def check_preview(path: Path) -> None:
    """As `check_new_path` for the PNG of --preview, which may replace an earlier preview but no other file."""
    check_new_path(path, "--preview", suffix=".png", own_mark=f"Software\0{PREVIEW_SOFTWARE}".encode())


def _check_writable(path: Path, option: str) -> None:
    """The nearest folder that exists above `path` can be written."""
    above = next(folder for folder in path.parents if _exists(folder, option))
    if not os.path.isdir(above):
        raise _unusable(DiskError, option, path, f"{above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise _unusable(DiskError, option, path, f"no right to write into {above}")


def _exists(path: Path, option: str) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        if error.errno == errno.ENOTDIR:
            return False  # found by the folder above it
        raise _unusable(ConfigError, option, path, error.strerror or "") from None
    return True


def _has_mark(path: Path, mark: bytes) -> bool:
    if not mark or path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return mark in file.read(_MARK_WITHIN)


def _unusable(kind: type[RecogError], option: str, path: Path, why: str) -> RecogError:
    return kind(f"{option}: {path} cannot be created: {why}. Choose another place.")


def _what_is_wrong(name: str) -> str:
    if not name.strip(". "):
        return "is no name"
    forbidden = sorted({visible(c) for c in name if c in _FORBIDDEN or visible(c) != c})
    if forbidden:
        return f"contains {' '.join(forbidden)}"
    if name[0] in "-. " or name[-1] in ". ":
        return "starts with '-', '.' or a space, or ends with '.' or a space"
    if name.partition(".")[0].upper() in _RESERVED:
        return "is reserved by Windows"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"has more than {MAX_NAME_BYTES} bytes"
    return ""
