"""Decision threshold of two-class bundles: from which probability the positive class is predicted, by a stated aim.

Aims: `f1`, the highest F1 of the positive class; `recall>=R`, the fewest false alarms among the thresholds that find at least
that share of its images; `cost=FN:FP`, the lowest cost where a missed image costs FN and a false alarm FP. Elkan (2001), IJCAI:
with exact probabilities the cost is lowest at FP / (FN + FP).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import ConfigError
from recog.evaluation.measures.arrays import BoolArray, FloatArray
from recog.evaluation.measures.task import DEFAULT_THRESHOLD, TASK_MEASURES

GRAMMAR = "f1, 'recall>=R' such as 'recall>=0.95', or cost=FN:FP such as cost=5:1 (a miss costs 5, a false alarm 1)"
_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_RECALL = re.compile(rf"recall>={_NUMBER}")
_COST = re.compile(rf"cost={_NUMBER}:{_NUMBER}")


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What a threshold is chosen for; f1 if neither `recall` nor `cost` is there."""

    recall: float | None = None  # at least, in (0, 1]
    cost: tuple[float, float] | None = None  # of a missed image and of a false alarm, both above 0


def parse_aim(text: str) -> Aim:
    """ConfigError unless `text` is one of the aims."""
    if text == "f1":
        return Aim()
    if (found := _RECALL.fullmatch(text)) and 0 < float(found[1]) <= 1:
        return Aim(recall=float(found[1]))
    if (found := _COST.fullmatch(text)) and min(float(found[1]), float(found[2])) > 0:
        return Aim(cost=(float(found[1]), float(found[2])))
    quoted = " Quote it, as a shell takes > for a redirection." if text == "recall" else ""
    limits = " R must be above 0 and at most 1." if _RECALL.fullmatch(text) else ""
    limits = " Both costs must be above 0." if _COST.fullmatch(text) else limits
    raise ConfigError(f"calibration.threshold is {text!r}; it must be {GRAMMAR}.{quoted}{limits}")


@dataclass(frozen=True, kw_only=True)
class DecisionThreshold:
    """The class `positive` is predicted where its probability is above `threshold`, else the other one.

    The counts are what this gave on the images that it was chosen on.
    """

    positive: int  # its index: 0 or 1
    threshold: float
    aim: str  # see parse_aim
    data: str = ""  # the images it was chosen on, in words
    num_images: int = 0
    num_positives: int = 0  # images of the positive class
    num_predicted: int = 0  # as positive
    num_correct: int = 0  # both

    def __post_init__(self) -> None:
        parse_aim(self.aim)
        if self.positive not in (0, 1):
            raise ConfigError(f"the positive class of the decision threshold is {self.positive}; it must be 0 or 1.")
        if not (isfinite(self.threshold) and 0 <= self.threshold <= 1):
            raise ConfigError(f"the decision threshold is {self.threshold}; it must be a number from 0 to 1.")
        most, fewest = max(self.num_positives, self.num_predicted), min(self.num_positives, self.num_predicted)
        if not 0 <= self.num_correct <= fewest or most > self.num_images:
            raise ConfigError("the decision threshold has impossible counts.")

    @property
    def values(self) -> tuple[float, float]:
        """Of both classes; the one whose probability exceeds its own more is predicted."""
        return (1 - self.threshold, self.threshold) if self.positive else (self.threshold, 1 - self.threshold)

    @property
    def is_chosen(self) -> bool:
        """False where one of the classes had no image to choose by, so that the threshold is 0.5."""
        return 0 < self.num_positives < self.num_images

    @property
    def recall(self) -> float | None:
        return self.num_correct / self.num_positives if self.num_positives else None

    @property
    def precision(self) -> float | None:
        return self.num_correct / self.num_predicted if self.num_predicted else None

    @property
    def f1(self) -> float | None:
        total = self.num_positives + self.num_predicted
        return 2 * self.num_correct / total if total else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def choose_decision(
    probs: FloatArray, labels: NDArray[Any], *, positive: int, aim: str, data: str
) -> DecisionThreshold:
    """The threshold that serves `aim` best on calibrated `probs` float [N, 2] and `labels` int [N] of `data`.

    Choose it on images that neither train nor test. Without an image of one of the classes it is 0.5.
    """
    is_positive = labels == positive
    chosen = DecisionThreshold(
        positive=positive,
        threshold=_best_cut(probs[:, positive].astype(np.float64), is_positive, parse_aim(aim)),
        aim=aim,
        data=data,
    )
    predicted = TASK_MEASURES["multiclass"].preds(probs, chosen.values)[:, positive]
    return DecisionThreshold(
        positive=positive,
        threshold=chosen.threshold,
        aim=aim,
        data=data,
        num_images=len(labels),
        num_positives=int(is_positive.sum()),
        num_predicted=int(predicted.sum()),
        num_correct=int((predicted & is_positive).sum()),
    )


def _best_cut(scores: NDArray[np.float64], is_positive: BoolArray, aim: Aim) -> float:
    """Midway between two neighbouring `scores` [N]; among equally good cuts the one nearest to the expected place."""
    num_positives = int(is_positive.sum())
    if num_positives in (0, len(scores)):
        return DEFAULT_THRESHOLD
    levels, inverse = np.unique(scores, return_inverse=True)
    num_at = np.bincount(inverse)
    num_hits_at = np.bincount(inverse, weights=is_positive).astype(np.int64)
    # cut i lies below level i, so that all images from there on are predicted; the last one lies above all
    edges = np.concatenate([[0.0], levels, [1.0]])
    cuts = (edges[:-1] + edges[1:]) / 2
    num_hits = np.append(np.cumsum(num_hits_at[::-1])[::-1], 0)
    num_predicted = np.append(np.cumsum(num_at[::-1])[::-1], 0)
    false_alarms, expected = num_predicted - num_hits, DEFAULT_THRESHOLD
    if aim.recall is not None:
        enough = num_hits >= aim.recall * num_positives - 1e-9
        loss, expected = np.where(enough, false_alarms, np.inf), 1.0  # of equals the one with the fewest predictions
    elif aim.cost is not None:
        miss, alarm = aim.cost
        loss, expected = (num_positives - num_hits) * miss + false_alarms * alarm, alarm / (miss + alarm)
    else:
        loss = -2 * num_hits / (num_positives + num_predicted)
    possible = cuts < edges[1:]  # not where the highest score is 1, or the lowest is 0
    loss = np.where(possible, loss, np.inf)
    best = loss <= loss.min() + 1e-12
    return float(cuts[best][np.argmin(np.abs(cuts[best] - expected))])
