"""The image files below a folder, in natural order whatever the file system's order is."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recog.core.errors import BadImage, DataError
from recog.core.files import is_hidden, is_written_by_recog, natural_key
from recog.core.images.formats import has_image_suffix, is_image_file


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """The files below a folder, in natural order: the images, by suffix or content, and all others."""

    images: Sequence[str]
    others: Sequence[str]  # no images, hidden, or folders that a link leads back to


def list_images(folder: Path) -> ImageFiles:
    """The files below `folder`; BadImage, under the folder's name, where none of them is an image."""
    walk = walk_folder(folder)
    images: list[str] = []
    others: list[str] = []
    for path in walk.files:
        (images if has_image_suffix(path) or is_image_file(Path(path)) else others).append(path)
    if not images:
        raise BadImage(str(folder), "this folder holds no image file", "Name image files, or a folder of them.")
    return ImageFiles(images=images, others=[*others, *walk.hidden, *walk.loops])


@dataclass(frozen=True, kw_only=True)
class FolderWalk:
    """All entries below a folder, at any depth: files in natural order, hidden entries, and links that lead back.

    Paths are texts, as there may be millions. Folders that recog wrote, such as a run, count as hidden.
    """

    files: list[str]
    hidden: list[str]
    loops: list[str]


def walk_folder(root: Path) -> FolderWalk:
    """DataError where a folder cannot be listed."""
    walk = FolderWalk(files=[], hidden=[], loops=[])
    # a link to a folder above `root` would list what stands beside it, such as another class, as if it were within
    seen = {above.resolve() for above in Path(os.path.abspath(root)).parents} | set(root.resolve().parents)
    pending = [str(root)]
    while pending:
        folder = pending.pop()
        identity = Path(folder).resolve()
        if identity in seen:
            walk.loops.append(folder)
            continue
        seen.add(identity)
        is_folder = _list_folder(folder)
        shown_names = [name for name in is_folder if not is_hidden(name)]
        if folder != str(root) and is_written_by_recog(shown_names):
            walk.hidden.append(folder)
            continue
        prefix = "" if str(root) == "." and folder == "." else f"{folder.rstrip(os.sep)}{os.sep}"
        pending += [prefix + name for name in reversed(shown_names) if is_folder[name]]
        walk.files.extend(prefix + name for name in shown_names if not is_folder[name])
        walk.hidden.extend(prefix + name for name in is_folder if is_hidden(name))
    return walk


def _list_folder(folder: str) -> dict[str, bool]:
    """{name: whether it is a folder, or a link to one} of the entries, in natural order whatever the file system's order is."""
    try:
        if not os.access(folder, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with os.scandir(folder) as entries:
            # of a link to itself, isdir is false
            found = {e.name: os.path.isdir(e.path) if e.is_symlink() else e.is_dir() for e in entries}
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}.") from None
    return {name: found[name] for name in sorted(found, key=natural_key)}
