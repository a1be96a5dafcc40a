"""95 % intervals of measures that are no plain rate: a seeded bootstrap over whole images, all resamples at once.

A resample draws as many images of each stratum as there are, with replacement: see `resampling`. The strata are the classes
where each image has one; where it has several labels, all images are one stratum, as the labels of an image go together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recog.core.task import Task
from recog.evaluation.measures.arrays import BoolArray, FloatArray, IntArray, TargetArray
from recog.evaluation.measures.counts import Interval
from recog.evaluation.measures.multilabel import (
    example_f1_terms,
    label_brier_terms,
    label_gaps,
    ranking_precision_terms,
)
from recog.evaluation.measures.probability import (
    NUM_BINS,
    brier_terms,
    classwise_excess,
    confidence_of,
    equal_mass_bins,
    equal_width_bins,
)
from recog.evaluation.measures.resampling import (
    CLASS_MEASURES,
    NUM_RESAMPLES,
    Bootstrap,
    ece_interval,
    joined,
    mean_of_defined_rows,
    percentile_interval,
    ratio,
    resampled_counts,
    unless_empty,
)
from recog.evaluation.measures.task import task_of

MEASURES: Mapping[Task, tuple[str, ...]] = MappingProxyType(
    {
        "multiclass": (
            *("balanced_accuracy", "macro_f1", "matthews", "nll", "brier", "ece", "auroc"),
            *("macro_precision", "weighted_precision", "weighted_f1", "ece_equal_mass", "classwise_ece"),
            "average_precision",
        ),
        "multilabel": (
            *("mean_average_precision", "macro_f1", "micro_precision", "micro_recall", "micro_f1", "hamming_loss"),
            *("example_f1", "ranking_average_precision", "nll", "brier", "ece"),
            *("macro_precision", "macro_recall", "weighted_precision", "weighted_recall", "weighted_f1"),
            *("auroc", "micro_average_precision"),
        ),
    }
)
MIN_RESAMPLES = 200
_MAX_WORK = MappingProxyType(
    {"multiclass": inf, "multilabel": 4e8}
)  # images x classes x resamples; beyond, fewer resamples
_MAX_RANK_WORK = 2e9  # classes x images x resamples: about two seconds; beyond, AUROC's first-order expansion alone
_MAX_CLASSWISE = 100  # classes; of more, the gaps of all their bins would fill the memory


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """What the resamples gave. What was too much work is not there."""

    values: dict[str, NDArray[np.float64]]  # of MEASURES but the ECEs, and of others that cost nothing more, [R]
    class_values: dict[str, NDArray[np.float64]]  # of CLASS_MEASURES, [K, R]; NaN where undefined
    gaps: dict[str, NDArray[np.float64]]  # of the ECEs, [bins, R]: the sum of their absolute values is the measure
    sample_gaps: dict[str, NDArray[np.float64]]  # the same of the whole sample, [bins]
    sample_values: dict[str, NDArray[np.float64]]  # as `values`, of the sample itself, [1]
    sample_class_values: dict[str, NDArray[np.float64]]  # as `class_values`, of the sample itself, [K, 1]


def bootstrap_intervals(
    probs: FloatArray,
    targets: TargetArray,
    nll_terms: FloatArray,
    *,
    thresholds: Sequence[float] = (),
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Bootstrap:
    """Intervals from `probs` float [N, K], `targets` of either task and the images' own NLL, `nll_terms` float [N].

    The 2.5 % and 97.5 % percentiles of the resampled values, widened to contain the sample's own value; for the ECE see
    `ece_interval`. A measure on which no resample differs, as where every prediction is right, has no interval. `thresholds` [K]
    are those of the predictions. Very large multi-label data take fewer resamples.
    """
    task = task_of(targets).task
    num_resamples = _affordable(num_resamples, task, probs.size)
    resampled = resample_measures(
        probs, targets, nll_terms, thresholds=thresholds, num_resamples=num_resamples, seed=seed
    )
    intervals = {
        name: percentile_interval(values, float(resampled.sample_values[name][0]))
        for name, values in resampled.values.items()
    }
    for name, gaps in resampled.sample_gaps.items():
        intervals[name] = unless_empty(ece_interval(gaps, resampled.gaps[name]))
    return Bootstrap(
        num_resamples=num_resamples,
        seed=seed,
        intervals={name: intervals.get(name) for name in MEASURES[task]},
        class_intervals={
            name: tuple(
                percentile_interval(values, float(own[0]))
                for values, own in zip(
                    resampled.class_values.get(name, ()), resampled.sample_class_values.get(name, ()), strict=True
                )
            )
            for name in CLASS_MEASURES
        },
    )


def resample_measures(
    probs: FloatArray,
    targets: TargetArray,
    nll_terms: FloatArray,
    *,
    thresholds: Sequence[float] = (),
    num_resamples: int,
    seed: int,
) -> Resampled:
    """The measures of every resample. Matthews is 0 where a resample's predictions do not vary."""
    measures = task_of(targets)
    order = np.lexsort((nll_terms, measures.strata(targets)))  # the same intervals in whatever order the images come
    probs, targets = probs[order], targets[order]
    preds, is_class = measures.preds(probs, thresholds), measures.is_class(targets, *probs.shape)
    sample = _SAMPLES[measures.task](probs, targets, preds, num_resamples)
    terms = np.stack([nll_terms[order], *sample.terms.values()])
    tables = [csr_array(cells.T).astype(np.float64) for cells in (preds & is_class, preds, is_class)]

    def measure(counts: NDArray[np.float64]) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
        mean_part, class_part = _counted(*(table @ counts for table in tables), num_images=len(probs))
        mean_part |= dict(zip(("nll", *sample.terms), terms @ counts / len(probs), strict=True))
        if "auroc" in mean_part:
            mean_part["auroc"] = np.clip(mean_part["auroc"], 0.0, 1.0)  # to first order it may pass its bounds
        if sample.ranks:
            auroc, precision = zip(*(table.measures(counts) for table in sample.ranks), strict=True)
            class_part |= {"auroc": np.stack(auroc), "average_precision": np.stack(precision)}
            mean_part |= {name: mean_of_defined_rows(class_part[name]) for name in ("auroc", "average_precision")}
            mean_part["mean_average_precision"] = mean_part["average_precision"]
        if sample.pairs is not None:
            mean_part["micro_average_precision"] = sample.pairs.measures(counts)[1]
        return mean_part, class_part

    values, class_values, gaps = [], [], []
    for counts in resampled_counts(measures.strata(targets), num_resamples=num_resamples, seed=seed):
        mean_part, class_part = measure(counts)
        values.append(mean_part)
        class_values.append(class_part)
        gaps.append({name: table @ counts for name, table in sample.gaps.items()})
    sample_values, sample_class_values = measure(np.ones((len(probs), 1)))
    return Resampled(
        sample_values=sample_values,
        sample_class_values=sample_class_values,
        values=joined(values),
        class_values=joined(class_values),
        gaps=joined(gaps),
        sample_gaps={name: table.sum(axis=1) for name, table in sample.gaps.items()},
    )


def mean_precision_difference(
    probs_a: FloatArray, probs_b: FloatArray, targets: BoolArray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval | None:
    """95 % interval of the mAP of B less that of A, from `probs_a`, `probs_b` and `targets`, all [N, K].

    A paired bootstrap: each resample of whole images is the same for both. Very large data take fewer resamples.
    """
    num_resamples = _affordable(num_resamples, "multilabel", targets.size)
    order = np.lexsort((probs_b[:, 0], probs_a[:, 0]))  # the same interval in whatever order the images come
    probs_a, probs_b, targets = probs_a[order], probs_b[order], targets[order]
    tables = [_rank_tables(probs, targets) for probs in (probs_a, probs_b)]
    differences = []
    for counts in resampled_counts(np.zeros(len(targets), dtype=np.int64), num_resamples=num_resamples, seed=seed):
        a, b = (
            mean_of_defined_rows(np.stack([table.measures(counts)[1] for table in of_classes])) for of_classes in tables
        )
        differences.append(b - a)
    return percentile_interval(np.concatenate(differences))


def _affordable(num_resamples: int, task: Task, num_pairs: int) -> int:
    return int(min(num_resamples, max(MIN_RESAMPLES, _MAX_WORK[task] / num_pairs)))


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """What the measures of a resample follow from, as products with its counts [N, B], beside the predictions."""

    terms: dict[str, NDArray[np.float64]]  # whose mean over the images is the measure, [N]
    gaps: dict[str, csr_array]  # of each ECE, [bins, N]: what each image adds to its bin's gap
    ranks: list[RankTable]  # of each class; none where that is too much work
    pairs: RankTable | None = None  # of all pairs of an image and a label


def _sample_of_classes(probs: FloatArray, labels: IntArray, preds: BoolArray, num_resamples: int) -> _Sample:
    terms = {"brier": brier_terms(probs, labels)}
    ranks = []
    if probs.size * num_resamples > _MAX_RANK_WORK:
        terms["auroc"] = len(probs) * _auroc_terms(probs, labels)
    else:
        ranks = _rank_tables(probs, labels[:, None] == np.arange(probs.shape[1]))
    return _Sample(terms=terms, gaps=_gap_tables(probs, labels, preds), ranks=ranks)


def _sample_of_labels(probs: FloatArray, targets: TargetArray, preds: BoolArray, num_resamples: int) -> _Sample:
    is_class = targets == 1
    images = np.repeat(np.arange(len(probs)), probs.shape[1])
    return _Sample(
        terms={
            "hamming_loss": (preds != is_class).mean(axis=1),
            "example_f1": example_f1_terms(preds, is_class),
            "ranking_average_precision": ranking_precision_terms(probs, is_class),
            "brier": label_brier_terms(probs, is_class).mean(axis=1),
        },
        gaps={"ece": csr_array(label_gaps(probs, is_class).T)},
        ranks=_rank_tables(probs, is_class),
        pairs=RankTable.of(probs.ravel(), is_class.ravel(), images=images, num_images=len(probs)),
    )


_SAMPLES: Mapping[Task, Callable[[FloatArray, TargetArray, BoolArray, int], _Sample]] = MappingProxyType(
    {"multiclass": _sample_of_classes, "multilabel": _sample_of_labels}
)


def _counted(
    correct: NDArray[np.float64], predicted: NDArray[np.float64], support: NDArray[np.float64], *, num_images: int
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Measures float64 [B] and those of the classes [K, B], from counts [K, B]."""
    all_correct, all_predicted, all_support = (array.sum(axis=0) for array in (correct, predicted, support))
    rates = {
        "precision": np.where(
            support > 0, correct / np.maximum(predicted, 1), np.nan
        ),  # never predicted: 0, see `counts`
        "recall": ratio(correct, support),
        "f1": np.where(support > 0, 2 * correct / np.maximum(support + predicted, 1), np.nan),
    }
    covariance = all_correct * num_images - (support * predicted).sum(axis=0)
    variances = (num_images**2 - np.square(counts).sum(axis=0) for counts in (support, predicted))
    spreads = np.sqrt(
        np.prod([np.maximum(variance, 0) for variance in variances], axis=0)
    )  # below 0 with several labels
    values = {
        "micro_precision": ratio(all_correct, all_predicted),
        "micro_recall": ratio(all_correct, all_support),
        "micro_f1": ratio(2 * all_correct, all_predicted + all_support),
        "matthews": np.divide(covariance, spreads, out=np.zeros_like(spreads), where=spreads > 0),
    }
    for name, rate in rates.items():
        values[f"macro_{name}"] = mean_of_defined_rows(rate)
        values[f"weighted_{name}"] = ratio((np.nan_to_num(rate) * support).sum(axis=0), all_support)
    return values | {"balanced_accuracy": values["macro_recall"]}, {"f1": rates["f1"]}


def _gap_tables(probs: FloatArray, labels: IntArray, preds: BoolArray) -> dict[str, csr_array]:
    """Per ECE, sparse [bins, N]: what each image adds to its bin's gap."""
    num_images, num_classes = probs.shape
    confidence, is_correct = confidence_of(probs, labels, preds)
    excess = (confidence - is_correct) / num_images
    tables = {
        "ece": _scatter(equal_width_bins(confidence), excess, NUM_BINS),
        "ece_equal_mass": _scatter(equal_mass_bins(confidence), excess, NUM_BINS),
    }
    if num_classes <= _MAX_CLASSWISE:
        cells, class_excess = classwise_excess(probs, labels)
        images = np.repeat(np.arange(num_images), num_classes)
        shape = (NUM_BINS * num_classes, num_images)
        shares = class_excess.ravel() / (num_images * num_classes)
        tables["classwise_ece"] = csr_array((shares, (cells.ravel(), images)), shape=shape)
    return tables


def _rank_tables(probs: FloatArray, is_class: BoolArray) -> list[RankTable]:
    images = np.arange(len(probs))
    columns = zip(probs.T, is_class.T, strict=True)
    return [RankTable.of(scores, is_own, images=images, num_images=len(probs)) for scores, is_own in columns]


@dataclass(frozen=True, kw_only=True)
class RankTable:
    """One class against the rest: the m distinct scores of its own images split the others into 2 m + 1 bins.

    Bin 2 j lies below own score j and above the one before, bin 2 j + 1 equals it.
    """

    own: csr_array  # [m, N]
    others: csr_array  # [2 m + 1, N]

    @classmethod
    def of(
        cls, scores: FloatArray, is_own: NDArray[np.bool_], *, images: NDArray[np.int64], num_images: int
    ) -> RankTable:
        """`scores` float [S], which of them `is_own` bool [S], and the image of each, `images` int [S], of `num_images`."""
        cuts = np.unique(scores[is_own])
        place = np.searchsorted(cuts, scores, side="left")
        bin_ = 2 * place
        if len(cuts):
            bin_ += cuts[np.minimum(place, len(cuts) - 1)] == scores
        return cls(
            own=_count_table(place[is_own], images[is_own], (len(cuts), num_images)),
            others=_count_table(bin_[~is_own], images[~is_own], (2 * len(cuts) + 1, num_images)),
        )

    def measures(self, counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(AUROC, average precision), float64 [B] each, from counts [N, B]; NaN where a resample lacks own or others.

        AUROC is pairs won over all pairs, a tie being half of one; scores that are equal enter the average precision together.
        """
        own, bins = self.own @ counts, self.others @ counts
        up_to = np.cumsum(bins, axis=0)
        below, equal, num_others = up_to[:-1:2], bins[1::2], up_to[-1]
        num_own = own.sum(axis=0)
        auroc = ratio(np.einsum("mb,mb->b", own, below + 0.5 * equal), num_own * num_others)
        hits = num_own - np.cumsum(own, axis=0) + own  # own images at or above each own score
        taken = hits + num_others - below
        precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
        average = ratio(np.einsum("mb,mb->b", own, precision), np.where(num_others > 0, num_own, 0.0))
        return auroc, average


def _auroc_terms(probs: FloatArray, labels: IntArray) -> NDArray[np.float64]:
    """Per image, float64 [N], terms whose sum over a resample is its macro AUROC to first order; on the sample, exactly.

    Hoeffding's projection: an image's pairs won on average, DeLong et al.'s (1988) structural components. Both images of
    a pair vary, so each class adds its own images' mean, its others' mean, less the AUROC itself.
    """
    terms = np.zeros(len(labels))
    num_ranked = 0
    for c in range(probs.shape[1]):
        is_own = labels == c
        own, others = np.sort(probs[is_own, c]), np.sort(probs[~is_own, c])
        if len(own) == 0 or len(others) == 0:
            continue
        num_ranked += 1
        beats = _mean_place(others, probs[is_own, c])
        beaten = 1 - _mean_place(own, probs[~is_own, c])
        terms[is_own] += (beats - beats.mean()) / len(own)
        terms[~is_own] += beaten / len(others)
    return terms / max(num_ranked, 1)


def _mean_place(sorted_scores: FloatArray, scores: FloatArray) -> NDArray[np.float64]:
    """The share of `sorted_scores` below each of `scores`, equals counting half."""
    below = np.searchsorted(sorted_scores, scores, side="left")
    not_above = np.searchsorted(sorted_scores, scores, side="right")
    share: NDArray[np.float64] = (below + not_above) / (2 * len(sorted_scores))
    return share


def _scatter(rows: NDArray[np.int64], values: NDArray[np.float64], num_rows: int) -> csr_array:
    """Sparse [num_rows, N] with values[i] at (rows[i], i)."""
    return csr_array((values, (rows, np.arange(len(rows)))), shape=(num_rows, len(rows)))


def _count_table(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
