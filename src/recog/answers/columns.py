"""The columns of a table of answers: which there are for a bundle, and their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from types import MappingProxyType
from typing import Generic, Literal, TypeVar

from recog.answers.stream import UNSURE, Answer
from recog.core.config import nearest
from recog.core.errors import ConfigError, DataError
from recog.core.task import Task
from recog.report.text import listing
from recog.runtime.prediction import Prediction
from recog.runtime.predictor import Predictor

T = TypeVar("T")
Cell = str | float | bool | list[str] | None
_Known = Mapping[str, "Column[Answer]"]  # every column by its name
SEPARATOR = " | "  # of several labels in one cell of a CSV


@dataclass(frozen=True, kw_only=True)
class Column(Generic[T]):
    """Of a table of `T`, such as Answer. `value` is a text, number, flag or several texts, or None where a T has none."""

    header: str
    kind: Literal["text", "number", "flag", "texts"]
    value: Callable[[T], Cell]


def default_columns(predictor: Predictor, *, top: int, sets: bool) -> tuple[Column[Answer], ...]:
    """file, label, confidence, label_2, confidence_2, ...; with several labels per image: file, labels and the probability of
    each; then error.
    """
    known = _known(predictor, sets=sets, reject=False)
    return known["file"], *_DEFAULTS[predictor.manifest.task](known, predictor.class_names, top), known["error"]


def _default_label(known: _Known, class_names: Sequence[str], top: int) -> Iterator[Column[Answer]]:
    for rank in range(1, min(top, len(class_names)) + 1):
        yield from _ranked(rank)
    if "label_set" in known:
        yield known["label_set"]


def _default_labels(known: _Known, class_names: Sequence[str], top: int) -> Iterator[Column[Answer]]:
    yield known["labels"]
    yield from (_renamed(known[f"prob:{name}"], f"prob_{name}") for name in class_names)


def parse_columns(text: str, predictor: Predictor, *, sets: bool, reject: bool) -> tuple[Column[Answer], ...]:
    """The columns that `text` names: COLUMN or HEADER=COLUMN, joined by commas; 'probs' is one column per class.

    ConfigError where one is not known or a header stands twice.
    """
    known = _known(predictor, sets=sets, reject=reject)
    columns: list[Column[Answer]] = []
    for part in map(str.strip, text.split(",")):
        header, _, name = part.rpartition("=") if part not in known else ("", "", part)
        if name == "probs" and not header:
            columns += (_renamed(known[f"prob:{label}"], label) for label in predictor.class_names)
        elif name in known:
            columns.append(_renamed(known[name], header or name))
        else:
            raise ConfigError(
                f"--columns names '{name}', which is no column.{nearest(name, known)} Columns: {_listed(known)}, probs. "
                "HEADER=COLUMN gives a column another header."
            )
    headers = [column.header for column in columns]
    twice = next((header for header in headers if headers.count(header) > 1), None)
    if twice is not None:
        raise ConfigError(f"--columns has '{twice}' twice. Remove one, or give it another header: HEADER=COLUMN.")
    return tuple(columns)


def check_ids(columns: Sequence[Column[Answer]], names: Sequence[str]) -> None:
    """DataError where 'id', a file name without suffix, would stand for two of `names`."""
    if all(column.value is not _stem for column in columns):
        return
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(PurePath(name).stem, name)
        if other != name:
            raise DataError(
                f"{listing([other, name])} have the same id, '{PurePath(name).stem}'. Use the file name, id=name, or the path, "
                "id=file."
            )


def _listed(known: _Known) -> str:
    probs = [name for name in known if name.startswith("prob:")]
    plain = [name for name in known if name not in probs]
    return ", ".join([*plain, *probs[:3], *(["prob:..."] if len(probs) > 3 else [])])


def _renamed(column: Column[Answer], header: str) -> Column[Answer]:
    return Column(header=header, kind=column.kind, value=column.value)


def _known(predictor: Predictor, *, sets: bool, reject: bool) -> _Known:
    """Every column by its name, apart from the ranked ones of the default table."""
    columns = [
        Column(header="id", kind="text", value=_stem),
        Column(header="name", kind="text", value=lambda answer: PurePath(answer.name).name),
        Column(header="file", kind="text", value=lambda answer: answer.name),
        *_PREDICTED[predictor.manifest.task],
    ]
    if sets:
        columns.append(Column(header="label_set", kind="texts", value=_label_set))
    if reject:
        columns.append(Column(header="unknown_score", kind="number", value=_unknown_score))
    columns += (
        Column(header=f"prob:{name}", kind="number", value=partial(_prob, i))
        for i, name in enumerate(predictor.class_names)
    )
    columns.append(Column(header="error", kind="text", value=_error))
    return {column.header: column for column in columns}


def _ranked(rank: int) -> tuple[Column[Answer], Column[Answer]]:
    """The label at `rank` and its probability; of an unknown image the answer alone, as that has no probability."""
    end = "" if rank == 1 else f"_{rank}"
    return (
        Column(header=f"label{end}", kind="text", value=partial(_label_at, rank)),
        Column(header=f"confidence{end}", kind="number", value=partial(_prob_at, rank)),
    )


def _stem(answer: Answer) -> Cell:
    return PurePath(answer.name).stem


def _label(answer: Answer) -> Cell:
    return answer.labels[0] if answer.labels else None


def _labels(answer: Answer) -> Cell:
    return list(answer.labels) if isinstance(answer.result, Prediction) else None


def _confidence(answer: Answer) -> Cell:
    result = answer.result
    return result.confidence if isinstance(result, Prediction) and not result.is_unknown else None


def _label_set(answer: Answer) -> Cell:
    return list(answer.result.label_set or ()) if isinstance(answer.result, Prediction) else None


def _unknown_score(answer: Answer) -> Cell:
    return answer.result.unknown_score if isinstance(answer.result, Prediction) else None


def _prob(label: int, answer: Answer) -> Cell:
    return float(answer.result.probs[label]) if isinstance(answer.result, Prediction) else None


def _error(answer: Answer) -> Cell:
    return None if isinstance(answer.result, Prediction) else answer.result.reason


def ranked_classes(answer: Answer, top: int) -> list[tuple[str, float | None]]:
    """The `top` most probable classes with their probabilities; of an unknown image that alone. 'unsure' replaces the first."""
    if not isinstance(answer.result, Prediction):
        return []
    if answer.result.is_unknown:
        return [(answer.labels[0], None)]
    (first, prob), *others = answer.result.top(top)
    return [(UNSURE if answer.labels == (UNSURE,) else first, prob), *others]


def _label_at(rank: int, answer: Answer) -> Cell:
    ranked = ranked_classes(answer, rank)
    return ranked[rank - 1][0] if len(ranked) >= rank else None


def _prob_at(rank: int, answer: Answer) -> Cell:
    ranked = ranked_classes(answer, rank)
    return ranked[rank - 1][1] if len(ranked) >= rank else None


_PREDICTED: Mapping[Task, tuple[Column[Answer], ...]] = MappingProxyType(
    {
        "multiclass": (
            Column(header="label", kind="text", value=_label),
            Column(header="confidence", kind="number", value=_confidence),
        ),
        "multilabel": (Column(header="labels", kind="texts", value=_labels),),
    }
)
_DEFAULTS: Mapping[Task, Callable[[_Known, Sequence[str], int], Iterator[Column[Answer]]]] = MappingProxyType(
    {"multiclass": _default_label, "multilabel": _default_labels}
)
