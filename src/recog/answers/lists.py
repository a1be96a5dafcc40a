"""Archives, lists of paths and CSV lists as inputs of `recog predict`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from recog.answers.stream import Inputs, Unusable
from recog.core.errors import BadImage, ConfigError, DataError
from recog.core.images.decode import Readable
from recog.core.images.formats import PREFIX_BYTES, is_image_content
from recog.data.archives.tars import is_tar, read_tar
from recog.data.archives.trees import tar_tree, zip_tree
from recog.data.archives.zips import is_zip
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import Exclusion
from recog.data.lists.columns import find_columns
from recog.data.lists.csv_table import CSV_SUFFIXES, decode_text, read_table
from recog.data.lists.image_finder import ImageFinder, given_places, places_on_disk
from recog.data.names import split_of_name
from recog.data.places import check_not_packed
from recog.data.tree import ARCHIVE_SUFFIXES, Tree
from recog.report.text import listing, plural
from recog.runtime.predictor import ImageSource

_MAX_LIST_BYTES = 1 << 30  # some ten million paths
_REPLACE = "Download it or make it again, as .zip or .tar."
_OTHER_LISTS = (".parquet", ".json", ".jsonl", ".ndjson", ".arrow", ".xlsx", *ARCHIVE_SUFFIXES)
_NAME_LIST = "If it is a list of image files, one a line, pass it with --from."


def open_container(file: str, layout: DataLayout = DETECTED, *, name_encoding: str = "") -> Inputs:
    """The images in the archive `file`, or that the CSV `file` lists; an `Unusable` where it is neither.

    Members of an archive are called ARCHIVE/MEMBER. `name_encoding`: as of `zip_tree`. DataError where a CSV has no column of
    paths or none of its images is there.
    """
    path = Path(file)
    if is_csv(file):
        return _read_csv(file, layout)
    try:
        if is_zip(path):
            return _images_of(zip_tree(path, encoding=name_encoding), file)
        if is_tar(path):
            return _images_of(tar_tree(path, read_tar(path)), file)
        check_not_packed(path)
    except DataError as error:
        reason = re.sub(rf"^{re.escape(file)} ", "it ", str(error)).rstrip(".")
        return _unusable(BadImage(file, reason, "Other inputs are not affected."))
    if path.suffix.lower() == ".txt":
        return _unusable(BadImage(file, "it is a text file, not an image", _NAME_LIST))
    if file.lower().endswith(ARCHIVE_SUFFIXES):
        return _unusable(BadImage(file, "it is a damaged archive, or of a kind that is not read", _REPLACE))
    return Inputs(names=[file], sources=[file])  # the decoder states what it is


def _unusable(error: BadImage) -> Inputs:
    return Inputs(names=[error.name], sources=[Unusable(error)])


def _images_of(tree: Tree, file: str) -> Inputs:
    """The images of an archive, in natural order; what is left out is noted."""
    members = [name for name in tree.files_below("") if tree.is_image(name)]
    if not members:
        return _unusable(BadImage(file, "this archive holds no image file", "Name an archive of image files."))
    known = frozenset(members)
    others = [*(Exclusion(name=name, reason="") for name in tree.files if name not in known), *tree.exclusions]
    notes = list(tree.notes)
    if others:
        names = listing([other.name for other in others])
        notes.append(f"{file}: left out {plural(len(others), 'file')} (hidden or not an image): {names}")
    sources: list[ImageSource] = [tree.files[name] for name in members]
    return Inputs(names=[f"{file}/{name}" for name in members], sources=sources, notes=tuple(notes))


def is_csv(file: str) -> bool:
    return file.lower().endswith(CSV_SUFFIXES)


def _read_csv(file: str, layout: DataLayout) -> Inputs:
    """The images of a list, found as for training; other columns, labels too, are not used. Names are those of the list."""
    path = Path(file)
    places = given_places(layout.images) if layout.images else places_on_disk(path.parent)
    finder = ImageFinder(places, split_of_name(path.stem), is_given=bool(layout.images))
    table = read_table(decode_text(_read_bytes(file), file, layout.encoding), file, layout, finder.holds)
    columns = find_columns(table.header, table.column, file, DataLayout(path_column=layout.path_column))
    names: list[str] = []
    sources: list[ImageSource] = []
    for where, cells in table.lines:
        names.append(cells[columns.at["path"]].strip())
        sources.append(_listed_source(finder.find(names[-1], None, where).source))
    finder.check_any_found(file, len(names))
    if not names:
        raise DataError(f"{file} lists no image; it has a header only.")
    used = f"{file}: {plural(len(names), 'image')}, column {columns.names['path']}"
    return Inputs(names=names, sources=sources, notes=(used, *table.notes, *finder.notes))


def _listed_source(source: Path | Readable) -> ImageSource:
    if isinstance(source, Path):
        return str(source)
    try:
        source.read()
    except BadImage as error:  # of a missing file
        return Unusable(error)
    return source


def read_list(file: str, layout: DataLayout = DETECTED) -> Inputs:
    """The images that a text file names, one path a line or separated by NUL characters, or a CSV; '-': standard input.

    Relative paths start in the list's folder, or where the first of them is not there but in the current folder, in that.
    DataError where the list cannot be read or names nothing.
    """
    if is_csv(file):
        return _read_csv(file, layout)
    if file.lower().endswith(_OTHER_LISTS):
        raise DataError(
            f"{file} is no list that predict reads; --from takes one path a line, or a CSV with a column of paths."
        )
    names = [os.fsdecode(line) for line in _lines(_read_bytes(file), file)]
    if not names:
        raise DataError(f"{file} names no image; expected one path a line.")
    folder, note = _base(file, names)
    sources: list[ImageSource] = [os.path.join(folder, name) for name in names] if folder else list(names)
    return Inputs(names=names, sources=sources, notes=(f"{file}: {plural(len(names), 'path')}{note}",))


def _base(file: str, names: Sequence[str]) -> tuple[str, str]:
    """(the folder that relative paths start in, words on it); '' is the current folder."""
    folder = "" if file == "-" else os.path.dirname(file)
    first = next((name for name in names if not os.path.isabs(name)), None)
    if not folder or first is None:
        return "", ""
    if not os.path.lexists(os.path.join(folder, first)) and os.path.lexists(first):
        return "", ", relative to the current folder"
    return folder, f", relative to {folder}"


def _read_bytes(file: str) -> bytes:
    if file == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise ConfigError(
                "--from - reads a list from standard input, which is a terminal. Use: find ... | recog predict RUN --from -."
            )
        data = sys.stdin.buffer.read(_MAX_LIST_BYTES + 1)
    else:
        try:
            with open(file, "rb") as stream:  # a pipe is fine here: --from <(find ...)
                data = stream.read(_MAX_LIST_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"the list {file} cannot be read: {reason}. Check the path given to --from.") from None
    if len(data) > _MAX_LIST_BYTES:
        raise DataError(f"the list {file} has more than {_MAX_LIST_BYTES:,} bytes. Split it, or name folders.")
    if is_image_content(data[:PREFIX_BYTES]):
        raise DataError(f"{file} is an image; --from takes a list of paths. Remove --from.")
    return data


def _lines(data: bytes, file: str) -> list[bytes]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{file} is UTF-16 text; save it as UTF-8.")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data:
        return [line for line in data.split(b"\0") if line]
    return [line for line in (line.rstrip(b"\r") for line in data.split(b"\n")) if line.strip()]
