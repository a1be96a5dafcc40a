"""The evaluation of one multi-label model on one set of images: `evaluate_multilabel` -> `MultilabelReport` -> `report.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError
from recog.evaluation.arrays import FloatArray, check_logits
from recog.evaluation.calibration import Calibration
from recog.evaluation.counts import MeanMeasures
from recog.evaluation.intervals import Hits, Interval, wilson_interval
from recog.evaluation.multilabel import (
    BoolArray,
    LabelCounts,
    TargetArray,
    bce,
    check_targets,
    count_labels,
    example_f1_terms,
    hamming_loss,
    is_subset_correct,
    label_auroc,
    label_average_precision,
    label_brier_terms,
    label_ece,
    macro_means,
    micro_average_precision,
    micro_means,
    ranking_precision_terms,
    sigmoid,
    weighted_means,
)
from recog.evaluation.multilabel_bootstrap import bootstrap_multilabel
from recog.evaluation.probability import NUM_BINS, equal_width_bins
from recog.evaluation.report import MAX_ERRORS, DataFacts, Report, check_names
from recog.evaluation.report_format import FORMAT_VERSION
from recog.evaluation.resampling import Bootstrap
from recog.evaluation.scores import ClassScores, class_scores
from recog.evaluation.slices import Slicing
from recog.evaluation.thresholds import FEW_IMAGES
from recog.evaluation.training_facts import TrainingFacts

BOOTSTRAP = "whole images; percentiles, for the ECE inverted test"


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """One label. Rates are None where undefined (see `multilabel`); intervals are Wilson's, 95 %."""

    name: str
    support: int  # images that show it
    num_predicted: int  # images that it was said of
    num_correct: int  # both
    threshold: float
    precision: float | None
    precision_ci95: Interval | None
    recall: float | None
    recall_ci95: Interval | None
    f1: float | None
    f1_ci95: Interval | None = None  # this one and those below by bootstrap, None in a file of an older format
    specificity: float | None
    specificity_ci95: Interval | None
    auroc: float | None
    auroc_ci95: Interval | None = None
    average_precision: float | None
    average_precision_ci95: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class ProbabilityBin:
    """All pairs of an image and a label with low < probability <= high."""

    low: float
    high: float
    num_pairs: int
    num_shown: int
    mean_prob: float | None  # None in an empty bin


@dataclass(frozen=True, kw_only=True)
class WrongLabels:
    """An image on which at least one label is wrong, each as (label, its probability)."""

    name: str
    correct: tuple[tuple[str, float], ...]  # shown and said
    missed: tuple[tuple[str, float], ...]  # shown, not said
    invented: tuple[tuple[str, float], ...]  # said, not shown
    worst_surprise: float  # how improbable the model held the truth of its worst label, in [0, 1]


@dataclass(frozen=True, kw_only=True)
class MultilabelReport:
    data: DataFacts
    calibration_method: str
    thresholds_data: str  # the images that the thresholds were chosen on, in words
    num_images: int  # measured, so without the excluded
    class_names: tuple[str, ...]
    mean_average_precision: float | None
    micro_average_precision: float | None
    ranking_average_precision: float
    subset: Hits  # images with all labels right
    hamming_loss: float
    example_f1: float
    macro: MeanMeasures
    micro: MeanMeasures
    weighted: MeanMeasures
    auroc: float | None  # macro mean
    nll: float  # mean BCE per image and label, in nats
    brier: float  # mean per image and label
    ece: float
    nll_before: float  # both without the calibration
    ece_before: float
    labels_per_image: tuple[float, float]  # shown and said, on average
    labels: tuple[LabelRow, ...]
    reliability: tuple[ProbabilityBin, ...]
    bootstrap: Bootstrap
    weak_thresholds: tuple[str, ...]  # labels whose threshold was chosen on few images with it, or on none
    num_errors: int  # images with a wrong label; `errors` may hold fewer
    errors: tuple[WrongLabels, ...]  # the worst surprise first
    slices: tuple[Slicing, ...] = ()  # of the subset accuracy
    training: TrainingFacts | None = None  # None where it is not the report of a training run

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def subset_accuracy(self) -> float:
        return self.subset.accuracy

    @property
    def num_found(self) -> int:
        """Images before exclusion: measured and excluded."""
        return self.num_images + len(self.data.excluded)

    @property
    def absent_labels(self) -> tuple[str, ...]:
        """Labels that no image here shows: left out of the macro and weighted means."""
        return tuple(row.name for row in self.labels if row.support == 0)

    @property
    def num_ranked_labels(self) -> int:
        """Labels with an average precision: shown by some images and not by all."""
        return sum(row.average_precision is not None for row in self.labels)

    @property
    def chance_map(self) -> float | None:
        """The mAP of guessing: the mean share of the images that show a label, over the labels that have one."""
        shares = [row.support / self.num_images for row in self.labels if row.average_precision is not None]
        return sum(shares) / len(shares) if shares else None

    def interval(self, measure: str) -> Interval | None:
        """The bootstrap interval of one of `multilabel_bootstrap.MEASURES`."""
        return self.bootstrap.intervals.get(measure)

    def to_dict(self) -> dict[str, Any]:
        """`report.json`: plain JSON types, null where undefined."""
        table = asdict(self)
        data = table.pop("data")
        excluded = data.pop("excluded")
        subset = table.pop("subset")
        shown, said = table.pop("labels_per_image")
        means = {name: {k: _or_none(v) for k, v in table.pop(name).items()} for name in ("macro", "micro", "weighted")}
        slices = table.pop("slices")
        plain: dict[str, Any] = _plain(
            {
                "format_version": FORMAT_VERSION,
                "evidence": "evaluation",
                "task": "multilabel",
                "data": {
                    **data,
                    "num_found": self.num_found,
                    "num_excluded": len(excluded),
                    "excluded": [{"name": name, "reason": reason} for name, reason in excluded],
                },
                "num_classes": self.num_classes,
                "subset_accuracy": self.subset_accuracy,
                "subset_accuracy_ci95": self.subset.accuracy_ci95,
                "num_subset_correct": subset["num_correct"],
                "labels_per_image": shown,
                "labels_said_per_image": said,
                "absent_labels": self.absent_labels,
                "num_ranked_labels": self.num_ranked_labels,
                **means,
                **table,
                "bootstrap": self.bootstrap.to_dict(BOOTSTRAP),
                "slices": [slicing.to_dict() for slicing in self.slices] if slices else [],
            }
        )
        return plain


AnyReport = Report | MultilabelReport


def evaluate_multilabel(
    logits: FloatArray,
    targets: TargetArray,
    *,
    class_names: Sequence[str],
    names: Sequence[str],
    data: DataFacts,
    calibration: Calibration,
    max_errors: int = MAX_ERRORS,
) -> MultilabelReport:
    """Measure `logits` float [N, K], as the network gives them, against `targets` [N, K] of 0 and 1.

    `names` are those of the N images, `class_names` of the K labels; `calibration` has their thresholds.
    """
    check_logits(logits)
    shown = check_targets(targets, *logits.shape)
    check_names(names, len(logits), "names", "images")
    check_names(class_names, logits.shape[1], "class_names", "classes")
    thresholds = calibration.thresholds
    if thresholds is None:
        raise DataError("the calibration has no label thresholds; a multi-label model is measured with them.")
    calibrated = calibration.calibrated_logits(logits)
    probs = calibration.apply(logits)
    said = calibration.decide(probs)
    counts = count_labels(said, shown)
    bootstrap = bootstrap_multilabel(calibrated, probs, said, shown)
    auroc, precision = (
        [_or_none(value) for value in measure(probs, shown).tolist()]
        for measure in (label_auroc, label_average_precision)
    )
    scores = [class_scores(k, auroc, precision, bootstrap) for k in range(len(class_names))]
    rows = label_rows(class_names, counts, thresholds.values, scores)
    errors = _errors(probs, said, shown, class_names=class_names, names=names)
    is_right = is_subset_correct(said, shown)
    return MultilabelReport(
        data=data,
        calibration_method=calibration.method,
        thresholds_data=thresholds.data,
        num_images=len(logits),
        class_names=tuple(class_names),
        mean_average_precision=mean_of([row.average_precision for row in rows]),
        micro_average_precision=_or_none(micro_average_precision(probs, shown)),
        ranking_average_precision=float(ranking_precision_terms(probs, shown).mean()),
        subset=Hits(num_images=len(logits), num_correct=int(is_right.sum())),
        hamming_loss=hamming_loss(said, shown),
        example_f1=float(example_f1_terms(said, shown).mean()),
        macro=macro_means(counts),
        micro=micro_means(counts),
        weighted=weighted_means(counts),
        auroc=mean_of([row.auroc for row in rows]),
        nll=bce(calibrated, shown),
        brier=float(label_brier_terms(probs, shown).mean()),
        ece=label_ece(probs, shown),
        nll_before=bce(logits, shown),
        ece_before=label_ece(sigmoid(logits), shown),
        labels_per_image=(float(shown.sum(axis=1).mean()), float(said.sum(axis=1).mean())),
        labels=rows,
        reliability=probability_bins(probs, shown),
        bootstrap=bootstrap,
        weak_thresholds=tuple(name for name, n in zip(class_names, thresholds.support, strict=False) if n < FEW_IMAGES),
        num_errors=int((~is_right).sum()),
        errors=errors[:max_errors],
    )


def probability_bins(
    probs: NDArray[np.float64], targets: BoolArray, num_bins: int = NUM_BINS
) -> tuple[ProbabilityBin, ...]:
    """All N * K probabilities in bins of equal width, with how many of their labels are shown."""
    bins = equal_width_bins(probs, num_bins).ravel()
    num_pairs = np.bincount(bins, minlength=num_bins)
    num_shown = np.bincount(bins, weights=targets.ravel(), minlength=num_bins)
    sums = np.bincount(bins, weights=probs.ravel(), minlength=num_bins)
    return tuple(
        ProbabilityBin(
            low=b / num_bins,
            high=(b + 1) / num_bins,
            num_pairs=int(n),
            num_shown=int(num_shown[b]),
            mean_prob=float(sums[b] / n) if n else None,
        )
        for b, n in enumerate(num_pairs)
    )


def label_rows(
    class_names: Sequence[str],
    counts: LabelCounts,
    thresholds: Sequence[float],
    scores: Sequence[ClassScores],
) -> tuple[LabelRow, ...]:
    """The rates follow from the counts; the rest is given."""
    rows = []
    for k, name in enumerate(class_names):
        both, said, shown = int(counts.both[k]), int(counts.said[k]), int(counts.shown[k])
        others = counts.num_images - shown
        rows.append(
            LabelRow(
                name=name,
                support=shown,
                num_predicted=said,
                num_correct=both,
                threshold=thresholds[k],
                precision=_or_none(float(counts.precision[k])),
                precision_ci95=wilson_interval(both, said) if said and shown else None,
                recall=_or_none(float(counts.recall[k])),
                recall_ci95=wilson_interval(both, shown) if shown else None,
                f1=_or_none(float(counts.f1[k])),
                f1_ci95=scores[k].f1_ci95,
                specificity=_or_none(float(counts.specificity[k])),
                specificity_ci95=wilson_interval(others - said + both, others) if others else None,
                auroc=scores[k].auroc,
                auroc_ci95=scores[k].auroc_ci95,
                average_precision=scores[k].average_precision,
                average_precision_ci95=scores[k].average_precision_ci95,
            )
        )
    return tuple(rows)


def _errors(
    probs: NDArray[np.float64],
    said: BoolArray,
    shown: BoolArray,
    *,
    class_names: Sequence[str],
    names: Sequence[str],
) -> tuple[WrongLabels, ...]:
    """The images with a wrong label, the worst surprise first, equals in the order of the images."""
    surprise = np.where(said != shown, np.abs(probs - shown), -1.0).max(axis=1)
    order = np.argsort(-surprise, kind="stable")

    def pairs(i: int, which: BoolArray) -> tuple[tuple[str, float], ...]:
        found = sorted(np.flatnonzero(which[i]), key=lambda k: -probs[i, k])
        return tuple((class_names[int(k)], float(probs[i, k])) for k in found)

    return tuple(
        WrongLabels(
            name=names[i],
            correct=pairs(i, said & shown),
            missed=pairs(i, shown & ~said),
            invented=pairs(i, said & ~shown),
            worst_surprise=float(surprise[i]),
        )
        for i in order.tolist()
        if surprise[i] >= 0
    )


def mean_of(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _or_none(value: float) -> float | None:
    return None if isnan(value) else float(value)


def _plain(value: Any) -> Any:
    """Tuples as lists, at every depth."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
