"""Two classifiers on the same images: which is better, by how much, and can it be told from this many images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from recog.core import notebook
from recog.core.errors import DataError
from recog.core.task import Task
from recog.evaluation.measures.arrays import BoolArray, FloatArray, TargetArray
from recog.evaluation.measures.bootstrap import mean_precision_difference
from recog.evaluation.measures.counts import Interval, wilson_interval
from recog.evaluation.measures.task import is_correct, task_of

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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        bounds = self.difference_ci95
        return {
            "a": self.a,
            "b": self.b,
            "difference": self.difference,
            "difference_ci95": None if bounds is None else list(bounds),
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of A and B on the same images. Rates in [0, 1]; differences are B less A. Of several labels, right is all right."""

    task: Task
    num_both_right: int
    num_only_a_right: int
    num_only_b_right: int
    num_both_wrong: int
    p_value: float  # McNemar's exact test, two-sided
    difference_ci95: Interval
    lost: tuple[Changed, ...]  # right by A, wrong by B: at most as many as were asked for
    gained: tuple[Changed, ...]  # wrong by A, right by B
    mean_average_precision: PairedMeasure | None = None  # of several labels an image, where defined

    def __repr__(self) -> str:
        rates = f"accuracy_a={self.accuracy_a:.4f}, accuracy_b={self.accuracy_b:.4f}"
        return f"Comparison(num_images={self.num_images}, {rates}, p_value={self.p_value:.2g}, better={self.better!r})"

    def _repr_html_(self) -> str:
        verdict = "no significant difference" if self.better is None else f"{self.better} is better"
        low, high = self.difference_ci95
        rows = [
            (name, f"{rate:.1%}", f"{bounds[0]:.1%} to {bounds[1]:.1%}", f"{count:,}")
            for name, rate, bounds, count in (
                ("A", self.accuracy_a, self.accuracy_a_ci95, self.num_only_a_right),
                ("B", self.accuracy_b, self.accuracy_b_ci95, self.num_only_b_right),
            )
        ]
        return notebook.card(
            f"A and B on the same {self.num_images:,} images: {verdict}",
            f"p = {self.p_value:.2g}",
            notebook.table(("", "accuracy", "95% interval", "only this one right"), rows),
            notebook.paragraph(f"B less A: {self.difference:+.1%} (95% interval {low:+.1%} to {high:+.1%})"),
        )

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
            "mean_average_precision": self.mean_average_precision and self.mean_average_precision.to_dict(),
        }


def compare(
    probs: tuple[FloatArray, FloatArray],
    preds: tuple[BoolArray, BoolArray],
    targets: TargetArray,
    *,
    class_names: Sequence[str],
    names: Sequence[str],
    max_changed: int = MAX_CHANGED,
) -> Comparison:
    """From `probs` float and `preds` bool [N, K] of A and of B, classes in the same order, and `targets` of either task.

    `names` are those of the N images. An image is right where all its labels are. The changed images are listed from the
    largest swing on: `truth_probs` of the one that is right, less that of the other.
    """
    measures = task_of(targets)
    for array in (*probs, *preds):
        if array.shape != preds[0].shape or len(array) != len(targets) or len(names) != len(targets):
            raise DataError(
                f"A has probabilities of shape {probs[0].shape}, B {probs[1].shape}, for {len(targets)} targets and "
                f"{len(names)} names; a comparison needs the same images and classes for all."
            )
    is_class = measures.is_class(targets, *preds[0].shape)
    a, b = (is_correct(side, is_class) for side in preds)
    truth_a, truth_b = (measures.truth_probs(side, is_class) for side in probs)

    def changed(chosen: BoolArray, swing: NDArray[np.float64]) -> tuple[Changed, ...]:
        indices = np.flatnonzero(chosen)
        order = np.argsort(-swing[indices], kind="stable")[:max_changed]
        rows = ((i, *(_words(side[i], class_names) for side in (is_class, *preds))) for i in indices[order])
        return tuple(Changed(name=names[i], true_class=t, answer_a=a, answer_b=b) for i, t, a, b in rows)

    lost, gained = a & ~b, ~a & b
    num_lost, num_gained = int(lost.sum()), int(gained.sum())
    map_a, map_b = (measures.mean_average_precision(side, targets) for side in probs)
    return Comparison(
        task=measures.task,
        num_both_right=int((a & b).sum()),
        num_only_a_right=num_lost,
        num_only_b_right=num_gained,
        num_both_wrong=int((~a & ~b).sum()),
        p_value=mcnemar_exact(num_lost, num_gained),
        difference_ci95=paired_interval(num_lost, num_gained, len(names)),
        lost=changed(lost, truth_a - truth_b),
        gained=changed(gained, truth_b - truth_a),
        mean_average_precision=None
        if map_a is None or map_b is None
        else PairedMeasure(a=map_a, b=map_b, difference_ci95=mean_precision_difference(*probs, is_class)),
    )


def _words(row: BoolArray, class_names: Sequence[str]) -> str:
    return " | ".join(class_names[int(k)] for k in np.flatnonzero(row)) or "(no label)"


def mcnemar_exact(num_only_a: int, num_only_b: int) -> float:
    """Two-sided p-value that two classifiers have the same error rate, from the images that only one of them gets right.

    An image that both get right, or both wrong, does not tell which is better. If neither is, each of the other
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
