"""95 % intervals of multi-label measures: a seeded bootstrap over whole images, as the labels of one image go together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recog.evaluation.measures.arrays import FloatArray
from recog.evaluation.measures.intervals import Interval
from recog.evaluation.measures.multilabel import (
    BoolArray,
    bce_terms,
    example_f1_terms,
    label_brier_terms,
    label_gaps,
    ranking_precision_terms,
)
from recog.evaluation.measures.resampled_ranks import RankTable
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

MEASURES = (
    *(
        "mean_average_precision",
        "macro_f1",
        "micro_precision",
        "micro_recall",
        "micro_f1",
        "hamming_loss",
        "example_f1",
    ),
    *("ranking_average_precision", "nll", "brier", "ece"),
    *("macro_precision", "macro_recall", "weighted_precision", "weighted_recall", "weighted_f1"),
    *("auroc", "micro_average_precision"),
)
MIN_RESAMPLES = 200
_MAX_WORK = 4e8  # images x labels x resamples: a few seconds; beyond, fewer resamples


def bootstrap_multilabel(
    calibrated_logits: FloatArray,
    probs: NDArray[np.float64],
    decisions: BoolArray,
    targets: BoolArray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Bootstrap:
    """Intervals of MEASURES from `calibrated_logits`, their sigmoid `probs`, `decisions` and `targets`, all [N, K].

    A resample draws N images with replacement. The 2.5 % and 97.5 % percentiles; for the ECE see `ece_interval`. A label that
    a resample does not show is left out of its means, as everywhere. Very large data take fewer resamples.
    """
    num_resamples = _affordable(num_resamples, probs.size)
    gaps = label_gaps(probs, targets)
    terms = {
        "hamming_loss": (decisions != targets).mean(axis=1),
        "example_f1": example_f1_terms(decisions, targets),
        "ranking_average_precision": ranking_precision_terms(probs, targets),
        "nll": bce_terms(calibrated_logits, targets).mean(axis=1),
        "brier": label_brier_terms(probs, targets).mean(axis=1),
    }
    ranks, all_pairs = _label_tables(probs, targets), _pair_table(probs, targets)
    tables = [csr_array(array.T.astype(np.float64)) for array in (decisions & targets, decisions, targets)]
    values, label_values, resampled_gaps = [], [], []
    for counts in resampled_counts(np.zeros(len(probs), dtype=np.int64), num_resamples=num_resamples, seed=seed):
        part, f1 = _counted(*(table @ counts for table in tables))
        auroc, precision = (np.stack(rows) for rows in zip(*(table.measures(counts) for table in ranks), strict=True))
        part |= {name: term @ counts / len(probs) for name, term in terms.items()}
        part |= {"auroc": mean_of_defined_rows(auroc), "mean_average_precision": mean_of_defined_rows(precision)}
        part["micro_average_precision"] = all_pairs.measures(counts)[1]
        values.append(part)
        label_values.append({"f1": f1, "auroc": auroc, "average_precision": precision})
        resampled_gaps.append({"ece": gaps.T @ counts})
    intervals = {name: percentile_interval(resampled) for name, resampled in joined(values).items()}
    intervals["ece"] = unless_empty(ece_interval(gaps.sum(axis=0), joined(resampled_gaps)["ece"]))
    of_labels = joined(label_values)
    return Bootstrap(
        num_resamples=num_resamples,
        seed=seed,
        intervals={name: intervals[name] for name in MEASURES},
        class_intervals={name: tuple(map(percentile_interval, of_labels[name])) for name in CLASS_MEASURES},
    )


def mean_precision_difference(
    probs_a: FloatArray,
    probs_b: FloatArray,
    targets: BoolArray,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """95 % interval of the mAP of B less that of A, from `probs_a`, `probs_b` and `targets`, all [N, K].

    A paired bootstrap: each resample of whole images is the same for both. Very large data take fewer resamples.
    """
    num_resamples = _affordable(num_resamples, targets.size)
    tables = [_label_tables(probs, targets) for probs in (probs_a, probs_b)]
    differences = []
    for counts in resampled_counts(np.zeros(len(targets), dtype=np.int64), num_resamples=num_resamples, seed=seed):
        a, b = (
            mean_of_defined_rows(np.stack([table.measures(counts)[1] for table in of_labels])) for of_labels in tables
        )
        differences.append(b - a)
    return percentile_interval(np.concatenate(differences))


def _affordable(num_resamples: int, num_pairs: int) -> int:
    return min(num_resamples, max(MIN_RESAMPLES, int(_MAX_WORK / num_pairs)))


def _counted(
    both: NDArray[np.float64], said: NDArray[np.float64], shown: NDArray[np.float64]
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Rates float64 [B] from counts [K, B], and each label's F1 [K, B]."""
    all_both, all_said, all_shown = (array.sum(axis=0) for array in (both, said, shown))
    rates = {
        "precision": np.where(shown > 0, both / np.maximum(said, 1), np.nan),  # never said: 0, as in `macro_means`
        "recall": ratio(both, shown),
        "f1": np.where(shown > 0, 2 * both / np.maximum(said + shown, 1), np.nan),
    }
    values = {
        "micro_precision": ratio(all_both, all_said),
        "micro_recall": ratio(all_both, all_shown),
        "micro_f1": ratio(2 * all_both, all_said + all_shown),
    }
    for name, rate in rates.items():
        values[f"macro_{name}"] = mean_of_defined_rows(rate)
        values[f"weighted_{name}"] = ratio((np.nan_to_num(rate) * shown).sum(axis=0), all_shown)
    return values, rates["f1"]


def _label_tables(probs: FloatArray, targets: BoolArray) -> list[RankTable]:
    images = np.arange(len(probs))
    return [
        RankTable.of(probs[:, k], targets[:, k], images=images, num_images=len(probs)) for k in range(probs.shape[1])
    ]


def _pair_table(probs: NDArray[np.float64], targets: BoolArray) -> RankTable:
    """Of all pairs of an image and a label."""
    images = np.repeat(np.arange(len(probs)), probs.shape[1])
    return RankTable.of(probs.ravel(), targets.ravel(), images=images, num_images=len(probs))
