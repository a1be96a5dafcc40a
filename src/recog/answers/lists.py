"""Archives and lists of paths, as text, CSV, JSON or Parquet, as inputs of `recog predict`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from recog.answers.inputs import split_notes
from recog.answers.stream import Inputs, Unusable
from recog.core.config import nearest
from recog.core.errors import BadImage, ConfigError, DataError
from recog.core.images.decode import Readable
from recog.core.images.formats import PREFIX_BYTES, is_image_content
from recog.core.records import decode_values
from recog.data.archives.tars import is_tar, read_tar
from recog.data.archives.trees import tar_tree, zip_tree
from recog.data.archives.zips import is_zip
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.dataset import Exclusion
from recog.data.lists.columns import find_columns
from recog.data.lists.csv_table import CSV_SUFFIXES, decode_text, read_table
from recog.data.lists.image_finder import ImageFinder, given_places, places_on_disk
from recog.data.lists.json_document import JSON_SUFFIXES, json_entries
from recog.data.lists.json_lines import JSON_LINES_SUFFIXES, columns_of_objects, json_objects
from recog.data.lists.label_format import bit_text
from recog.data.names import split_of_name
from recog.data.parquet.schema import PARQUET_SUFFIXES
from recog.data.places import check_not_packed
from recog.data.tree import ARCHIVE_SUFFIXES, Tree, base_of, parent_of
from recog.report.text import listing, plural
from recog.runtime.predictor import ImageSource

_MAX_LIST_BYTES = 1 << 30  # some ten million paths
_REPLACE = "Download it or make it again, as .zip or .tar."
_OTHER_LISTS = (".arrow", ".xlsx", *ARCHIVE_SUFFIXES)
_NAME_LIST = "If it is a list of image files, one a line, pass it with --from."


def open_container(file: str, layout: DataLayout = DETECTED, *, name_encoding: str = "", below: str = "") -> Inputs:
    """The images in the archive `file`, or that the table `file` lists; an `Unusable` where it is neither.

    With `below`, a file or folder in the archive, only the images in that. Members of an archive are called
    ARCHIVE/MEMBER. `name_encoding`: as of `zip_tree`. DataError where a table has no column of paths or none of its images.
    """
    path = Path(file)
    if is_table(file) and not below:
        return _read_table(file, layout)
    try:
        if is_zip(path):
            return _images_of(zip_tree(path, encoding=name_encoding), file, below)
        if is_tar(path):
            return _images_of(tar_tree(path, read_tar(path)), file, below)
        if below:
            return _unusable(
                BadImage(f"{file}/{below}", f"{file} is neither a folder nor an archive", "Check the path.")
            )
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


def _images_of(tree: Tree, file: str, below: str) -> Inputs:
    """The images of an archive, or of the file or folder `below` in it, in natural order; what is left out is noted."""
    found = [below] if below in tree.files else list(tree.files_below(below))
    members = [name for name in found if tree.is_image(name)]
    if not members:
        return _unusable(_no_image(tree, file, below, is_there=bool(found)))
    known = frozenset(members)
    left_out = [e for e in tree.exclusions if not below or e.name.startswith(f"{below}/")]
    others = [*(Exclusion(name=name, reason="") for name in found if name not in known), *left_out]
    notes = [*tree.notes, *split_notes(file, members)] if not below else list(tree.notes)
    if others:
        names = listing([other.name for other in others])
        notes.append(f"{file}: left out {plural(len(others), 'file')} (hidden or not an image): {names}")
    sources: list[ImageSource] = [tree.files[name] for name in members]
    return Inputs(names=[f"{file}/{name}" for name in members], sources=sources, notes=tuple(notes))


def _no_image(tree: Tree, file: str, below: str, *, is_there: bool) -> BadImage:
    if is_there:
        what = "folder" if below else "archive"
        return BadImage(
            f"{file}/{below}".rstrip("/"), f"this {what} holds no image file", "Name an archive of image files."
        )
    folder, name = parent_of(below), base_of(below)
    known = [*map(base_of, tree.folders_in(folder)), *map(base_of, tree.files_in(folder))]
    remedy = nearest(name, known) or (f" It has: {listing(known, 5)}." if known else " Check the path.")
    return BadImage(f"{file}/{below}", f"{file} has no such file or folder", remedy.lstrip())


def is_table(file: str) -> bool:
    """Whether a name is that of a list with columns: CSV, JSON or Parquet."""
    return file.lower().endswith((*CSV_SUFFIXES, *JSON_LINES_SUFFIXES, *JSON_SUFFIXES, *PARQUET_SUFFIXES))


def _read_table(file: str, layout: DataLayout) -> Inputs:
    """The images of a list, found as for training; other columns, labels too, are not used. Names are those of the list."""
    path = Path(file)
    if file.lower().endswith(PARQUET_SUFFIXES):
        from recog.data.parquet.reader import holds_no_images

        if not path.is_file():
            raise DataError(f"the list {file} cannot be read: there is no such file. Check the path.")
        if not holds_no_images(path):
            return _read_images(path, layout)
    places = given_places(layout.images) if layout.images else places_on_disk(path.parent)
    finder = ImageFinder(places, split_of_name(path.stem), is_given=bool(layout.images))
    listed, column, notes = _listed_paths(file, layout, finder)
    names: list[str] = []
    sources: list[ImageSource] = []
    for where, name in listed:
        names.append(name)
        sources.append(_listed_source(finder.find(name, None, where).source))
    finder.check_any_found(file, len(names))
    if not names:
        raise DataError(f"{file} lists no image; it has a header only.")
    used = f"{file}: {plural(len(names), 'image')}{f', column {column}' if column else ''}"
    return Inputs(names=names, sources=sources, notes=(used, *notes, *finder.notes))


def _listed_paths(
    file: str, layout: DataLayout, finder: ImageFinder
) -> tuple[Iterator[tuple[str, str]], str, Sequence[str]]:
    """((where, path) of each row, the column that holds them, notes)."""
    wanted, suffix = DataLayout(path_column=layout.path_column), file.lower()
    if suffix.endswith(CSV_SUFFIXES):
        table = read_table(decode_text(_read_bytes(file), file, layout.encoding), file, layout, finder.holds)
        columns = find_columns(table.header, table.column, file, wanted, holds=finder.holds)
        place = columns.at["path"]
        return ((where, cells[place].strip()) for where, cells in table.lines), columns.names["path"], table.notes
    if suffix.endswith(PARQUET_SUFFIXES):
        from recog.data.parquet.reader import path_rows

        rows = list(path_rows(Path(file)))
    elif suffix.endswith(JSON_LINES_SUFFIXES):
        rows = list(json_objects(decode_text(_read_bytes(file), file, layout.encoding), file))
    else:
        document = decode_values(decode_text(_read_bytes(file), file, layout.encoding), where=file, error=DataError)
        if isinstance(document, dict) or all(isinstance(entry, str) for entry in document):
            return ((f"{file}, entry {number}", path) for number, path in enumerate(document)), "", ()
        rows = json_entries(document, file)
    _, columns = columns_of_objects(rows, file, wanted, holds=finder.holds)
    name = columns.names["path"]
    return ((where, bit_text(row.get(name)).strip()) for where, row in rows), name, ()


def _read_images(path: Path, layout: DataLayout) -> Inputs:
    """The images in a Parquet file."""
    from recog.data.parquet.reader import image_rows

    names: list[str] = []
    sources: list[ImageSource] = []
    for name, image in image_rows(path, layout):
        names.append(name)
        absent = BadImage(name, "this row holds no image", "Fill the cell, or remove the row.")
        sources.append(Unusable(absent) if image is None else image)
    if not names:
        raise DataError(f"{path} holds no image; it has no rows.")
    return Inputs(names=names, sources=sources, notes=(f"{path}: {plural(len(names), 'image')}",))


def _listed_source(source: Path | Readable) -> ImageSource:
    if isinstance(source, Path):
        return str(source)
    try:
        source.read()
    except BadImage as error:  # of a missing file
        return Unusable(error)
    return source


def read_list(file: str, layout: DataLayout = DETECTED) -> Inputs:
    """The images that a text file names, one path a line or separated by NUL characters, or a table; '-': standard input.

    Relative paths start in the list's folder, or where the first of them is not there but in the current folder, in that.
    DataError where the list cannot be read or names nothing.
    """
    if is_table(file):
        return _read_table(file, layout)
    if file.lower().endswith(_OTHER_LISTS):
        raise DataError(
            f"{file} is no list that predict reads; --from takes one path a line, or a CSV, JSON or Parquet file with a "
            "column of paths."
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
