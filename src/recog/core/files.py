"""Listing in natural order, hashing, and writing so that a file or folder is either whole or absent."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from recog.core.errors import DataError, RecogError
from recog.core.outputs import derive_name
from recog.core.text import escape_json, visible

_DIGITS = re.compile(r"(\d{1,4000})")  # of a longer run, which int() refuses, each part counts by itself
_LITTER = frozenset(
    {
        ".ds_store",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "__macosx",
        "__pycache__",
        "lost+found",
        "@eadir",
    }
    | {"system volume information", "$recycle.bin", "#recycle", "@recycle", "network trash folder", "temporary items"}
)
_RUN_FILES = frozenset(
    {"run.toml", "train.lock", "recog.json"}
)  # each is in a run folder or in a bundle, and nowhere else


def natural_key(name: str) -> str:
    """Sorts 'class2' before 'class10'; names equal but for case or Unicode form keep one fixed order.

    A text, as a folder of a million images has as many keys: numbers have the count of their digits before them, and what
    separates the parts sorts before all that may be in one.
    """
    parts = _DIGITS.split(unicodedata.normalize("NFC", name).casefold())
    key = ""
    for i, part in enumerate(parts):
        if i % 2:
            digits = str(int(part))
            key += f"{chr(len(digits) + 1)}{digits}"
        else:
            key += f"{part}\0"
    return f"{key}\1{name}"


def is_litter(name: str) -> bool:
    """Files and folders that file managers, NAS systems and file systems leave behind, such as .DS_Store and lost+found."""
    return name.startswith("._") or name.casefold() in _LITTER


def is_hidden(name: str) -> bool:
    """Names that are not meant as data: dot files and `is_litter`."""
    return name.startswith(".") or is_litter(name)


def is_written_by_recog(names: Collection[str]) -> bool:
    """Whether a folder with these entries is a run, a bundle, an evaluation or a cache of decoded images."""
    return (
        not _RUN_FILES.isdisjoint(names)
        or ("report.json" in names and "report.html" in names)
        or any(name.endswith(".images") for name in names)
    )


def printable_name(name: str) -> str:
    """`name` as text that any file or terminal takes: bytes that are not UTF-8, as old archives leave them, become \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


_FLAGS = {
    "rb": os.O_RDONLY,
    "r+b": os.O_RDWR,
    "ab": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "a+b": os.O_RDWR | os.O_CREAT | os.O_APPEND,
}
_SAFE_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(
    path: Path, mode: Literal["rb", "r+b", "ab", "a+b"] = "rb", *, error: type[RecogError] = DataError
) -> BinaryIO:
    """Open a file that may come from elsewhere; `error` unless it is a regular file, or with "ab" and "a+b" absent.

    Never waits for a pipe, never opens a device, never follows a link in place of the file.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            _check_regular(path, os.lstat(path).st_mode, error)  # before opening: opening a device may act on it
        file = os.fdopen(os.open(path, _FLAGS[mode] | _SAFE_FLAGS, 0o666), mode)
    except (OSError, ValueError) as problem:  # ValueError: a zero byte in the path
        what = "read" if mode == "rb" else "written"
        raise error(f"{path} cannot be {what}: {getattr(problem, 'strerror', None) or problem}.") from problem
    try:
        _check_regular(path, os.fstat(file.fileno()).st_mode, error)  # again: the name may mean another file by now
    except BaseException:
        file.close()
        raise
    return file


def not_linked(folder: Path, *, error: type[RecogError] = DataError) -> Path:
    """`folder`; `error` where it is a link, by which a folder from elsewhere would have files written or removed outside it."""
    if folder.is_symlink():
        raise error(f"{folder} is a symbolic link; expected a folder. Replace it by what it links to, or remove it.")
    return folder


def size_of_regular(path: Path, *, error: type[RecogError] = DataError) -> int:
    """The bytes of a regular file; `error` where it is anything else."""
    with open_regular(path, error=error) as file:
        return os.fstat(file.fileno()).st_size


def is_read_only(problem: BaseException | None) -> bool:
    """Whether the error is that of a file or folder that the user may not change."""
    return isinstance(problem, OSError) and problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def _check_regular(path: Path, mode: int, error: type[RecogError]) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe"}
        raise error(f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device or socket')}; expected a regular file.")


def user_path(path: str | Path) -> Path:
    """`path` with a leading '~' as the user's home, unless something of that very name exists."""
    return Path(path) if os.path.lexists(path) else Path(os.path.expanduser(path))


def sha256_file(path: Path, *, error: type[RecogError] = DataError) -> str:
    """The sha256 of a regular file, as hexadecimal digits; `error` where it is not one or cannot be read."""
    with open_regular(path, error=error) as file:
        try:
            return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()
        except OSError as problem:
            raise error(f"{path} cannot be read: {problem.strerror}.") from None


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """One byte string for one value: sorted keys, no spaces, no NaN; what digests are taken over. Lone surrogates are escaped."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace")


def pretty_json(value: Any) -> bytes:
    """For files that people open; refuses NaN, which JSON does not have. Hidden characters and lone surrogates are escaped."""
    return (escape_json(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)) + "\n").encode()


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write `path` so that a crash leaves the old file or the new one, never a part: temporary file, fsync, rename, fsync."""
    temporary = _temporary_name(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[BinaryIO]:
    """A temporary file that becomes `target` when the block ends, flushed to disk, and vanishes when the block raises.

    DataError where something of that name exists by then.
    """
    temporary = _temporary_name(target)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.lexists(target):
            raise _exists(target)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _temporary_name(target: Path) -> Path:
    # not the process number alone: in a container it is the same each time, and a killed process leaves its files
    return target.with_name(f"{target.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def claim_folder(parent: Path, name: str) -> Path:
    """A new, empty folder: the first free one of NAME-1, NAME-2, ... in `parent`. No two processes get the same. OSError.

    What no system takes in a name is replaced in `name`, which may come from data.
    """
    name = derive_name(name)
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        with contextlib.suppress(FileExistsError):
            (parent / f"{name}-{number}").mkdir()
            return parent / f"{name}-{number}"
    raise AssertionError  # the numbers do not end


@contextlib.contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Create the folder `target` for the block that fills it, before its work, and remove it if the block raises.

    DataError where it exists.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.mkdir()
    except FileExistsError:
        raise _exists(target) from None
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            target.rmdir()
        raise


@contextlib.contextmanager
def staged_folder(target: Path, *, is_claimed: bool = False) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes it when the block ends, and vanishes when the block raises.

    Files are flushed to disk before the rename, so that a `target` that exists is whole. With `is_claimed`, an empty `target`
    that the caller created is replaced.
    """
    if os.path.lexists(target) and not is_claimed:
        raise _exists(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = _temporary_name(target)
    staging.mkdir()
    try:
        yield staging
        for path in staging.rglob("*"):
            if path.is_file():
                _sync_file(path)
        _sync_folder(staging)
        if is_claimed and sys.platform == "win32":
            target.rmdir()  # elsewhere a folder replaces an empty one in one step
        _rename_folder(staging, target)
        _sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        if is_claimed:
            with contextlib.suppress(OSError):
                target.rmdir()
        raise


def _rename_folder(staging: Path, target: Path) -> None:
    try:
        staging.rename(target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):  # another process was faster
            raise _exists(target) from None
        raise


def _exists(target: Path) -> DataError:
    return DataError(f"{target} exists already; nothing was written. Choose another name or move it away.")


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows has no handle on a folder to flush
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_folder(purpose: str) -> Path:
    """The user's cache for `purpose`, made if absent: below XDG_CACHE_HOME, else ~/.cache, else a temporary folder of the user.

    It belongs to the user and is closed to others, as its files are trusted. DataError where there is no such place.
    """
    problems = []
    for place in _cache_places():
        folder = Path(place) / "recog"
        if not folder.is_absolute():
            continue
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            _make_private(folder)
            (folder / purpose).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problems.append(f"{error.filename or folder}: {error.strerror}")
            continue
        return folder / purpose
    raise DataError(
        f"recog has no folder for its cache ({'; '.join(problems)}). Set XDG_CACHE_HOME to a folder of your own."
    )


def _cache_places() -> Iterator[str]:
    yield os.environ.get("XDG_CACHE_HOME", "")
    yield os.path.expanduser("~/.cache")
    with contextlib.suppress(OSError):
        folder = tempfile.gettempdir()
        found = os.stat(folder)
        if not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022):
            yield folder  # others cannot write into it, as they can into /tmp


def _make_private(folder: Path) -> None:
    """Shut others out of the user's own `folder`. PermissionError where it belongs to somebody else."""
    if not hasattr(os, "getuid"):
        return
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise PermissionError(1, f"it belongs to the user {found.st_uid}, and you are {os.getuid()}", str(folder))
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def shown(name: str) -> str:
    """A name for a message: quoted, cut, control characters escaped."""
    text = visible(name)
    return f"'{text[:120]}{'...' if len(text) > 120 else ''}'"
