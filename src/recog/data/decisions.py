"""Decisions on single images, in a CSV as `recog scan --deep` writes and its page downloads it: which to leave out or relabel."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from recog.core.config import did_you_mean
from recog.core.errors import BundleError, DataError
from recog.core.files import user_path
from recog.core.records import read_bytes
from recog.core.task import Task
from recog.core.text import plural
from recog.data.dataset import Dataset, Exclusion
from recog.evaluation.measures.task import TASK_MEASURES

IMAGE, ACTION, NEW_LABEL = "image", "action", "new_label"
KEEP, EXCLUDE, RELABEL = "keep", "exclude", "relabel"
ACTIONS = (KEEP, EXCLUDE, RELABEL)
LABELS_JOINED_BY = "|"  # in new_label, of an image with several labels
_MAX_BYTES = 256 << 20
_MAX_NAMED = 3
_QUOTED = ("'=", "'@", "'+", "'-", "'\t", "'\r")  # as written for spreadsheets


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`line` is that of the file; `action` is '' where nothing was decided, None in a file without such a column."""

    image: str
    action: str | None
    new_label: str
    line: int


def without_decided(dataset: Dataset, paths: Sequence[str], *, relabel: str = "") -> Dataset:
    """The dataset less the images that the CSV files `paths` exclude: every row, or with a column 'action' those of 'exclude'.

    DataError where a file excludes nothing, unless it is the file `relabel` too and relabels.
    """
    for path in paths:
        decisions = _read(path, "--exclude", (IMAGE,))
        chosen = [decision for decision in decisions if decision.action in (EXCLUDE, None)]
        if not chosen and path == relabel and any(decision.action == RELABEL for decision in decisions):
            continue
        if not chosen:
            raise DataError(
                f"no row of {path} has the action 'exclude', so --exclude would leave out nothing. Mark images on the page of "
                "recog scan --deep and download the file, or fill the column 'action'."
            )
        names = {name for _, name in _known(dataset, chosen, path, "--exclude")}
        dataset = dataset.without(Exclusion(name=name, reason=f"--exclude {user_path(path).name}") for name in names)
        if not dataset.samples:
            raise DataError(f"--exclude {path} leaves no image of {dataset.name}. Exclude less.")
        note = f"left out by --exclude {path}: {plural(len(names), 'image')}"
        dataset = replace(dataset, notes=(*dataset.notes, note))
    return dataset


def relabelled(dataset: Dataset, path: str, *, exclude: Sequence[str] = ()) -> Dataset:
    """The dataset with the labels of the CSV file `path`: every row, or with a column 'action' those of 'relabel'.

    DataError where it relabels nothing, unless it is one of the files `exclude` too and excludes.
    """
    if not path:
        return dataset
    rows = _read(path, "--relabel", (IMAGE, NEW_LABEL))
    decisions = [each for each in rows if each.action in (RELABEL, None)]
    if not decisions and path in exclude and any(each.action == EXCLUDE for each in rows):
        return dataset
    if not decisions:
        raise DataError(
            f"no row of {path} has the action 'relabel', so --relabel would change nothing. Mark images on the page of recog "
            "scan --deep and download the file, or fill the columns 'action' and 'new_label'."
        )
    labels: dict[str, tuple[int, ...]] = {}
    for decision, name in _known(dataset, decisions, path, "--relabel"):
        found = _labels(dataset, decision, path)
        if labels.setdefault(name, found) != found:
            raise DataError(f"{path}, line {decision.line}: {name} has two new labels. Keep one of the rows.")
    samples = tuple(replace(sample, labels=labels.get(sample.name, sample.labels)) for sample in dataset.samples)
    changed = sum(a.labels != b.labels for a, b in zip(samples, dataset.samples, strict=True))
    note = f"relabelled by --relabel {path}: {plural(changed, 'image')}"
    return replace(dataset, samples=samples, notes=(*dataset.notes, note))


def _labels(dataset: Dataset, decision: Decision, path: str) -> tuple[int, ...]:
    where = f"{path}, line {decision.line}"
    cell = _unquoted(decision.new_label.strip(), dataset.class_names)
    names = _CELLS[dataset.task](cell)
    if len(names) < TASK_MEASURES[dataset.task].min_labels:
        raise DataError(f"{where}: new_label of {decision.image} is empty. Name a class, or remove the row.")
    for name in names:
        if name not in dataset.class_names:
            raise DataError(
                f"{where}: '{name}' is no class of {dataset.name}; expected one of {', '.join(dataset.class_names[:10])}"
                f"{', ...' if len(dataset.class_names) > 10 else ''}.{did_you_mean(name, dataset.class_names)}"
            )
    return tuple(sorted({dataset.class_names.index(name) for name in names}))


_CELLS: Mapping[Task, Callable[[str], list[str]]] = MappingProxyType(  # the names that a cell of new labels holds
    {
        "multiclass": lambda cell: [cell] if cell else [],
        "multilabel": lambda cell: [name.strip() for name in cell.split(LABELS_JOINED_BY) if name.strip()],
    }
)


def _known(dataset: Dataset, decisions: Iterable[Decision], path: str, option: str) -> list[tuple[Decision, str]]:
    """The decisions on samples, with their names. DataError for an image that is neither a sample nor left out."""
    names: Mapping[str, None] = dict.fromkeys(sample.name for sample in dataset.samples)
    excluded = {exclusion.name for exclusion in dataset.exclusions}
    found, unknown = [], []
    for decision in decisions:
        name = _unquoted(decision.image, names)
        if name in names:
            found.append((decision, name))
        elif _unquoted(decision.image, excluded) not in excluded:
            unknown.append(decision)
    if unknown:
        listed = ", ".join(f"{each.image} (line {each.line})" for each in unknown[:_MAX_NAMED])
        more = f" and {len(unknown) - _MAX_NAMED:,} more" if len(unknown) > _MAX_NAMED else ""
        raise DataError(
            f"{option} {path} names {plural(len(unknown), 'image')} that {dataset.name} does not have: {listed}{more}. Its first "
            f"image is {dataset.samples[0].name}. Give the file that was made for these data."
        )
    return found


def _unquoted(cell: str, known: Iterable[str]) -> str:
    """`cell` without the quote that keeps spreadsheets from running it, where that is a name in `known`."""
    return cell[1:] if cell.startswith(_QUOTED) and cell not in known else cell


def _read(path: str, option: str, needed: Sequence[str]) -> list[Decision]:
    """The rows of a CSV file with a header; `action` is None where there is no such column."""
    place = user_path(path)
    if not place.is_file():
        raise DataError(f"{option}: there is no file {path}. Expected a CSV as recog scan --deep writes it.")
    try:
        text = read_bytes(place, max_bytes=_MAX_BYTES).decode("utf-8-sig")
    except (UnicodeDecodeError, BundleError) as error:
        raise DataError(
            f"{option}: {path} is no UTF-8 text of at most 256 MB ({error}). Save it as CSV UTF-8."
        ) from None
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise DataError(f"{option}: {path} is no CSV file: {error}.") from None
    columns = list(rows[0]) if rows else text.partition("\n")[0].strip().split(",")
    for column in needed:
        if column not in columns:
            listed = ", ".join(map(str, columns[:10]))
            raise DataError(
                f"{option}: {path} has no column '{column}'; its columns are {listed}.{did_you_mean(column, map(str, columns))} "
                f"Expected {' and '.join(needed)}, and '{ACTION}' where rows differ in what is done."
            )
    return [_decision(row, number, path, has_action=ACTION in columns) for number, row in enumerate(rows, start=2)]


def _decision(row: Mapping[str, str | None], line: int, path: str, *, has_action: bool) -> Decision:
    action = (row[ACTION] or "").strip().lower() if has_action else None
    if action not in (*ACTIONS, "", None):
        raise DataError(
            f"{path}, line {line}: the action is '{action}'; expected {', '.join(ACTIONS)} or nothing."
            f"{did_you_mean(action, ACTIONS)}"
        )
    return Decision(image=row[IMAGE] or "", action=action, new_label=row.get(NEW_LABEL) or "", line=line)
