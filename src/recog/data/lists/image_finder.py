"""Where the images of a list are: its paths, looked up in the folders that may hold them."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from recog.core.errors import BadImage, DataError
from recog.core.files import natural_key, printable_name, shown, user_path
from recog.core.images.decode import Readable
from recog.core.images.formats import has_image_suffix
from recog.data.names import split_of_name
from recog.data.tree import Tree, base_of, parent_of

_DRIVE = re.compile(r"^[A-Za-z]:[/\\]")
# what Label Studio calls a file: /data/upload/PROJECT/8f3c1d2a-cat.jpg, or /data/local-files/?d=pets/cat.jpg
_LABEL_STUDIO = re.compile(r"/data/(?:local-files/\?d=(?P<local>.+)|upload/(?:\d+/)?(?P<upload>[^/]+))$")
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_IMAGES = "images"


@dataclass(frozen=True)
class Place:
    """A folder that may hold the images of a list."""

    folder: str  # as messages call it, and as --images takes it
    prefix: str  # of the names of the images in it, with '/' at the end; '' for the list's own folder
    root: str  # absolute
    files_in: Callable[[str], Sequence[str]]  # the names of the files in a folder below it
    source: Callable[[str], Path | Readable]  # what a file below it is read from
    split: str | None = None


@dataclass(frozen=True)
class Found:
    name: str
    source: Path | Readable


@dataclass(frozen=True, kw_only=True)
class MissingFile:
    """An image that a list names and that is in none of the places: a bad image with its reason."""

    name: str
    reason: str

    def read(self) -> bytes:
        """Raises BadImage."""
        raise BadImage(self.name, self.reason, "Correct the list, or name the folder of its images: --images DIR.")

    def read_prefix(self) -> bytes:
        """Raises BadImage."""
        return self.read()


class _Names:
    """The names in one folder: exact, without suffix, and in whatever case."""

    def __init__(self, names: Sequence[str]) -> None:
        self.exact = frozenset(names)

    @cached_property
    def by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in sorted(filter(has_image_suffix, self.exact), key=natural_key):
            found.setdefault(os.path.splitext(name)[0], []).append(name)
        return found

    @cached_property
    def by_case(self) -> dict[str, str]:
        return {name.casefold(): name for name in self.exact}


@dataclass
class ImageFinder:
    """Looks up the paths of a list's rows; what it found where is counted for `notes`.

    Of `groups` the first that holds a path counts; within a group only one place may hold it.
    """

    groups: Sequence[Sequence[Place]]
    list_split: str | None = None  # of the list as a whole
    is_given: bool = False  # the user named the places, so paths from elsewhere are looked up by their end
    _names: dict[tuple[Place, str], _Names] = field(default_factory=dict)
    _found_in: Counter[Place] = field(default_factory=Counter)
    _ways: dict[str, None] = field(default_factory=dict)  # other than by the whole path
    _first_missing: str = ""

    def find(self, path: str, split: str | None, where: str) -> Found:
        """The image of one row, or a `MissingFile`. DataError where `path` is none or leads out of the list's folder."""
        text = path.replace("\\", "/") if "/" not in path or _DRIVE.match(path) else path
        if not text.strip("/"):
            raise DataError(f"{where} has no path.")
        if "\0" in text:
            raise DataError(f"{where} has a path with a NUL character in it, which no file has.")
        ends = self._ends(text)
        if not ends:
            raise DataError(self._leads_out(text, where))
        groups = self._groups_for(split)
        for look in (self._exact, self._by_stem):
            for group in groups:
                hits = [(place, name) for place in group for name in self._first(look, place, ends)]
                if len(hits) == 1:
                    return self._take(*hits[0])
                if hits:
                    both = " and ".join(place.prefix + name for place, name in hits[:3])
                    return self._missing(text, f"{len(hits)} files fit it: {both}", where)
        near = self._nearest(text)
        return self._missing(text, f"there is no such file{f'; the nearest is {near}' if near else ''}", where)

    def holds(self, path: str) -> bool:
        """Whether a place holds a file of exactly this path."""
        relative = posixpath.normpath(path.replace("\\", "/")) if path.strip() and "\0" not in path else ".."
        return not relative.startswith(("..", "/")) and any(
            any(self._exact(place, relative)) for group in self.groups for place in group
        )

    def check_any_found(self, where: str, num_rows: int) -> None:
        """DataError where not a single image of the list is there."""
        if num_rows and not self._found_in:
            listed = ", ".join(place.folder for group in self.groups for place in group)
            raise DataError(
                f"{where} lists {num_rows:,} images, of which none is in {listed}. The first: {self._first_missing}. "
                "Correct the paths, or name the folder of the images: --images DIR."
            )

    @property
    def notes(self) -> list[str]:
        """Where the images are, unless all are in the list's own folder."""
        own = None if self.is_given else self.groups[0][0]
        away = [place for place in self._found_in if place != own]
        if not away and not self._ways:
            return []
        places = ", ".join(f"{place.folder} ({self._found_in[place]:,})" for place in self._found_in)
        return ["; ".join([f"images: {places}", *self._ways])]

    def _take(self, place: Place, name: str) -> Found:
        self._found_in[place] += 1
        return Found(place.prefix + printable_name(name), place.source(name))

    def _missing(self, text: str, reason: str, where: str) -> Found:
        self._first_missing = self._first_missing or f"{where} names {shown(text)}: {reason}"
        name = posixpath.normpath(text).lstrip("/")
        return Found(name, MissingFile(name=name, reason=reason))

    def _groups_for(self, split: str | None) -> Sequence[Sequence[Place]]:
        """Without the places of other splits where there is one of the row's or the list's split, else with these last."""
        for wanted in (split, self.list_split):
            if wanted and any(place.split == wanted for group in self.groups for place in group):
                return [[place for place in group if place.split in (None, wanted)] for group in self.groups]
        if not (split or self.list_split):
            return self.groups
        others = [place for group in self.groups for place in group if place.split]
        return [*([place for place in group if not place.split] for group in self.groups), others]

    def _ends(self, text: str) -> list[str]:
        """What to look up below a place, in this order; none where the path leads out of the list's folder."""
        if match := _LABEL_STUDIO.match(text):
            self._ways["paths of Label Studio matched by the file's name"] = None
            name = unquote(match["local"] or match["upload"])
            return list(dict.fromkeys((*_tails(name), *_tails(_UPLOAD_PREFIX.sub("", base_of(name))))))
        full = posixpath.normpath(text)
        is_away = full.startswith(("..", "/")) or _DRIVE.match(text)
        if not is_away:
            return [full]
        for group in self.groups:
            for place in group:
                if full.startswith(place.root.rstrip("/") + "/"):
                    return [full[len(place.root.rstrip("/")) + 1 :]]
        if not self.is_given:
            return []
        self._ways["paths from elsewhere matched by their end"] = None
        return list(_tails(text))

    def _first(self, look: Callable[[Place, str], Iterator[str]], place: Place, ends: Sequence[str]) -> Iterator[str]:
        """All that `look` finds for the first of the `ends` for which it finds something."""
        for end in ends:
            found = list(look(place, end))
            if found:
                yield from found
                return

    def _exact(self, place: Place, path: str) -> Iterator[str]:
        for name in (path, path.removeprefix(f"{base_of(place.root)}/")):
            if base_of(name) in self._listing(place, parent_of(name)).exact:
                yield name
                return

    def _by_stem(self, place: Place, path: str) -> Iterator[str]:
        if not has_image_suffix(path):
            folder = parent_of(path)
            names = self._listing(place, folder).by_stem.get(base_of(path), [])
            if names:
                self._ways["paths without a suffix matched by the file's name"] = None
            yield from (f"{folder}/{name}" if folder else name for name in names)

    def _listing(self, place: Place, folder: str) -> _Names:
        key = (place, folder)
        if key not in self._names:
            self._names[key] = _Names(place.files_in(folder))
        return self._names[key]

    def _nearest(self, text: str) -> str | None:
        """An existing file whose name differs by case or suffix, or that is the end of the path."""
        places = [place for group in self.groups for place in group]
        if not text.startswith("/") and not _DRIVE.match(text):
            folder, name = parent_of(posixpath.normpath(text)), base_of(text)
            for place in places:
                names = self._listing(place, folder)
                near = names.by_case.get(name.casefold()) or next(
                    iter(names.by_stem.get(os.path.splitext(name)[0], [])), None
                )
                if near:
                    return shown(place.prefix + (f"{folder}/{near}" if folder else near))
        for tail in _tails(text):
            for place in places:
                if any(self._exact(place, tail)):
                    return shown(place.prefix + tail)
        return None

    def _leads_out(self, text: str, where: str) -> str:
        if folder := self._folder_outside(text):
            hint = (
                f" Name the folder that it leads to, below which the rest of each path is looked up: --images {folder}."
            )
        else:
            near = self._nearest(text)
            hint = (
                f"{f' {near} is there.' if near else ''} Write the paths relative to the list, or name the folder of the images, "
                "below which the end of each path is looked up: --images DIR."
            )
        return f"{where} has the path {shown(text)}, which leads out of the list's folder.{hint}"

    def _folder_outside(self, text: str) -> str:
        """The folder that a path to an existing file outside the list's folder leads to, as --images takes it; else ''."""
        root = self.groups[0][0].root
        full = posixpath.normpath(posixpath.join(root, text))
        if not has_image_suffix(full) or not os.path.isfile(full):
            return ""
        depth = next((k for k, part in enumerate(posixpath.normpath(text).split("/")) if part != ".."), 0)
        folder = posixpath.normpath(posixpath.join(root, *[".."] * depth)) if depth else posixpath.dirname(full)
        nearest = min(folder, os.path.relpath(folder), key=len)
        return shlex.quote(nearest) if "'" in nearest else f"'{nearest}'"


def given_places(folders: Sequence[str]) -> list[list[Place]]:
    """The folders that the user names. DataError where one is none."""
    paths = [user_path(folder) for folder in folders]
    for folder, path in zip(folders, paths, strict=True):
        if not path.is_dir():
            raise DataError(f"--images names {folder}, which is {'no folder' if path.exists() else 'not there'}.")
    prefixes = [f"{path.absolute().name}/" for path in paths]
    if len(set(prefixes)) < len(prefixes):
        prefixes = [f"{folder.strip('./')}/" for folder in folders]
    places = [
        disk_place(path, prefix if len(paths) > 1 else "", folder=folder)
        for folder, path, prefix in zip(folders, paths, prefixes, strict=True)
    ]
    return [places]


def places_on_disk(root: Path, stem: str = "") -> list[list[Place]]:
    """`root`, the folder of a list; in it, or in its images/, those named like splits, and images/; else images/ beside it, or
    the folder that the list is of.

    COCO has annotations/instances_val2017.json beside val2017: `stem` is the list's name, whose last word is the folder's.
    """
    folders = _folders_in(root)
    folders += [
        f"{name}/{inner}"
        for name in folders
        if name.lower() == _IMAGES
        for inner in _folders_in(root / name)
        if split_of_name(inner)
    ]
    groups = _in_order(disk_place(root, ""), [disk_place(root / name, f"{name}/") for name in folders])
    for name in (_IMAGES, stem.rpartition("_")[2]):
        outside = root.absolute().parent / name
        if name and outside.is_dir() and not any(place.prefix.lower() == f"{name}/" for g in groups for place in g):
            groups.append([disk_place(outside, f"{name}/")])
    return groups


def _folders_in(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted((entry.name for entry in entries if entry.is_dir()), key=natural_key)


def places_in_tree(tree: Tree, folder: str) -> list[list[Place]]:
    """As `places_on_disk`, of a list in `folder` of a tree."""
    names = tree.folders_in(folder)
    within = [inner for name in names if base_of(name).lower() == _IMAGES for inner in tree.folders_in(name)]
    names = [*names, *(inner for inner in within if split_of_name(base_of(inner)))]
    groups = _in_order(tree_place(tree, folder), [tree_place(tree, name) for name in names])
    beside = "/".join(part for part in (parent_of(folder), _IMAGES) if part)
    if folder and beside in tree.folders and len(groups) < 3:
        groups.append([tree_place(tree, beside)])
    return groups


def _in_order(own: Place, folders: Sequence[Place]) -> list[list[Place]]:
    names = [base_of(place.prefix.rstrip("/")) for place in folders]
    splits = [
        replace(place, split=split_of_name(name))
        for place, name in zip(folders, names, strict=True)
        if split_of_name(name)
    ]
    images = [place for place, name in zip(folders, names, strict=True) if name.lower() == _IMAGES]
    return [group for group in ([own], splits, images) if group]


def disk_place(path: Path, prefix: str, *, folder: str | None = None) -> Place:
    def files_in(below: str) -> list[str]:
        try:
            with os.scandir(path / below) as entries:
                return [entry.name for entry in entries if not entry.is_dir()]
        except OSError:
            return []

    return Place(
        folder or str(path), prefix, Path(os.path.abspath(path)).as_posix(), files_in, lambda name: path / name
    )


def tree_place(tree: Tree, folder: str) -> Place:
    prefix = f"{folder}/" if folder else ""

    def files_in(below: str) -> list[str]:
        return [base_of(name) for name in tree.files_in((prefix + below).rstrip("/"))]

    shown_as = "/".join(part for part in (tree.where.rstrip("/"), folder) if part)
    return Place(
        shown_as, prefix, Path(os.path.abspath(shown_as)).as_posix(), files_in, lambda name: tree.files[prefix + name]
    )


def _tails(text: str) -> Iterator[str]:
    """The ends of a path, the longest first."""
    parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return ("/".join(parts[k:]) for k in range(len(parts)))
