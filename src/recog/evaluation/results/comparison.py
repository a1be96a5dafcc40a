"""Two classifiers on the same images: which is better, by how much, and can it be told from this many images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from recog.core.errors import DataError
from recog.core.task import Task
from recog.evaluation.measures.intervals import Interval, wilson_interval
from recog.evaluation.measures.multilabel import BoolArray, is_subset_correct, mean_average_precision
from recog.evaluation.measures.multilabel_bootstrap import mean_precision_difference

FORMAT_VERSION = 1
MAX_CHANGED = 100  # images of each kind that a Comparison names
SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Changed:
    """An image that one of the two gets right."""

    name: str
    true_class: str
    answer_a: str
    answer_b: str


@dataclass(frozen=True, kw_only=True)
class PairedMeasure:
    """One measure of both on the same images; the difference is B less A."""

    a: float
    b: float
    difference_ci95: Interval | None  # None where no resample differs

    @property
    def difference(self) -> float:
        return self.b - self.a


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of A and B on the same images. Rates in [0, 1]; differences are B less A. Of several labels, right is all right."""

    task: Task = "multiclass"
    num_both_right: int
    num_only_a_right: int
    num_only_b_right: int
    num_both_wrong: int
    p_value: float  # McNemar's exact test, two-sided
    difference_ci95: Interval
    lost: tuple[Changed, ...]  # right by A, wrong by B: at most as many as were asked for
    gained: tuple[Changed, ...]  # wrong by A, right by B
    mean_average_precision: PairedMeasure | None = None  # of several labels an image, where defined

    @property
    def num_images(self) -> int:
        return self.num_both_right + self.num_only_a_right + self.num_only_b_right + self.num_both_wrong

    @property
    def num_correct_a(self) -> int:
        return self.num_both_right + self.num_only_a_right

    @property
    def num_correct_b(self) -> int:
        return self.num_both_right + self.num_only_b_right

    @property
    def accuracy_a(self) -> float:
        return self.num_correct_a / self.num_images

    @property
    def accuracy_b(self) -> float:
        return self.num_correct_b / self.num_images

    @property
    def accuracy_a_ci95(self) -> Interval:
        """Wilson's."""
        return wilson_interval(self.num_correct_a, self.num_images)

    @property
    def accuracy_b_ci95(self) -> Interval:
        """Wilson's."""
        return wilson_interval(self.num_correct_b, self.num_images)

    @property
    def difference(self) -> float:
        return (self.num_only_b_right - self.num_only_a_right) / self.num_images

    @property
    def better(self) -> str | None:
        """'A', 'B', or None where the images cannot tell."""
        if self.p_value >= SIGNIFICANCE:
            return None
        return "B" if self.difference > 0 else "A"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "format_version": FORMAT_VERSION,
            "task": self.task,
            "num_images": self.num_images,
            "a": {
                "num_correct": self.num_correct_a,
                "accuracy": self.accuracy_a,
                "accuracy_ci95": list(self.accuracy_a_ci95),
            },
            "b": {
                "num_correct": self.num_correct_b,
                "accuracy": self.accuracy_b,
                "accuracy_ci95": list(self.accuracy_b_ci95),
            },
            "difference": self.difference,
            "difference_ci95": list(self.difference_ci95),
            "p_value": self.p_value,
            "better": self.better,
            "num_both_right": self.num_both_right,
            "num_only_a_right": self.num_only_a_right,
            "num_only_b_right": self.num_only_b_right,
            "num_both_wrong": self.num_both_wrong,
            "lost": [asdict(image) for image in self.lost],
            "gained": [asdict(image) for image in self.gained],
            "mean_average_precision": _plain(self.mean_average_precision),
        }


def compare(
    probs_a: NDArray[np.float64],
    probs_b: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    class_names: Sequence[str],
    names: Sequence[str],
    max_changed: int = MAX_CHANGED,
) -> Comparison:
    """From the probabilities of both, float [N, K] in the same order of images and classes, and `labels` int64 [N].

    `names` are those of the N images. The changed images are listed from the largest swing on: the probability of the
    true class by the one that is right, less that by the other.
    """
    _check_shapes(probs_a, probs_b, labels, names)
    rows = np.arange(len(labels))
    sides = [
        _Answers(
            said=[class_names[k] for k in probs.argmax(axis=1)],
            is_right=probs.argmax(axis=1) == labels,
            truth_probs=probs[rows, labels],
        )
        for probs in (probs_a, probs_b)
    ]
    return _compare(*sides, truth=[class_names[k] for k in labels], names=names, max_changed=max_changed)


def compare_labels(
    probs: tuple[NDArray[np.float64], NDArray[np.float64]],
    decisions: tuple[BoolArray, BoolArray],
    targets: BoolArray,
    *,
    class_names: Sequence[str],
    names: Sequence[str],
    max_changed: int = MAX_CHANGED,
) -> Comparison:
    """Of several labels an image: `probs` float [N, K] and `decisions` bool [N, K] of A and of B, and `targets` bool [N, K].

    Right is an image with all labels right. The largest swing is that of the label that an answer held least to be as it is.
    """
    for side_probs, said in zip(probs, decisions, strict=True):
        _check_shapes(side_probs, said, targets, names)
    sides = [
        _Answers(
            said=[_words(row, class_names) for row in said],
            is_right=is_subset_correct(said, targets),
            truth_probs=np.where(targets, side_probs, 1 - side_probs).min(axis=1),
        )
        for side_probs, said in zip(probs, decisions, strict=True)
    ]
    truth = [_words(row, class_names) for row in targets]
    comparison = _compare(*sides, truth=truth, names=names, max_changed=max_changed)
    a, b = (mean_average_precision(side, targets) for side in probs)
    difference = None
    if not np.isnan(a):  # it is defined for both or for neither
        difference = PairedMeasure(a=a, b=b, difference_ci95=mean_precision_difference(*probs, targets))
    return replace(comparison, task="multilabel", mean_average_precision=difference)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answers:
    """What one of the two says of N images."""

    said: Sequence[str]
    is_right: BoolArray  # [N]
    truth_probs: NDArray[np.float64]  # [N]: how probable it held the truth


def _compare(a: _Answers, b: _Answers, *, truth: Sequence[str], names: Sequence[str], max_changed: int) -> Comparison:
    swing = b.truth_probs - a.truth_probs

    def changed(chosen: BoolArray, swing: NDArray[np.float64]) -> tuple[Changed, ...]:
        indices = np.flatnonzero(chosen)
        order = np.argsort(-swing[indices], kind="stable")[:max_changed]
        return tuple(
            Changed(name=names[i], true_class=truth[i], answer_a=a.said[i], answer_b=b.said[i]) for i in indices[order]
        )

    lost, gained = a.is_right & ~b.is_right, ~a.is_right & b.is_right
    num_lost, num_gained = int(lost.sum()), int(gained.sum())
    return Comparison(
        num_both_right=int((a.is_right & b.is_right).sum()),
        num_only_a_right=num_lost,
        num_only_b_right=num_gained,
        num_both_wrong=int((~a.is_right & ~b.is_right).sum()),
        p_value=mcnemar_exact(num_lost, num_gained),
        difference_ci95=paired_interval(num_lost, num_gained, len(names)),
        lost=changed(lost, -swing),
        gained=changed(gained, swing),
    )


def _plain(measure: PairedMeasure | None) -> dict[str, Any] | None:
    if measure is None:
        return None
    bounds = measure.difference_ci95
    return {
        "a": measure.a,
        "b": measure.b,
        "difference": measure.difference,
        "difference_ci95": None if bounds is None else list(bounds),
    }


def _check_shapes(a: NDArray[Any], b: NDArray[Any], truth: NDArray[Any], names: Sequence[str]) -> None:
    if a.shape != b.shape or len(truth) != len(a) or len(names) != len(truth):
        raise DataError(
            f"A answers {a.shape}, B {b.shape}, for {len(truth)} labels and {len(names)} names; "
            "a comparison needs the same images and classes for all."
        )


def _words(row: BoolArray, class_names: Sequence[str]) -> str:
    return " | ".join(class_names[int(k)] for k in np.flatnonzero(row)) or "(no label)"


def mcnemar_exact(num_only_a: int, num_only_b: int) -> float:
    """Two-sided p-value that two classifiers err alike, from the images that only one of them gets right.

    An image that both get right, or both wrong, says nothing of which is better. If neither is, each of the other
    n = num_only_a + num_only_b images falls to either side with chance 1/2, so num_only_a is binomial(n, 1/2). Seen
    are k = min(num_only_a, num_only_b) on the lesser side; as far out or further are X <= k and, by symmetry, X >= n - k:
    p = 2 P(X <= k), at most 1. With n = 0 there is nothing to tell, and p = 1.
    McNemar (1947), Psychometrika 12(2); exact form: Edwards (1948), and Dietterich (1998) for classifiers.
    """
    num_discordant = num_only_a + num_only_b
    return min(1.0, 2.0 * float(bdtr(min(num_only_a, num_only_b), num_discordant, 0.5)))


def paired_interval(num_only_a: int, num_only_b: int, num_images: int) -> Interval:
    """95 % interval of the accuracy of B less that of A: percentiles of the paired bootstrap.

    A resample draws N images with replacement, each with both its answers; only which of the two is right matters, so an
    image adds +1, -1 or 0 with the shares seen. The sum's distribution over all resamples is known exactly, as N equal
    steps: the N-th power of one step's Fourier transform. So nothing is drawn, and there is no seed.
    Where no image changed, all resamples agree and would hide the doubt: then plus and minus the upper end of Wilson's
    interval for 0 changed of N.
    """
    if num_only_a + num_only_b == 0:
        bound = wilson_interval(0, num_images)[1]
        return -bound, bound
    step = np.zeros(2 * num_images + 1)  # index s: a sum of s, and from the end backwards the negative ones
    step[[0, 1, -1]] = num_images - num_only_a - num_only_b, num_only_b, num_only_a
    sums = np.fft.irfft(np.fft.rfft(step / num_images) ** num_images, len(step))
    cumulative = np.cumsum(np.roll(sums, num_images))
    low, high = (int(np.searchsorted(cumulative, q)) - num_images for q in (0.025, 0.975))
    return low / num_images, high / num_images
