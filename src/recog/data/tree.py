"""Named files below one root, alike for a folder and for an archive, so that one reader understands the layout of both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from recog.bundle.manifest import RUNS
from recog.core.errors import BadImage, DataError
from recog.core.files import is_hidden, is_written_by_recog, natural_key, printable_name
from recog.core.images.decode import Readable
from recog.core.images.formats import has_image_suffix, is_image_content, is_image_file
from recog.data.dataset import Exclusion
from recog.data.names import excluded_by

HIDDEN = "hidden or left behind by a tool"
OWN = "written by recog"
_UNLABELLED = "unlabelled"
ARCHIVE_SUFFIXES = (
    ".zip",
    ".tar",
    ".tgz",
    ".tar.gz",
    ".tar.bz2",
    ".tbz2",
    ".tar.xz",
    ".txz",
    ".tar.zst",
    ".7z",
    ".rar",
)


class Member(Readable, Protocol):
    """A file in an archive; `read_prefix` reads its first `PREFIX_BYTES` or fewer. Both raise BadImage."""

    def read_prefix(self) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class Tree:
    """`files` by their path below the root, with '/'; `folders` are all folders, the empty ones too, without the root."""

    name: str  # of the data
    where: str  # as messages call the root
    files: Mapping[str, Path | Member]
    folders: frozenset[str]
    exclusions: tuple[Exclusion, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def _children(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        folders: dict[str, list[str]] = {}
        files: dict[str, list[str]] = {}
        for name in sorted(self.folders, key=natural_key):
            folders.setdefault(parent_of(name), []).append(name)
        for name in self.files:
            files.setdefault(parent_of(name), []).append(name)
        for names in files.values():
            names.sort(key=natural_key)
        return folders, files

    def folders_in(self, folder: str) -> list[str]:
        """The folders directly in `folder` ('' is the root), as full paths, in natural order."""
        return self._children[0].get(folder, [])

    def files_in(self, folder: str) -> list[str]:
        """The files directly in `folder`, as full paths, in natural order."""
        return self._children[1].get(folder, [])

    def files_below(self, folder: str) -> Iterator[str]:
        """The files in `folder`, then those of its folders, at any depth."""
        pending = [folder]
        while pending:
            here = pending.pop()
            yield from self.files_in(here)
            pending += reversed(self.folders_in(here))

    def is_image(self, name: str) -> bool:
        """By its suffix, else by its first bytes: an image of a format that is not read counts as one too."""
        source = self.files[name]
        if has_image_suffix(name):
            return True
        if isinstance(source, Path):
            return is_image_file(source)
        try:
            return is_image_content(source.read_prefix())
        except BadImage:
            return False


def unlabelled_folder(tree: Tree, folder: str, why: str) -> Exclusion:
    """A folder of images that is left aside, as it has no labels."""
    num_images = sum(has_image_suffix(name) for name in tree.files_below(folder))
    return Exclusion(name=folder, reason=f"{_UNLABELLED}, as {why}; {num_images:,} images")


def predict_notes(tree: Tree, exclusions: Sequence[Exclusion]) -> list[str]:
    """What may be done with the folders that are left aside as unlabelled."""
    folders = [exclusion.name for exclusion in exclusions if exclusion.reason.startswith(_UNLABELLED)]
    if not folders:
        return []
    where = f"{tree.where.rstrip('/')}/{folders[0]}"
    return [f"images without labels are left aside: {', '.join(folders)}; once trained: recog predict RUN {where}"]


def parent_of(name: str) -> str:
    return name.rpartition("/")[0]


def base_of(name: str) -> str:
    return name.rpartition("/")[2]


def ancestors_of(name: str) -> Iterator[str]:
    """The folders that hold `name`, the nearest first."""
    while name := parent_of(name):
        yield name


@dataclass
class _Walk:
    """A walk over a folder on disk while it goes."""

    root: Path
    files: dict[str, Path | Member] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    exclusions: list[Exclusion] = field(default_factory=list)
    num_links_out: int = 0


def walk_tree(root: Path) -> Tree:
    """Everything below `root`. Links are followed, but not one that leads back to a folder that holds it."""
    walk = _Walk(root)
    inside = root.resolve()
    # a link to a folder above `root` would list what stands beside it, such as another class, as if it were within
    outer = {_identity(folder) for folder in (root, *root.absolute().parents, *inside.parents)}
    pending: list[tuple[Path, str, tuple[tuple[int, int], ...]]] = [(root, "", ())]
    while pending:
        folder, prefix, above = pending.pop()
        for entry in _list(folder):
            name = prefix + printable_name(entry.name)
            if is_hidden(entry.name):
                walk.exclusions.append(Exclusion(name=name, reason=HIDDEN))
                continue
            if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(inside):
                walk.num_links_out += 1
            if not os.path.isdir(entry.path):  # unlike entry.is_dir, false for a link to itself
                walk.files[name] = Path(entry.path)
                continue
            identity = _identity(Path(entry.path))
            if identity in above or identity in outer:
                walk.exclusions.append(Exclusion(name=name, reason="the same folder again, through a link"))
                continue
            walk.folders.add(name)
            pending.append((Path(entry.path), f"{name}/", (*above, identity)))
    notes = []
    if walk.num_links_out:
        links = "1 link leads" if walk.num_links_out == 1 else f"{walk.num_links_out} links lead"
        notes.append(f"{links} out of {root} and will be followed")
    tree = Tree(
        name=printable_name(inside.name),
        where=str(root),
        files=walk.files,
        folders=frozenset(walk.folders),
        exclusions=tuple(walk.exclusions),
        notes=tuple(notes),
    )
    return without_own(tree)


def without_own(tree: Tree) -> Tree:
    """`tree` without the folders that recog wrote: runs, bundles, evaluations, caches, and what holds nothing but these."""
    own: set[str] = set()
    for folder in sorted(tree.folders, key=lambda name: name.count("/"), reverse=True):
        below, files = tree.folders_in(folder), tree.files_in(folder)
        is_parent = base_of(folder) == str(RUNS) or (below and not files and own.issuperset(below))
        holds_own_only = is_parent and (not own.isdisjoint(below) or not (below or files))
        if holds_own_only or is_written_by_recog([base_of(name) for name in (*below, *files)]):
            own.add(folder)
    outermost = [folder for folder in own if own.isdisjoint(ancestors_of(folder))]
    if not own:
        return tree

    def is_kept(name: str) -> bool:
        return name not in own and own.isdisjoint(ancestors_of(name))

    return _filtered(
        tree, is_kept, [Exclusion(name=folder, reason=OWN) for folder in sorted(outermost, key=natural_key)]
    )


def without_excluded(tree: Tree, globs: Sequence[str]) -> Tree:
    """`tree` without the files and folders that `globs` match, each by name, and without the folders that this empties."""
    if not globs:
        return tree
    found = {name: excluded_by(name, globs) for name in (*tree.files, *tree.folders)}
    added = [exclusion_by(glob, name) for name in tree.files if (glob := found[name]) is not None]
    held = {folder for name in tree.files for folder in ancestors_of(name)}
    still = {folder for name in tree.files if found[name] is None for folder in ancestors_of(name)}
    if tree.files and len(added) == len(tree.files):
        raise DataError(f"--exclude leaves no file of {tree.where}. Exclude less.")
    return _filtered(tree, lambda name: found.get(name) is None and name not in held - still, added)


def exclusion_by(glob: str, name: str) -> Exclusion:
    return Exclusion(name=name, reason=f"--exclude '{glob}'")


def _filtered(tree: Tree, is_kept: Callable[[str], bool], added: Sequence[Exclusion]) -> Tree:
    return replace(
        tree,
        files={name: source for name, source in tree.files.items() if is_kept(name)},
        folders=frozenset(filter(is_kept, tree.folders)),
        exclusions=(*(exclusion for exclusion in tree.exclusions if is_kept(exclusion.name)), *added),
    )


def _list(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}. Check its permissions.") from None


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
