"""What `recog predict` is given: files, folders, patterns, archives, lists or standard input, as one sequence of images."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from recog.answers.stream import Inputs, Unusable
from recog.core.errors import BadImage, ConfigError, DataError
from recog.core.images.decode import DEFAULT_LIMITS
from recog.core.images.formats import has_image_suffix, is_image_file
from recog.report.text import listing, plural
from recog.runtime.folders import list_images
from recog.runtime.predictor import ImageSource

STDIN = ("-", "/dev/stdin")
_STDIN_NAME = "stdin"
_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})")
_MAYBE_PLACE = re.compile(r"[*?[]|:/")  # a pattern or an address, unless a file has that very name


def parse_shard(text: str) -> tuple[int, int]:
    """(2, 8) for '2/8'. ConfigError for anything else."""
    match = _SHARD.fullmatch(text)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise ConfigError(f"--shard is '{text}'; expected I/N, with I from 1 to N, such as 1/4.")
    return index, count


def gather(images: Sequence[str], *, list_file: str | None = None, name_encoding: str = "") -> Inputs:
    """The images that `images` and the list `list_file` name, in that order, each path once.

    An input without a usable image stays in its place as `Unusable`. `name_encoding` is that of the names in zip archives
    which state none. ConfigError where an argument is empty or standard input is asked for twice.
    """
    if sum(image in STDIN for image in (*images, list_file)) > 1:
        raise ConfigError("standard input is given twice. It holds one image, or with --from one list.")
    given = [*images, *([list_file] if list_file is not None else [])]
    if not given:
        raise ConfigError("no image is named. Give files, folders or archives, or a list with --from.")
    if name_encoding:
        _check_encoding(name_encoding, images)
    parts = [_expand(image, name_encoding) for image in images]
    if list_file is not None:
        from recog.answers.lists import read_list

        parts.append(read_list(list_file))
    joined = parts[0] if len(parts) == 1 and list_file is None else _join(parts)
    return replace(joined, name=listing(given, 3))


def _check_encoding(name_encoding: str, images: Sequence[str]) -> None:
    from recog.data.lists.label_format import LabelFormat

    LabelFormat(names=name_encoding)  # ConfigError where there is no such encoding
    if not any(image.lower().endswith(".zip") for image in images):
        raise ConfigError("--names is for zip archives, and none is given. Remove --names.")


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


def _expand(image: str, name_encoding: str) -> Inputs:
    if not image:
        raise ConfigError("the name of an image is empty. Give files or folders; '.' is this folder.")
    if image in STDIN:
        return Inputs(names=[_STDIN_NAME], sources=[_read_stdin()])
    if os.path.isdir(image):  # never raises, whatever the name
        return _expand_folder(image)
    if _MAYBE_PLACE.search(image) and not os.path.lexists(image):
        return _expand_place(image, name_encoding)
    if has_image_suffix(image) or not os.path.isfile(image) or is_image_file(Path(image)):
        return Inputs(names=[image], sources=[image])
    from recog.answers.lists import open_container

    return open_container(image, name_encoding=name_encoding)


def _expand_folder(folder: str) -> Inputs:
    try:
        found = list_images(Path(folder))
    except BadImage as error:
        return Inputs(names=[error.name], sources=[Unusable(error)])
    except DataError as error:  # a folder that cannot be listed
        return Inputs(names=[folder], sources=[Unusable(BadImage(folder, str(error), "Check its permissions."))])
    notes: tuple[str, ...] = ()
    if found.others:
        others = listing([os.path.relpath(other, folder) for other in found.others])
        notes = (f"{folder}: left out {plural(len(found.others), 'file')} (hidden or not an image): {others}",)
    return Inputs(names=found.images, sources=found.images, notes=notes)


def _expand_place(image: str, name_encoding: str) -> Inputs:
    """The files and folders that a pattern names, where no shell has replaced it; the file of an address file://."""
    from recog.data.places import expand_pattern, is_pattern, local_path

    try:
        if is_pattern(image):
            return _join(_expand(str(path), name_encoding) for path in expand_pattern(image))
        path = local_path(image)
    except DataError as error:
        return Inputs(names=[image], sources=[Unusable(BadImage(image, str(error).rstrip("."), "Check the path."))])
    return Inputs(names=[path], sources=[path]) if path == image else _expand(path, name_encoding)


def _read_stdin() -> ImageSource:
    """The bytes of one image, at most one more than a file may have."""
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError(
            "'-' reads an image from standard input, which is a terminal. Use: recog predict RUN - < FILE."
        )
    return sys.stdin.buffer.read(DEFAULT_LIMITS.max_bytes + 1)
