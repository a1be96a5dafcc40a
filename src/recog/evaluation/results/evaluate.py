"""The evaluation of one model on one set of images: logits and targets -> `Report`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.task import Task
from recog.evaluation.measures.arrays import BoolArray, FloatArray, TargetArray, check_logits
from recog.evaluation.measures.bootstrap import bootstrap_intervals
from recog.evaluation.measures.counts import (
    ClassCounts,
    Hits,
    confusion_matrix,
    matthews,
)
from recog.evaluation.measures.multilabel import (
    example_f1_terms,
    label_brier_terms,
    micro_average_precision,
    ranking_precision_terms,
)
from recog.evaluation.measures.probability import auroc, average_precision, exact_mean
from recog.evaluation.measures.task import TASK_MEASURES, is_correct, task_of
from recog.evaluation.results.facts import MAX_ERRORS, DataFacts, check_names, measure_trust
from recog.evaluation.results.report import MulticlassReport, MultilabelReport, Report
from recog.evaluation.results.rows import (
    counted_fields,
    misclassified,
    none_if_nan,
    wrong_labels,
)
from recog.evaluation.results.scores import measure_scores, probability_bins
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.thresholds import FEW_IMAGES


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """Of N images: `logits`, `probs`, `preds` and `is_class` are [N, K], `nll_terms` [N], `targets` those of the task."""

    logits: FloatArray  # as the network gives them
    probs: NDArray[np.float64]
    preds: BoolArray
    is_class: BoolArray
    targets: TargetArray
    nll_terms: NDArray[np.float64]
    calibration: Calibration


def evaluate(
    logits: FloatArray,
    targets: TargetArray,
    *,
    class_names: Sequence[str],
    names: Sequence[str],
    data: DataFacts,
    calibration: Calibration | None = None,
    max_errors: int = MAX_ERRORS,
) -> Report:
    """Measure `logits` float [N, K], as the network gives them, against labels int64 [N] in [0, K) or 0 and 1 [N, K].

    `names` are those of the N images, `class_names` of the K classes. Without `calibration`, the softmax; that of several
    labels has their thresholds.
    """
    check_logits(logits)
    calibration, measures = calibration or Calibration(), task_of(targets)
    is_class = measures.is_class(targets, *logits.shape)
    check_names(names, len(logits), "names", "images")
    check_names(class_names, logits.shape[1], "class_names", "classes")
    probs = calibration.apply(logits)
    answers = _Answers(
        logits=logits,
        probs=probs,
        preds=calibration.preds(probs),
        is_class=is_class,
        targets=targets,
        nll_terms=measures.nll_terms(calibration.calibrated_logits(logits), targets),
        calibration=calibration,
    )
    shared = {
        **counted_fields(
            tuple(class_names),
            ClassCounts.of(answers.preds, is_class),
            [tuple(map(none_if_nan, measure(probs, is_class).tolist())) for measure in (auroc, average_precision)],
            bootstrap_intervals(probs, targets, answers.nll_terms, thresholds=calibration.threshold_values),
            _LABEL_THRESHOLDS[measures.task](calibration),
        ),
        "data": data,
        "calibration_method": calibration.method,
        "hits": Hits(num_images=len(logits), num_correct=int(is_correct(answers.preds, is_class).sum())),
        "errors": _ERRORS[measures.task](probs, answers.preds, is_class, class_names, names)[:max_errors],
    }
    return _REPORTS[measures.task](answers, shared)


def _multiclass_report(answers: _Answers, shared: Mapping[str, Any]) -> MulticlassReport:
    labels = answers.targets
    confusion = confusion_matrix(answers.preds.astype(np.float64), labels)
    return MulticlassReport(
        **shared,
        matthews=none_if_nan(matthews(confusion)),
        scores=measure_scores(answers.probs, answers.preds, labels, answers.nll_terms),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        trust=measure_trust(answers.calibration, answers.logits, labels),
    )


def _multilabel_report(answers: _Answers, shared: Mapping[str, Any]) -> MultilabelReport:
    probs, preds, is_class, measures = answers.probs, answers.preds, answers.is_class, TASK_MEASURES["multilabel"]
    thresholds, fit = answers.calibration.label_thresholds, answers.calibration.scaling.fit
    return MultilabelReport(
        **shared,
        calibration_reason="" if fit is None else fit.reason,
        thresholds_data=thresholds.data,
        micro_average_precision=none_if_nan(micro_average_precision(probs, is_class)),
        ranking_average_precision=float(ranking_precision_terms(probs, is_class).mean()),
        example_f1=float(example_f1_terms(preds, is_class).mean()),
        nll=exact_mean(answers.nll_terms),
        brier=float(label_brier_terms(probs, is_class).mean()),
        ece=measures.ece(probs, answers.targets),
        nll_before=measures.nll(answers.logits, answers.targets),
        ece_before=measures.ece(measures.probs(answers.logits), answers.targets),
        reliability=probability_bins(probs, is_class),
        weak_thresholds=tuple(
            row.name for row, n in zip(shared["classes"], thresholds.support, strict=False) if n < FEW_IMAGES
        ),
    )


_REPORTS: Mapping[Task, Callable[[_Answers, Mapping[str, Any]], Report]] = MappingProxyType(
    {"multiclass": _multiclass_report, "multilabel": _multilabel_report}
)
_LABEL_THRESHOLDS: Mapping[Task, Callable[[Calibration], tuple[float, ...]]] = MappingProxyType(  # one a row
    {"multiclass": lambda calibration: (), "multilabel": lambda calibration: calibration.label_thresholds.values}
)
_ERRORS = MappingProxyType({"multiclass": misclassified, "multilabel": wrong_labels})
