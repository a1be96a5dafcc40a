"""From `report.json` to a `Report`: decoded into typed records, then its numbers against its counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from recog.core.records import convert_record
from recog.evaluation.measures.bootstrap import MEASURES
from recog.evaluation.measures.counts import ClassCounts, Hits, matthews
from recog.evaluation.results.facts import DataFacts, parse_training, parse_trust
from recog.evaluation.results.report import MulticlassReport, MultilabelReport, Report
from recog.evaluation.results.report_format import in_range, parse_bootstrap, parse_checked
from recog.evaluation.results.rows import ClassRow, Misclassified, WrongLabels, counted_fields, none_if_nan
from recog.evaluation.results.scores import ProbabilityBin, parse_scores
from recog.evaluation.results.slices import parse_slicing
from recog.evaluation.trust.scaling import METHODS

WHERE = "report.json"


@dataclass(frozen=True, kw_only=True)
class _Excluded:
    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class _WrittenData:
    excluded: tuple[_Excluded, ...]


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What both tasks write; sections of type Any are decoded by their own modules."""

    data: Mapping[str, Any]
    calibration_method: str
    bootstrap: Any
    slices: tuple[Any, ...]
    training: Any


@dataclass(frozen=True, kw_only=True)
class _WrittenMulticlass(_Written):
    class_names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[ClassRow, ...]
    errors: tuple[Misclassified, ...]
    trust: Any


@dataclass(frozen=True, kw_only=True)
class _WrittenMultilabel(_Written):
    num_images: int
    num_subset_correct: int
    labels: tuple[ClassRow, ...]
    errors: tuple[WrongLabels, ...]
    thresholds_data: str
    micro_average_precision: float | None
    ranking_average_precision: float
    example_f1: float
    nll: float
    brier: float
    ece: float
    nll_before: float
    ece_before: float
    reliability: tuple[ProbabilityBin, ...]
    weak_thresholds: tuple[str, ...]
    calibration_reason: str = ""


def parse_report(table: Mapping[str, Any]) -> Report:
    """From `report.json` of either task; a BundleError where it is no evaluation, newer, damaged or inconsistent."""
    return parse_checked(table, _PARSE.get(str(table.get("task")), _parse_multiclass))


def _parse_multiclass(table: Mapping[str, Any]) -> MulticlassReport:
    written = convert_record(table, _WrittenMulticlass, where=WHERE)
    num_classes = len(written.class_names)
    if [len(row) for row in written.confusion] != [num_classes] * num_classes:
        raise ValueError(f"'confusion' has another shape than the {num_classes} x {num_classes} of the classes.")
    confusion = np.array(written.confusion, dtype=np.int64).reshape(num_classes, num_classes)
    if confusion.min(initial=0) < 0 or confusion.sum() == 0:
        raise ValueError("it has a negative count, or no image at all.")
    counts = ClassCounts.of_confusion(confusion)
    hits = Hits(num_images=counts.num_images, num_correct=int(counts.num_correct.sum()))
    return MulticlassReport(
        **_parse_shared(written, written.classes, written.class_names, counts, hits, MEASURES["multiclass"]),
        errors=written.errors,
        matthews=none_if_nan(matthews(confusion)),
        scores=parse_scores(table, hits),
        confusion=written.confusion,
        trust=parse_trust(written.trust),
    )


def _parse_multilabel(table: Mapping[str, Any]) -> MultilabelReport:
    written = convert_record(table, _WrittenMultilabel, where=WHERE)
    rows, hits = written.labels, Hits(num_images=written.num_images, num_correct=written.num_subset_correct)
    if not 0 <= hits.num_correct <= hits.num_images or hits.num_images < 1:
        raise ValueError("it has a negative count, or no image at all.")
    counts = ClassCounts(
        num_images=hits.num_images,
        support=np.array([row.support for row in rows], dtype=np.int64),
        num_predicted=np.array([row.num_predicted for row in rows], dtype=np.int64),
        num_correct=np.array([row.num_correct for row in rows], dtype=np.int64),
    )
    most, fewest = (pick(counts.support, counts.num_predicted) for pick in (np.maximum, np.minimum))
    if ((counts.num_correct < 0) | (counts.num_correct > fewest) | (most > hits.num_images)).any():
        raise ValueError("a label has impossible counts.")
    if any(row.threshold is None for row in rows):
        raise ValueError("a label has no 'threshold'.")
    thresholds = [in_range(row.threshold, "threshold") for row in rows if row.threshold is not None]
    micro = written.micro_average_precision
    names = tuple(row.name for row in rows)
    return MultilabelReport(
        **_parse_shared(written, rows, names, counts, hits, MEASURES["multilabel"], thresholds),
        ranking_average_precision=in_range(written.ranking_average_precision, "ranking_average_precision"),
        example_f1=in_range(written.example_f1, "example_f1"),
        nll=in_range(written.nll, "nll"),
        brier=in_range(written.brier, "brier"),
        ece=in_range(written.ece, "ece"),
        nll_before=in_range(written.nll_before, "nll_before", "nll"),
        ece_before=in_range(written.ece_before, "ece_before"),
        errors=written.errors,
        thresholds_data=written.thresholds_data,
        micro_average_precision=None if micro is None else in_range(micro, "micro_average_precision"),
        reliability=written.reliability,
        weak_thresholds=written.weak_thresholds,
        calibration_reason=written.calibration_reason,
    )


_PARSE: Mapping[str, Callable[[Mapping[str, Any]], Report]] = MappingProxyType(
    {"multiclass": _parse_multiclass, "multilabel": _parse_multilabel}
)


def _parse_shared(
    written: _Written,
    rows: Sequence[ClassRow],
    class_names: tuple[str, ...],
    counts: ClassCounts,
    hits: Hits,
    measures: Sequence[str],
    thresholds: Sequence[float] = (),
) -> dict[str, Any]:
    excluded = convert_record(written.data, _WrittenData, where=f"{WHERE}: data").excluded
    facts = {**written.data, "excluded": [tuple(asdict(item).values()) for item in excluded]}
    if written.calibration_method not in METHODS:
        raise ValueError(
            f"'calibration_method' is {written.calibration_method!r}; expected one of {', '.join(METHODS)}."
        )
    if len(rows) != len(class_names):
        raise ValueError(f"it has {len(rows)} rows for {len(class_names)} classes.")
    ranks = [_check_ranks(rows, key, counts) for key in ("auroc", "average_precision")]
    return {
        **counted_fields(class_names, counts, ranks, parse_bootstrap(written.bootstrap, rows, measures), thresholds),
        "data": convert_record(facts, DataFacts, where=f"{WHERE}: data"),
        "calibration_method": written.calibration_method,
        "hits": hits,
        "slices": tuple(parse_slicing(row, hits.num_images, hits.num_correct) for row in written.slices),
        "training": parse_training(written.training),
    }


def _check_ranks(rows: Sequence[ClassRow], key: str, counts: ClassCounts) -> tuple[float | None, ...]:
    values: list[float | None] = [getattr(row, key) for row in rows]
    for row, value, support in zip(rows, values, counts.support.tolist(), strict=True):
        if (value is None) != (support in (0, counts.num_images)):
            raise ValueError(f"'{key}' of {row.name!r} does not fit its {support} images.")
    return tuple(None if value is None else in_range(value, key) for value in values)
