"""`report.json` of a multi-label model, read back: what is counted is counted again, so that a changed file is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from recog.core.config import build_config
from recog.evaluation.intervals import Hits
from recog.evaluation.multilabel import LabelCounts, macro_means, micro_means, weighted_means
from recog.evaluation.multilabel_bootstrap import MEASURES, MEASURES_OF_3
from recog.evaluation.multilabel_report import (
    AnyReport,
    LabelRow,
    MultilabelReport,
    ProbabilityBin,
    WrongLabels,
    label_rows,
    mean_of,
)
from recog.evaluation.report import DataFacts, Report
from recog.evaluation.report_format import parse_checked
from recog.evaluation.resampling import parse_bootstrap
from recog.evaluation.scores import class_scores
from recog.evaluation.slices import parse_slicing
from recog.evaluation.training_facts import parse_training


def parse_report(table: Mapping[str, Any]) -> AnyReport:
    """From `report.json` of either task; a BundleError where it is no evaluation, newer, damaged or inconsistent."""
    return parse_multilabel_report(table) if table.get("task") == "multilabel" else Report.from_dict(table)


def parse_multilabel_report(table: Mapping[str, Any]) -> MultilabelReport:
    return parse_checked(table, _parse)


def _parse(table: Mapping[str, Any]) -> MultilabelReport:
    facts = {field.name: table["data"][field.name] for field in fields(DataFacts)}
    facts["excluded"] = [(item["name"], item["reason"]) for item in facts["excluded"]]
    subset = Hits(num_images=int(table["num_images"]), num_correct=int(table["num_subset_correct"]))
    if not 0 <= subset.num_correct <= subset.num_images or subset.num_images < 1:
        raise ValueError("it has a negative count, or no image at all.")
    read = [build_config(LabelRow, row, "labels.") for row in table["labels"]]
    counts = _counts(read, subset.num_images)
    bootstrap = parse_bootstrap(table["bootstrap"], table["labels"], measures=MEASURES, older=MEASURES_OF_3)
    auroc = [_fraction(row.auroc) for row in read]
    precision = [_fraction(row.average_precision) for row in read]
    scores = [class_scores(k, auroc, precision, bootstrap) for k in range(len(read))]
    rows = label_rows([row.name for row in read], counts, [row.threshold for row in read], scores)
    shown, said = float(counts.shown.sum()), float(counts.said.sum())
    return MultilabelReport(
        data=build_config(DataFacts, facts, "data."),
        calibration_method=str(table["calibration_method"]),
        thresholds_data=str(table["thresholds_data"]),
        num_images=subset.num_images,
        class_names=tuple(row.name for row in read),
        mean_average_precision=mean_of([row.average_precision for row in rows]),
        auroc=mean_of([row.auroc for row in rows]),
        micro_average_precision=_fraction(table["micro_average_precision"]),
        ranking_average_precision=float(table["ranking_average_precision"]),
        subset=subset,
        hamming_loss=float((counts.said + counts.shown - 2 * counts.both).sum() / (subset.num_images * len(rows))),
        example_f1=float(table["example_f1"]),
        macro=macro_means(counts),
        micro=micro_means(counts),
        weighted=weighted_means(counts),
        nll=float(table["nll"]),
        brier=float(table["brier"]),
        ece=float(table["ece"]),
        nll_before=float(table["nll_before"]),
        ece_before=float(table["ece_before"]),
        labels_per_image=(shown / subset.num_images, said / subset.num_images),
        labels=rows,
        reliability=tuple(build_config(ProbabilityBin, row, "reliability.") for row in table["reliability"]),
        bootstrap=bootstrap,
        weak_thresholds=tuple(str(name) for name in table["weak_thresholds"]),
        num_errors=subset.num_images - subset.num_correct,
        errors=tuple(build_config(WrongLabels, error, "errors.") for error in table["errors"]),
        training=parse_training(table.get("training")),
        slices=tuple(parse_slicing(row, subset.num_images, subset.num_correct) for row in table["slices"]),
    )


def _fraction(value: Any) -> float | None:
    if value is not None and not 0 <= value <= 1 + 1e-9:
        raise ValueError(f"a measure is {value}; it must lie between 0 and 1.")
    return None if value is None else float(value)


def _counts(rows: Sequence[LabelRow], num_images: int) -> LabelCounts:
    both, said, shown = (
        np.array([getattr(row, name) for row in rows], dtype=np.int64)
        for name in ("num_correct", "num_predicted", "support")
    )
    if (both < 0).any() or (both > np.minimum(said, shown)).any() or (np.maximum(said, shown) > num_images).any():
        raise ValueError("a label has impossible counts.")
    return LabelCounts(both=both, said=said, shown=shown, num_images=num_images)
