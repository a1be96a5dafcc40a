"""What `recog predict` is given: files, folders, patterns, archives, lists or standard input, as one sequence of images."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from recog.answers.stream import Inputs, Unusable
from recog.core.config import nearest
from recog.core.errors import BadImage, ConfigError, DataError
from recog.core.images.decode import DEFAULT_LIMITS
from recog.core.images.formats import has_image_suffix, is_image_file
from recog.report.text import listing, plural
from recog.runtime.folders import list_images
from recog.runtime.predictor import ImageSource

if TYPE_CHECKING:
    from recog.data.data_layout import DataLayout

STDIN = ("-", "/dev/stdin")
_STDIN_NAME = "stdin"
_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})")
_IN_ZIP = re.compile(r"\.zip(/|$)", re.IGNORECASE)
_MAYBE_PLACE = re.compile(r"[*?[]|:/")  # a pattern or an address, unless a file has that very name


def parse_shard(text: str) -> tuple[int, int]:
    """(2, 8) for '2/8'. ConfigError for anything else."""
    match = _SHARD.fullmatch(text)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise ConfigError(f"--shard is '{text}'; expected I/N, with I from 1 to N, such as 1/4.")
    return index, count


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How archives and lists are read; the names are those of the options."""

    names: str = ""  # encoding of names in zip archives that state none
    path_column: str = ""
    images: tuple[str, ...] = ()  # folders that hold the images of a list
    encoding: str = ""  # of the text of a list

    def check(self, given: Sequence[str]) -> None:
        """ConfigError where a value has no meaning, or nothing in `given` has a use for it."""
        if self == ListOptions():
            return
        from recog.answers.lists import is_table
        from recog.data.lists.label_format import LabelFormat

        LabelFormat(names=self.names)  # ConfigError where there is no such encoding
        if self.names and not any(_IN_ZIP.search(file) for file in given):
            raise ConfigError("--names is for zip archives, and none is given. Remove --names.")
        for_lists = {"--path-column": self.path_column, "--images": self.images, "--encoding": self.encoding}
        unused = next((option for option, value in for_lists.items() if value), None)
        if unused and not any(map(is_table, given)):
            raise ConfigError(f"{unused} is for lists with columns, and none is given. Remove {unused}.")

    def layout(self) -> DataLayout:
        from recog.data.data_layout import DataLayout

        return DataLayout(path_column=self.path_column, images=self.images, encoding=self.encoding)


DEFAULT_OPTIONS = ListOptions()


def gather(images: Sequence[str], options: ListOptions = DEFAULT_OPTIONS, *, list_file: str | None = None) -> Inputs:
    """The images that `images` and the list `list_file` name, in that order, each path once.

    An input without a usable image stays in its place as `Unusable`. ConfigError where an argument is empty, standard input is
    asked for twice, or one of `options` is of no use; DataError where a list cannot be read.
    """
    if sum(image in STDIN for image in (*images, list_file)) > 1:
        raise ConfigError("standard input is given twice. It holds one image, or with --from one list.")
    given = [*images, *([list_file] if list_file is not None else [])]
    if not given:
        raise ConfigError("no image is named. Give files, folders or archives, or a list with --from.")
    options.check(given)
    parts = [_expand(image, options) for image in images]
    if list_file is not None:
        from recog.answers.lists import read_list

        parts.append(read_list(list_file, options.layout()))
    is_folder = len(given) == 1 and os.path.isdir(given[0])  # names no path twice
    joined = parts[0] if is_folder else _join(parts)
    return replace(joined, name=listing(given, 3))


def _join(parts: Iterable[Inputs]) -> Inputs:
    """All parts in order; of a path that is named again, the first stays."""
    names: list[str] = []
    sources: list[ImageSource] = []
    notes: list[str] = []
    repeated: list[str] = []
    seen: set[str] = set()
    folder = working_folder()
    for part in parts:
        notes += part.notes
        for name, source in zip(part.names, part.sources, strict=True):
            path = os.path.normpath(os.path.join(folder, source if isinstance(source, str) else name))
            if path in seen and not isinstance(source, bytes):
                repeated.append(name)
                continue
            seen.add(path)
            names.append(name)
            sources.append(source)
    if repeated:
        notes.append(f"{plural(len(repeated), 'image')} named more than once, answered once: {listing(repeated, 3)}")
    return Inputs(names=names, sources=sources, notes=tuple(notes))


def working_folder() -> str:
    """'' where it was removed: absolute paths still mean something."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _expand(image: str, options: ListOptions) -> Inputs:
    if not image:
        raise ConfigError("the name of an image is empty. Give files or folders; '.' is this folder.")
    if image in STDIN:
        return Inputs(names=[_STDIN_NAME], sources=[_read_stdin()])
    if os.path.isdir(image):  # never raises, whatever the name
        return _expand_folder(image)
    if not os.path.lexists(image):
        return _expand_absent(image, options)
    if has_image_suffix(image) or not os.path.isfile(image) or is_image_file(Path(image)):
        return Inputs(names=[image], sources=[image])
    from recog.answers.lists import open_container

    return open_container(image, options.layout(), name_encoding=options.names)


def _expand_absent(image: str, options: ListOptions) -> Inputs:
    """What a text means that is no path of a file: a file or folder in an archive, a pattern or an address."""
    archive = next((str(path) for path in Path(image).parents if os.path.isfile(path)), None)
    if archive is not None:
        from recog.answers.lists import open_container

        below = os.path.normpath(os.path.relpath(image, archive)).replace(os.sep, "/")
        return open_container(archive, options.layout(), name_encoding=options.names, below=below)
    if _MAYBE_PLACE.search(image):
        return _expand_place(image, options)
    folder, name = os.path.split(image)
    others = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
    near = nearest(name, filter(str.isprintable, others))
    return Inputs(names=[image], sources=[Unusable(BadImage(image, "there is no such file", f"Check the path.{near}"))])


def _expand_folder(folder: str) -> Inputs:
    try:
        found = list_images(Path(folder))
    except BadImage as error:
        return Inputs(names=[error.name], sources=[Unusable(error)])
    except DataError as error:  # a folder that cannot be listed
        return Inputs(names=[folder], sources=[Unusable(BadImage(folder, str(error), "Check its permissions."))])
    notes = split_notes(folder, [os.path.relpath(image, folder) for image in found.images])
    if found.others:
        others = listing([os.path.relpath(other, folder) for other in found.others])
        notes.append(f"{folder}: left out {plural(len(found.others), 'file')} (hidden or not an image): {others}")
    return Inputs(names=found.images, sources=found.images, notes=tuple(notes))


def split_notes(where: str, names: Iterable[str]) -> list[str]:
    """A note where images, called relative to `where`, lie in folders of training and others: which, and how to take one."""
    num_of_folder = Counter(os.path.dirname(name).replace(os.sep, "/") for name in names)
    if len(num_of_folder) < 2:
        return []
    from recog.data.names import split_of_name

    num_of: Counter[str] = Counter()  # images below the folder of each split
    split_of: dict[str, str] = {}
    for folder, number in num_of_folder.items():
        parts = folder.split("/")
        found = ((k, split) for k, part in enumerate(parts, 1) if (split := split_of_name(part)))
        k, split = next(found, (0, ""))
        if k:
            num_of["/".join(parts[:k])] += number
            split_of["/".join(parts[:k])] = split
    others = [folder for folder, split in split_of.items() if split != "train"]
    if not others or len(others) == len(split_of):
        return []
    listed = ", ".join(f"{folder} ({number:,})" for folder, number in num_of.items())
    return [
        f"{where} holds images of several splits, all of which are predicted: {listed}. To predict one of them: "
        f"{where.rstrip('/')}/{others[-1]}"
    ]


def _expand_place(image: str, options: ListOptions) -> Inputs:
    """The files and folders that a pattern names, where no shell has replaced it; the file of an address file://."""
    from recog.data.places import expand_pattern, is_pattern, local_path

    try:
        if is_pattern(image):
            return _join(_expand(str(path), options) for path in expand_pattern(image))
        path = local_path(image)
    except DataError as error:
        return Inputs(names=[image], sources=[Unusable(BadImage(image, str(error).rstrip("."), "Check the path."))])
    return Inputs(names=[path], sources=[path]) if path == image else _expand(path, options)


def _read_stdin() -> ImageSource:
    """The bytes of one image, at most one more than a file may have."""
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError(
            "'-' reads an image from standard input, which is a terminal. Use: recog predict RUN - < FILE."
        )
    return sys.stdin.buffer.read(DEFAULT_LIMITS.max_bytes + 1)
