"""The evaluation of one multi-label model on one set of images: `evaluate_multilabel` -> `MultilabelReport` -> `report.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.config import build_config
from recog.core.errors import DataError
from recog.evaluation.measures.arrays import FloatArray, check_logits
from recog.evaluation.measures.counts import (
    LabelCounts,
    MeanMeasures,
    count_labels,
    macro_means,
    micro_means,
    weighted_means,
)
from recog.evaluation.measures.intervals import Hits, Interval
from recog.evaluation.measures.multilabel import (
    BoolArray,
    TargetArray,
    bce,
    check_targets,
    example_f1_terms,
    hamming_loss,
    is_subset_correct,
    label_auroc,
    label_average_precision,
    label_brier_terms,
    label_ece,
    micro_average_precision,
    ranking_precision_terms,
    sigmoid,
)
from recog.evaluation.measures.multilabel_bootstrap import MEASURES, bootstrap_multilabel
from recog.evaluation.measures.probability import NUM_BINS, equal_width_bins
from recog.evaluation.measures.resampling import Bootstrap
from recog.evaluation.results.data_facts import MAX_ERRORS, DataFacts, check_names
from recog.evaluation.results.report_format import FORMAT_VERSION, parse_bootstrap, parse_checked
from recog.evaluation.results.rows import LabelRow, label_rows, mean_of, none_if_nan
from recog.evaluation.results.scores import class_scores
from recog.evaluation.results.slices import Slicing, parse_slicing
from recog.evaluation.results.training_facts import TrainingFacts, parse_training
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.thresholds import FEW_IMAGES

BOOTSTRAP = "whole images; percentiles, for the ECE inverted test"


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

    def interval(self, metric: str) -> Interval | None:
        """The 95 % interval of a headline metric, by its name."""
        return self.subset.accuracy_ci95 if metric == "subset_accuracy" else self.bootstrap.intervals.get(metric)

    def to_dict(self) -> dict[str, Any]:
        """`report.json`: plain JSON types, null where undefined."""
        table = asdict(self)
        data = table.pop("data")
        excluded = data.pop("excluded")
        subset = table.pop("subset")
        shown, said = table.pop("labels_per_image")
        means = {
            name: {k: none_if_nan(v) for k, v in table.pop(name).items()} for name in ("macro", "micro", "weighted")
        }
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
    said = calibration.preds(probs)
    counts = count_labels(said, shown)
    bootstrap = bootstrap_multilabel(calibrated, probs, said, shown)
    auroc, precision = (
        [none_if_nan(value) for value in measure(probs, shown).tolist()]
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
        micro_average_precision=none_if_nan(micro_average_precision(probs, shown)),
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


def _plain(value: Any) -> Any:
    """Tuples as lists, at every depth."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


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
    bootstrap = parse_bootstrap(table["bootstrap"], table["labels"], MEASURES)
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
        training=parse_training(table["training"]),
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
