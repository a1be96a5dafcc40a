"""Exports of Label Studio: its JSON of tasks with annotations. Its JSON-MIN and CSV are lists whose columns are found by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recog.core.errors import DataError
from recog.core.files import shown
from recog.data.lists.label_format import choices_of
from recog.data.lists.rows import Listing, Row

_KIND = "tasks of Label Studio"


@dataclass(frozen=True)
class _Task:
    where: str
    path: str
    choices: Mapping[str, tuple[str, ...]]  # control -> labels
    num_others: int  # results that are no choices, such as boxes


def is_label_studio(document: Sequence[object]) -> bool:
    """Whether a JSON list is an export of tasks, each with its data and annotations."""
    return bool(document) and all(
        isinstance(task, Mapping)
        and isinstance(task.get("data"), Mapping)
        and isinstance(task.get("annotations"), list)
        for task in document
    )


def label_studio_listing(document: Sequence[Mapping[str, Any]], where: str, wanted: str = "") -> Listing:
    """A row per task with a choice; `wanted` names the control whose choices are the labels, where there are several."""
    tasks = [_read_task(task, where, number) for number, task in enumerate(document)]
    controls = Counter(control for task in tasks for control in task.choices)
    if not controls:
        raise DataError(
            f"{where} is an export of Label Studio without choices. Export a project with a <Choices> control; boxes and masks "
            "are not classes of images."
        )
    if wanted and wanted not in controls:
        raise DataError(
            f"{where} has no choices '{wanted}', which --label-column names; it has: {', '.join(controls)}."
        )
    if len(controls) > 1 and not wanted:
        raise DataError(
            f"{where} has choices of several controls: {', '.join(controls)}. Name one: --label-column {next(iter(controls))}."
        )
    control = wanted or next(iter(controls))
    return Listing(
        rows=_rows(tasks, control),
        label_columns=(),
        notes=list(_notes(tasks, control)),
        why=f"{len(document):,} tasks with choices of the control '{control}'",
        kind=_KIND,
    )


def _rows(tasks: Sequence[_Task], control: str) -> Iterator[Row]:
    for task in tasks:
        labels = task.choices.get(control)
        if labels is not None:
            yield Row(task.where, task.path, labels, task="multiclass" if len(labels) == 1 else "multilabel")


def _notes(tasks: Sequence[_Task], control: str) -> Iterator[str]:
    unlabelled = [task.path for task in tasks if control not in task.choices]
    if unlabelled:
        yield f"tasks without a choice are left aside: {len(unlabelled):,}, such as {shown(unlabelled[0])}"
    num_others = sum(task.num_others for task in tasks)
    if num_others:
        yield f"results that are no choices, such as boxes, are not used: {num_others:,}"


def _read_task(task: Mapping[str, Any], where: str, number: int) -> _Task:
    here = f"{where}, task {task.get('id', number)}"
    choices: dict[str, tuple[str, ...]] = {}
    num_others, shows = 0, ""
    for annotation in task["annotations"]:
        if not isinstance(annotation, Mapping) or annotation.get("was_cancelled"):
            continue
        for result in annotation.get("result") or ():
            labels = choices_of(result.get("value")) if isinstance(result, Mapping) else None
            if labels is None:
                num_others += 1
                continue
            control, shows = str(result.get("from_name", "choice")), str(result.get("to_name", ""))
            if choices.setdefault(control, labels) != labels:
                raise DataError(
                    f"{here} has annotations that differ: {', '.join(choices[control])} and {', '.join(labels)}. Keep one of "
                    "them in Label Studio."
                )
    return _Task(here, _path(task["data"], shows, here), choices, num_others)


def _path(data: Mapping[str, Any], shows: str, where: str) -> str:
    """The image of a task: the data that the control shows, else the only text."""
    texts = {str(key): value for key, value in data.items() if isinstance(value, str)}
    if shows in texts:
        return texts[shows]
    known = [texts[key] for key in ("image", "img") if key in texts] or list(texts.values())
    if len(known) != 1:
        raise DataError(
            f"{where} does not tell which of its data is the image: {', '.join(texts) or 'it has no text'}."
        )
    return known[0]
