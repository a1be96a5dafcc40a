"""Which column of a list holds the path, the label, the split and the group: by what it is called, or as the user states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Literal

from recog.core.config import nearest
from recog.core.errors import DataError
from recog.core.files import shown
from recog.core.images.formats import has_image_suffix
from recog.data.data_layout import DataLayout
from recog.data.names import split_of_name

Role = Literal["path", "label", "split", "group"]
OWN_NAMES: Mapping[Role, tuple[str, ...]] = MappingProxyType(
    {  # names of which the first that is there is taken, whatever other columns are called
        "path": ("path", "file_name"),
        "label": ("label",),
        "split": ("split",),
        "group": ("group",),
    }
)
NAMES: Mapping[Role, tuple[str, ...]] = MappingProxyType(
    {  # names by which one column is taken; compared without case, spaces, '_' and '-'
        "path": (
            *(
                "path",
                "image",
                "img",
                "image_path",
                "image_id",
                "file",
                "filename",
                "file_name",
                "filepath",
                "id",
                "name",
            ),
            *("image_name", "image_file", "img_path", "filepaths"),
        ),
        "label": (
            *("label", "labels", "class", "class_name", "category", "target", "species", "breed", "diagnosis", "y"),
            *("fine_label", "label_name", "choice"),
        ),
        "split": ("split", "set", "subset", "fold", "phase", "usage", "is_valid"),
        "group": ("group", "patient", "patient_id", "subject", "clip", "source"),
    }
)
NO_COLUMN = "none"  # as --split-column and --group-column say that no column is the split or the group
_MEANS: Mapping[Role, str] = MappingProxyType(
    {"path": "the path of an image", "label": "its label", "split": "its split", "group": "its group"}
)
_VALID = MappingProxyType(
    {
        "1": "val",
        "true": "val",
        "yes": "val",
        "1.0": "val",
        "0": "train",
        "false": "train",
        "no": "train",
        "0.0": "train",
    }
)
_LABEL_STUDIO = {"annotationid", "annotator", "leadtime"}  # columns of its exports, in which 'id' is the task's
_MAX_LISTED = 20
_NUM_LOOKED_UP = 20  # cells of a column that are looked up to tell whether it holds paths

Cells = Callable[[int], Iterable[str]]  # the cells of the column at a place


@dataclass(frozen=True)
class Columns:
    """The place of the column of each role; `notes` name the choices that the column names alone do not show."""

    header: tuple[str, ...]
    at: Mapping[Role, int]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> dict[Role, str]:
        return {role: self.header[place] for role, place in self.at.items()}

    @property
    def reserved(self) -> frozenset[str]:
        """Columns that are no labels and not to slice by, in lower case. A group by another name than 'group' is to slice by."""
        own = {name for names in (OWN_NAMES["path"], OWN_NAMES["split"], OWN_NAMES["group"]) for name in names}
        return frozenset(own | {name.lower() for role, name in self.names.items() if role != "group"})


def find_columns(
    header: Sequence[str],
    cells: Cells,
    where: str,
    layout: DataLayout,
    *,
    first: str | None = "path",
    fits: Callable[[Role, int], bool] = lambda role, place: True,
    holds: Callable[[str], bool] = lambda path: False,
) -> Columns:
    """The columns of a list with this `header`: those that `layout` names, else those that are called as such columns are.

    `first` is the name of the path's column that goes before others, None where there is no path; `fits` whether a column's
    type suits a role; `holds` whether an image of a path is there, which decides among several columns of paths. There
    is no label where no column is called so; `missing_label` then says so, unless columns of 0 and 1 hold the labels. DataError
    where a named column or one for the path is not there, or several may be meant.
    """
    if not any(header):
        raise DataError(f"{where} is empty; expected a header with the columns {first or 'of pixels'} and label.")
    search = _Search(tuple(header), cells, where, fits, holds)
    at: dict[Role, int] = {}
    named: Mapping[Role, str] = {
        "path": layout.path_column,
        "label": layout.label_column,
        "split": layout.split_column,
        "group": layout.group_column,
    }
    for role, name in named.items():
        if role == "path" and first is None:
            continue
        own = dict.fromkeys((first or "", *OWN_NAMES["path"])) if role == "path" else OWN_NAMES[role]
        place = search.named(role, name) if name else search.known(role, tuple(own), has_group=bool(layout.group))
        if place is not None:
            at[role] = place
    if first is not None and "path" not in at:
        raise search.missing("path", first)
    return Columns(tuple(header), at, tuple(search.notes(at, named, first)))


class MissingLabelError(DataError):
    """No column of a list is called as one of labels, and none hold only 0 and 1."""


def missing_label(columns: Columns, where: str) -> MissingLabelError:
    search = _Search(columns.header, lambda place: (), where, lambda role, place: True, lambda path: False)
    return MissingLabelError(str(search.missing("label", "label")))


def split_of_cell(cell: str | None, line: str, column: str = "split") -> str:
    split = split_of_name(cell or "")
    if split is None and plain_name(column) == "isvalid":
        split = _VALID.get((cell or "").lower())
    if split is None:
        raise DataError(
            f"{line} has the split '{cell or ''}'; it must be train, val or test, in every row or in none (dev is read as "
            "val, eval as test)."
        )
    return split


def further_columns(columns: Columns, bits: Mapping[str, int]) -> dict[str, int]:
    """{name: place} of the columns to slice by."""
    reserved = columns.reserved - ({columns.names["label"].lower()} if bits and "label" in columns.at else set())
    return {
        name: i
        for i, name in enumerate(columns.header)
        if name and name.lower() not in reserved and i not in bits.values()
    }


def describe_columns(columns: Columns, bits: Mapping[str, int]) -> str:
    if bits:
        return f"it has the column {columns.names['path']} and {len(bits)} columns that hold only 0 and 1"
    return f"it has the columns {columns.names['path']} and {columns.names['label']}"


class _Search:
    def __init__(
        self,
        header: tuple[str, ...],
        cells: Cells,
        where: str,
        fits: Callable[[Role, int], bool],
        holds: Callable[[str], bool],
    ) -> None:
        self.header, self.cells, self.where, self.fits, self.holds = header, cells, where, fits, holds
        self.remarks: list[str] = []

    def named(self, role: Role, name: str) -> int | None:
        """The column that the user names, in whatever case and spacing where that names one column only."""
        if name in self.header:
            return self._only([i for i, column in enumerate(self.header) if column == name])
        if name == NO_COLUMN and role in ("split", "group"):
            return None
        places = [i for i, column in enumerate(self.header) if plain_name(column) == plain_name(name)]
        if len(places) == 1:
            return places[0]
        raise DataError(
            f"{self.where} has no column {shown(name)}, which --{role}-column names; it has: {self._listed()}."
            f"{nearest(name, self.header)}"
        )

    def known(self, role: Role, own: Sequence[str], *, has_group: bool) -> int | None:
        """The column that is called as a column of this role; None where there is none. DataError where there are several."""
        columns = [column.strip().lower() for column in self.header]
        for name in own:
            places = [i for i, column in enumerate(columns) if column == name and self.fits(role, i)]
            if places:
                return self._only(places)
        known = {plain_name(name) for name in NAMES[role]}
        places = [i for i, column in enumerate(self.header) if plain_name(column) in known and self.fits(role, i)]
        if role == "path" and {plain_name(column) for column in self.header} >= _LABEL_STUDIO:
            places = [i for i in places if plain_name(self.header[i]) != "id"]
        if role == "split":
            places = [i for i in places if self._holds_splits(i)]
        if role == "group":
            places = [] if has_group else [i for i in places if self._holds_groups(i)]
        if role == "path" and len(places) > 1:
            places = self._of_images(places)
        if len(places) > 1:
            names = [self.header[i] for i in places]
            none = f", or {NO_COLUMN}" if role in ("split", "group") else ""
            raise DataError(
                f"{self.where} has several columns that may be {_MEANS[role]}: {', '.join(names)}; it has: "
                f"{self._listed()}. Name the one that is meant: --{role}-column {names[0]}{none}."
            )
        return places[0] if places else None

    def _of_images(self, places: Sequence[int]) -> list[int]:
        """Of several columns that may hold paths the one whose cells name images here; else all, the likeliest first."""
        there = [i for i in places if any(map(self.holds, islice(self.cells(i), _NUM_LOOKED_UP)))]
        if len(there) == 1:
            others = ", ".join(self.header[i] for i in places if i not in there)
            self.remarks.append(f"paths from the column {self.header[there[0]]}, as {others} names no image here")
            return there
        return sorted(places, key=lambda i: not any(map(has_image_suffix, islice(self.cells(i), _NUM_LOOKED_UP))))

    def missing(self, role: Role, wanted: str) -> DataError:
        several = " For several labels an image, use --label-separator or columns of 0 and 1 (--label-columns)."
        return DataError(
            f"{self.where} has no column '{wanted}', nor one with another usual name for {_MEANS[role]}; it has: "
            f"{self._listed()}.{nearest(wanted, self.header)} Name it: --{role}-column COLUMN."
            f"{several if role == 'label' else ''}"
        )

    def notes(self, at: Mapping[Role, int], named: Mapping[Role, str], first: str | None) -> Iterable[str]:
        """What was taken by another name than recog's own, and what looks like a split and is not used."""
        others = [
            f"{role} from {self.header[place]}"
            for role, place in at.items()
            if self.header[place].strip().lower() not in (first, *OWN_NAMES[role])
        ]
        if others:
            ignore = " (--group-column none ignores it)" if "group" in at and not named["group"] else ""
            ignore = ignore if others[-1].startswith("group") else ""
            yield f"columns: {', '.join(others)}{ignore}"
        yield from self.remarks
        if "split" in at or named["split"] == NO_COLUMN:
            return
        for place, column in enumerate(self.header):
            if place not in at.values() and column and self.fits("split", place):
                words = self._split_words(place)
                if words:
                    yield f"the column {column} holds only {', '.join(words)} and is not used; --split-column {column} uses it"

    def _only(self, places: Sequence[int]) -> int:
        if len(places) > 1:
            raise DataError(f"{self.where} has the column '{self.header[places[0]]}' twice; keep one of them.")
        return places[0]

    def _holds_splits(self, place: int) -> bool:
        column = self.header[place]
        is_flag = plain_name(column) == "isvalid"
        bad = next((c for c in self.cells(place) if not (split_of_name(c) or (is_flag and c.lower() in _VALID))), None)
        if bad is not None:
            self.remarks.append(f"the column {column} is not used as a split: it holds {shown(bad)}")
        return bad is None

    def _holds_groups(self, place: int) -> bool:
        cells = iter(self.cells(place))
        first = next(cells, None)
        if all(cell == first for cell in cells):
            self.remarks.append(
                f"the column {self.header[place]} is not used as groups: all its cells are {shown(first or '')}"
            )
            return False
        return True

    def _split_words(self, place: int) -> list[str]:
        """The different cells of a column in which every one is a word for a split; else none."""
        words: dict[str, None] = {}
        for cell in self.cells(place):
            if not split_of_name(cell):
                return []
            words[cell] = None
        return list(words)[:5]

    def _listed(self) -> str:
        more = f" and {len(self.header) - _MAX_LISTED} more" if len(self.header) > _MAX_LISTED else ""
        return ", ".join(column or "(no name)" for column in self.header[:_MAX_LISTED]) + more


def plain_name(name: str) -> str:
    """A column's name as such names are compared."""
    return "".join(c for c in name.casefold() if not c.isspace() and c not in "_-")
