"""Listing in natural order, hashing, and writing so that a file or folder is either whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recog.core.errors import DataError
from recog.core.text import escape_json, visible

_DIGITS = re.compile(r"(\d{1,4000})")  # of a longer run, which int() refuses, each part counts by itself
_CHUNK_BYTES = 1 << 20
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


def natural_key(name: str) -> tuple[Any, ...]:
    """Sorts 'class2' before 'class10'; names equal but for case or Unicode form keep one fixed order."""
    parts = _DIGITS.split(unicodedata.normalize("NFC", name).casefold())
    return (*((int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)), (-2, name))


def is_litter(name: str) -> bool:
    """Files and folders that file managers, NAS systems and file systems leave behind, such as .DS_Store and lost+found."""
    return name.startswith("._") or name.casefold() in _LITTER


def is_hidden(name: str) -> bool:
    """Names that nobody means as data: dot files and `is_litter`."""
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


def list_folder(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """(sub-folders, other entries, hidden entries) of `folder`, each in natural order whatever the file system's order is."""
    try:
        entries = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
        hidden = [path for path in entries if is_hidden(path.name)]
        shown = [path for path in entries if not is_hidden(path.name)]
        return [p for p in shown if p.is_dir()], [p for p in shown if not p.is_dir()], hidden
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}.") from None


@dataclass(frozen=True, kw_only=True)
class FolderWalk:
    """All entries below a folder, at any depth: files in natural order, hidden entries, and links that lead back.

    Folders that recog wrote, such as a run, count as hidden.
    """

    files: list[Path]
    hidden: list[Path]
    loops: list[Path]


def walk_folder(root: Path) -> FolderWalk:
    walk = FolderWalk(files=[], hidden=[], loops=[])
    # a link to a folder above `root` would list what stands beside it, such as another class, as if it were within
    seen = {above.resolve() for above in root.absolute().parents} | set(root.resolve().parents)
    pending = [root]
    while pending:
        folder = pending.pop()
        identity = folder.resolve()
        if identity in seen:
            walk.loops.append(folder)
            continue
        seen.add(identity)
        folders, files, hidden = list_folder(folder)
        if folder != root and is_written_by_recog([path.name for path in (*folders, *files)]):
            walk.hidden.append(folder)
            continue
        pending += reversed(folders)
        walk.files.extend(files)
        walk.hidden.extend(hidden)
    return walk


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


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
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
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
def staged_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes it when the block ends, and vanishes when the block raises.

    Files are flushed to disk before the rename, so that a `target` that exists is whole.
    """
    if target.exists():
        raise DataError(f"{target} exists already; nothing was written. Choose another name or move it away.")
    target.parent.mkdir(parents=True, exist_ok=True)
    # not the process number alone: in a container it is the same each time, and a killed process leaves its folder
    staging = target.with_name(f"{target.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    staging.mkdir()
    try:
        yield staging
        for path in staging.rglob("*"):
            if path.is_file():
                _sync_file(path)
        _sync_folder(staging)
        staging.rename(target)
        _sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


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
    """The user's cache for `purpose`, made if absent: XDG_CACHE_HOME, else ~/.cache, else the temporary folder."""
    candidates = [os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache"), tempfile.gettempdir()]
    for base in candidates:
        folder = Path(base) / "recog" / purpose
        if not folder.is_absolute():
            continue
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            return folder
    raise DataError("no folder for recog's cache can be written; set XDG_CACHE_HOME to one that can.")


def shown(name: str) -> str:
    """A name for a message: quoted, cut, control characters escaped."""
    text = visible(name)
    return f"'{text[:120]}{'...' if len(text) > 120 else ''}'"
