"""From `report.json` to a `Report`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import numpy as np

from recog.core.config import build_config
from recog.evaluation.measures.bootstrap import MEASURES
from recog.evaluation.measures.counts import ClassCounts, matthews
from recog.evaluation.measures.intervals import Hits
from recog.evaluation.results.data_facts import DataFacts
from recog.evaluation.results.reliability import ProbabilityBin
from recog.evaluation.results.report import MulticlassReport, MultilabelReport, Report, counted_fields
from recog.evaluation.results.report_format import measure_in, parse_bootstrap, parse_checked
from recog.evaluation.results.rows import ClassRow, Misclassified, WrongLabels, none_if_nan
from recog.evaluation.results.scores import parse_scores
from recog.evaluation.results.slices import parse_slicing
from recog.evaluation.results.training_facts import parse_training
from recog.evaluation.results.trust_evidence import parse_trust
from recog.evaluation.trust.scaling import METHODS


def parse_report(table: Mapping[str, Any]) -> Report:
    """From `report.json` of either task; a BundleError where it is no evaluation, newer, damaged or inconsistent."""
    return parse_checked(table, _PARSE.get(str(table.get("task")), _parse_multiclass))


def _parse_multiclass(table: Mapping[str, Any]) -> MulticlassReport:
    class_names = tuple(str(name) for name in table["class_names"])
    confusion = np.array(table["confusion"])
    shape = (len(class_names), len(class_names))
    if confusion.shape != shape or not np.issubdtype(confusion.dtype, np.integer):
        raise ValueError(f"'confusion' has shape {confusion.shape} of {confusion.dtype}; expected {shape} counts.")
    if confusion.min() < 0 or confusion.sum() == 0:
        raise ValueError("it has a negative count, or no image at all.")
    counts = ClassCounts.of_confusion(confusion)
    hits = Hits(num_images=counts.num_images, num_correct=int(counts.num_correct.sum()))
    return MulticlassReport(
        **_parse_shared(table, table["classes"], class_names, counts, hits, MEASURES["multiclass"]),
        errors=tuple(build_config(Misclassified, error, "errors.") for error in table["errors"]),
        matthews=none_if_nan(matthews(confusion)),
        scores=parse_scores(table, hits),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        trust=parse_trust(table["trust"]),
    )


def _parse_multilabel(table: Mapping[str, Any]) -> MultilabelReport:
    hits = Hits(num_images=int(table["num_images"]), num_correct=int(table["num_subset_correct"]))
    if not 0 <= hits.num_correct <= hits.num_images or hits.num_images < 1:
        raise ValueError("it has a negative count, or no image at all.")
    rows = [build_config(ClassRow, row, "labels.") for row in table["labels"]]
    counts = ClassCounts(
        num_images=hits.num_images,
        support=np.array([row.support for row in rows], dtype=np.int64),
        num_predicted=np.array([row.num_predicted for row in rows], dtype=np.int64),
        num_correct=np.array([row.num_correct for row in rows], dtype=np.int64),
    )
    most, fewest = (pick(counts.support, counts.num_predicted) for pick in (np.maximum, np.minimum))
    if ((counts.num_correct < 0) | (counts.num_correct > fewest) | (most > hits.num_images)).any():
        raise ValueError("a label has impossible counts.")
    names, thresholds = tuple(row.name for row in rows), [measure_in(row, "threshold") for row in table["labels"]]
    micro = table["micro_average_precision"]
    return MultilabelReport(
        **_parse_shared(table, table["labels"], names, counts, hits, MEASURES["multilabel"], thresholds),
        errors=tuple(build_config(WrongLabels, error, "errors.") for error in table["errors"]),
        thresholds_data=str(table["thresholds_data"]),
        micro_average_precision=None if micro is None else measure_in(table, "micro_average_precision"),
        ranking_average_precision=float(table["ranking_average_precision"]),
        example_f1=float(table["example_f1"]),
        nll=float(table["nll"]),
        brier=float(table["brier"]),
        ece=float(table["ece"]),
        nll_before=float(table["nll_before"]),
        ece_before=float(table["ece_before"]),
        reliability=tuple(build_config(ProbabilityBin, row, "reliability.") for row in table["reliability"]),
        weak_thresholds=tuple(str(name) for name in table["weak_thresholds"]),
    )


_PARSE: Mapping[str, Callable[[Mapping[str, Any]], Report]] = MappingProxyType(
    {"multiclass": _parse_multiclass, "multilabel": _parse_multilabel}
)


def _parse_shared(
    table: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    class_names: tuple[str, ...],
    counts: ClassCounts,
    hits: Hits,
    measures: Sequence[str],
    thresholds: Sequence[float] = (),
) -> dict[str, Any]:
    facts = {field.name: table["data"][field.name] for field in fields(DataFacts)}
    facts["excluded"] = [(item["name"], item["reason"]) for item in facts["excluded"]]
    if table["calibration_method"] not in METHODS:
        raise ValueError(
            f"'calibration_method' is {table['calibration_method']!r}; expected one of {', '.join(METHODS)}."
        )
    ranks = [_parse_ranks(rows, key, counts) for key in ("auroc", "average_precision")]
    return {
        **counted_fields(class_names, counts, ranks, parse_bootstrap(table["bootstrap"], rows, measures), thresholds),
        "data": build_config(DataFacts, facts, "data."),
        "calibration_method": str(table["calibration_method"]),
        "hits": hits,
        "slices": tuple(parse_slicing(row, hits.num_images, hits.num_correct) for row in table["slices"]),
        "training": parse_training(table["training"]),
    }


def _parse_ranks(rows: Sequence[Mapping[str, Any]], key: str, counts: ClassCounts) -> tuple[float | None, ...]:
    values = tuple(None if row[key] is None else measure_in(row, key) for row in rows)
    for row, value, support in zip(rows, values, counts.support.tolist(), strict=True):
        if (value is None) != (support in (0, counts.num_images)):
            raise ValueError(f"'{key}' of {row['name']!r} does not fit its {support} images.")
    return values
