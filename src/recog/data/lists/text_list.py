"""Lists of images as plain text: a path and a label a line, as of ImageNet's val.txt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from recog.core.errors import DataError
from recog.core.files import shown
from recog.core.images.formats import IMAGE_SUFFIXES
from recog.data.data_layout import DataLayout
from recog.data.lists.label_format import LabelFormat
from recog.data.lists.rows import Listing, Row
from recog.data.names import LabelPattern

TEXT_LIST_SUFFIXES = (".txt", ".lst")
_ENDS = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
_PATH = re.compile(rf"(.+?(?:{_ENDS}))(?:\s*[,;]\s*|\s+|$)(.*)", re.IGNORECASE)  # a path may hold blanks
_NUMBERS = re.compile(r"-?[\d.]+(?:[\s,;]+-?[\d.]+)+")


def is_table(text: str) -> bool:
    """Whether the text is a table with a header, as of a CSV, rather than one path and label a line."""
    first = next(iter(_lines(text)), (0, ""))[1]
    return not _PATH.match(first) and any(sign in first for sign in ",;\t")


def text_listing(text: str, where: str, labels: LabelFormat, layout: DataLayout) -> Listing:
    """The rows of lines 'path label'. With a label pattern the label stands in the path."""
    if labels.columns:
        raise DataError(f"{where} is a text list, which has no columns of 0 and 1. Leave --label-columns out.")
    layout.check_unused(where, "a text list", takes=("--split-folders", "--images", "--encoding", "--label-pattern"))
    pattern = LabelPattern(layout.label_pattern) if layout.label_pattern else None
    first = next(iter(_lines(text)), None)
    if first is None:
        raise DataError(f"{where} is empty; expected lines of a path and a label, such as 'cats/1.jpg cat'.")
    path, label = _path_and_label(first[1])
    if pattern is None and not label:
        raise DataError(
            f"{where}, line {first[0]} is {shown(first[1][:80])}, a path without a label; expected a path and a label, such as "
            "'cats/1.jpg cat'. Where the path holds the label: --label-pattern '{label}/{}'."
        )
    if pattern is None and not labels.separator and _NUMBERS.fullmatch(label):
        raise DataError(
            f"{where}, line {first[0]} has several numbers after the path: {label[:60]}. If they are the labels of the image: "
            "--label-separator ' '. If they are columns of 0 and 1, make a CSV with a header of it."
        )
    why = f"a path and a label a line, such as {shown(path)}: {label}"
    if pattern is not None:
        why = f"a path a line, with the label in it by the pattern {pattern.template}"
    return Listing(_rows(text, where, labels, pattern), (), [], why, "text list of paths and labels")


def lists_images(text: str, holds: Callable[[str], bool]) -> bool:
    """Whether the first line has a label and a path that `holds` knows; `text` may be the beginning of the list."""
    first = next(iter(_lines(text)), None)
    path, label = _path_and_label(first[1]) if first else ("", "")
    return bool(label) and holds(path)


def _rows(text: str, where: str, labels: LabelFormat, pattern: LabelPattern | None) -> Iterator[Row]:
    for number, line in _lines(text):
        path, rest = _path_and_label(line)
        named = pattern.label_of(path) if pattern is not None else None
        found = (named,) if named else None
        yield Row(
            f"{where}, line {number}",
            path,
            labels.labels_in(rest) if pattern is None else found,
            task="multilabel" if labels.separator else "multiclass",
        )


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines that are neither empty nor a comment."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _path_and_label(line: str) -> tuple[str, str]:
    """Up to the first image suffix, else, as ids have none, up to the last blank."""
    match = _PATH.fullmatch(line)
    if match:
        return match[1], match[2].strip()
    parts = line.rsplit(None, 1)
    return (parts[0], parts[1]) if len(parts) == 2 else (line, "")
