"""How a list of images writes the labels of an image that may show none or several of the classes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from recog.core.config import nearest
from recog.core.errors import ConfigError, DataError
from recog.core.files import shown
from recog.core.task import Task
from recog.data.names import class_name_of

_BITS = {"0": False, "1": True, "0.0": False, "1.0": True}  # pandas writes 1.0 where a column had a gap
MIN_COLUMNS = 2
_JOINING = ("|", ";", ",", " ")  # what joins labels in a cell, the surest first
_LITERAL = re.compile(r"\[.*\]")


@dataclass(frozen=True, kw_only=True)
class LabelFormat:
    """Separator or columns make the data multi-label. Lists of labels, as JSON and Parquet have them, need neither."""

    separator: str = ""  # what joins the labels of an image in one cell, such as '|' or ' '
    columns: tuple[str, ...] = ()  # the columns of 0 and 1, one per label; recognised by what they hold if empty
    names: str = ""  # encoding of names in a zip archive that states none, such as 'gbk'
    task: Task | None = None  # one label an image, or none to several; found in the data if None

    def __post_init__(self) -> None:
        if self.separator and self.columns:
            raise ConfigError(
                f"a label separator ({self.separator!r}) and label columns ({', '.join(self.columns[:5])}) exclude each "
                "other: labels stand in one cell, joined, or in columns of 0 and 1. Give one of them."
            )
        if any(sign in self.separator for sign in '"\n\r'):
            raise ConfigError(
                f"the label separator is {self.separator!r}; it must be without quotes and line breaks, such as '|'."
            )
        if len(set(self.columns)) < len(self.columns):
            raise ConfigError(f"the label columns name one twice: {', '.join(self.columns)}.")

        if self.names and not _is_encoding(self.names):
            raise ConfigError(
                f"the encoding of names is {self.names!r}; expected one such as gbk, shift_jis, euc_kr, cp1252 or cp1251."
            )

    @property
    def is_given(self) -> bool:
        return bool(self.separator or self.columns)

    def labels_in(self, cell: str) -> tuple[str, ...] | None:
        """The labels that a cell names, each once; None where the image is unlabelled.

        Only an empty cell is unlabelled: 'null', 'NaN', 'None' and 'NA' are names that a class may have. With a separator an
        empty cell is an empty set of labels.
        """
        if not self.separator:
            return (cell,) if cell else None
        if self.separator == "," and _LITERAL.fullmatch(cell):  # ['a', 'b'], as pandas writes a list
            cell = re.sub(r"(['\"])(.*?)\1", r"\2", cell.strip("[] "))
        parts = (class_name_of(part.strip()) for part in cell.split(self.separator))
        return tuple(dict.fromkeys(part for part in parts if part))


def _is_encoding(name: str) -> bool:
    """Whether Python knows it as an encoding of text that leaves ASCII, and with it '/' and '.', as it is."""
    ascii_text = "".join(map(chr, range(32, 127)))
    try:
        return "ascii" not in name.lower() and ascii_text.encode(name) == ascii_text.encode("ascii")
    except (LookupError, ValueError, UnicodeError):
        return False


AS_FOUND = LabelFormat()  # one label in a cell, unless lists or columns of 0 and 1 say otherwise


def choices_of(value: object) -> tuple[str, ...] | None:
    """The labels of {"choices": [...]}, as Label Studio writes several of an image, as JSON or in a CSV's cell; else None."""
    if isinstance(value, str) and value.startswith('{"choices"'):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    found = value.get("choices") if isinstance(value, Mapping) else None
    return tuple(dict.fromkeys(map(str, found))) if isinstance(found, list) else None


def bit_text(cell: object) -> str:
    """A cell of JSON or Parquet as a CSV has it: true is 1, and a missing value is empty."""
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, bool) else str(cell)


def find_label_columns(
    header: Sequence[str],
    rows: Iterable[tuple[str, Sequence[str]]],
    *,
    where: str,
    reserved: frozenset[str],
    wanted: Sequence[str],
) -> dict[str, int]:
    """{label: its column} of the columns `wanted`, or of all outside of `reserved` (lower case) that hold only 0 and 1.

    `rows` are (where, cells), and `where` is what they stand in. Empty where none are wanted and fewer than two hold only
    0 and 1. DataError where a wanted one is missing or holds something else.
    """
    if wanted:
        missing = [name for name in wanted if name not in header]
        if missing:
            listed = ", ".join(header[:20]) or "nothing"
            raise DataError(
                f"{where} has no label column '{missing[0]}'; it has: {listed}.{nearest(missing[0], header)}"
            )
        columns = {name: header.index(name) for name in wanted}
        for line, cells in rows:
            for name, column in columns.items():
                if cells[column].strip() not in _BITS:
                    raise DataError(
                        f"{line} has '{cells[column][:40]}' in the label column '{name}'; expected 0 or 1. Correct it, or "
                        "name the label columns without this one."
                    )
        return _named(columns)
    columns = {name: i for i, name in enumerate(header) if name and name.lower() not in reserved}
    num_rows = 0
    for num_rows, (_, cells) in enumerate(rows, start=1):  # noqa: B007
        columns = {name: i for name, i in columns.items() if cells[i].strip() in _BITS}
        if len(columns) < MIN_COLUMNS:
            return {}
    return _named(columns) if num_rows and len(columns) >= MIN_COLUMNS else {}


def labels_of_bits(cells: Sequence[str], columns: Mapping[str, int]) -> tuple[str, ...]:
    """The labels whose column holds 1."""
    return tuple(name for name, column in columns.items() if _BITS[cells[column].strip()])


def joined_label_notes(labels: Sequence[str]) -> list[str]:
    """A hint where labels, of which each image has one, look like several joined ones; `labels` are the different ones."""
    for sign in _JOINING:
        joined = [label for label in labels if _is_joined(label, sign)]
        parts = {part.strip(" '\"[]") for label in labels for part in label.split(sign)}
        needed = 3 * len(parts) / 2 if sign == " " else len(parts) + 1
        if len(joined) > 1 and (len(labels) >= needed or _LITERAL.fullmatch(joined[0])):
            return [
                f"{len(joined):,} of {len(labels):,} labels look like several joined ones, such as {shown(joined[0][:60])}; if "
                f"they are: --label-separator '{sign}'"
            ]
    return []


LABEL_NOTES: Mapping[Task, Callable[[Sequence[str]], list[str]]] = MappingProxyType(  # on labels that were read so
    {"multiclass": joined_label_notes, "multilabel": lambda labels: []}
)


def _is_joined(label: str, sign: str) -> bool:
    return sign in label.strip() or (sign == "," and _LITERAL.fullmatch(label) is not None)


def check_same_columns(found: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Raise DataError unless all of `found`, (where, label columns), are the same ones in whatever order."""
    for where, columns in found[1:]:
        first, expected = found[0]
        if set(columns) != set(expected):
            raise DataError(
                f"{where} has as columns of 0 and 1 {', '.join(columns[:10]) or 'none'}, but {first} has "
                f"{', '.join(expected[:10]) or 'none'}. Name those that are labels (--label-columns), or fix the others."
            )


def label_column_notes(names: Sequence[str], further: Sequence[str]) -> list[str]:
    """What was taken for labels and what was not, for a person to check; nothing where no column holds labels."""
    if not names:
        return []
    others = f"; no labels: {', '.join(further[:10])}" if further else ""
    return [f"labels are the {len(names)} columns {', '.join(names[:10])}{others}"]


def _named(columns: dict[str, int]) -> dict[str, int]:
    named = {class_name_of(name): column for name, column in columns.items()}
    if len(named) < len(columns):
        raise DataError(f"two label columns have one name: {', '.join(columns)}. Rename one of them.")
    return named
