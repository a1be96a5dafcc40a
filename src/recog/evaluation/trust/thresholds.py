"""Decision thresholds, chosen on calibration data: of each label of a multilabel bundle, and of two classes by a stated aim.

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

FEW_IMAGES = 10  # with the label in calibration: below, its threshold is chance to a good part


@dataclass(frozen=True, kw_only=True)
class LabelThresholds:
    """A label is predicted where its probability is at or above its threshold."""

    values: tuple[float, ...]  # [K]
    data: str = ""  # the images they were chosen on, in words
    num_images: int = 0
    support: tuple[int, ...] = ()  # [K], images there with the label; of 0 or all, the threshold is 0.5

    def __post_init__(self) -> None:
        numbers = np.array(self.values)
        if len(numbers) < 2 or not (np.isfinite(numbers).all() and (numbers >= 0).all() and (numbers <= 1).all()):
            raise ConfigError("the label thresholds must be two or more numbers from 0 to 1.")
        if min((self.num_images, *self.support)) < 0:
            raise ConfigError("the label thresholds have a count below 0.")
        if self.support and len(self.support) != len(self.values):
            raise ConfigError(f"there are {len(self.values)} label thresholds and {len(self.support)} supports.")

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def choose_thresholds(probs: FloatArray, targets: BoolArray, *, data: str) -> LabelThresholds:
    """Per label the threshold with the highest F1 on `probs` float [N, K] and `targets` bool [N, K].

    Choose them on images that neither train nor test. Lipton et al. (2014), ECML PKDD: the best threshold is half of the
    best F1, so it is far from 0.5 for a label that is hard.
    """
    return LabelThresholds(
        values=tuple(best_threshold(probs[:, k], targets[:, k]) for k in range(probs.shape[1])),
        data=data,
        num_images=len(probs),
        support=tuple(int(n) for n in targets.sum(axis=0)),
    )


def best_threshold(scores: FloatArray, is_positive: BoolArray) -> float:
    """Midway between the two neighbouring `scores` [N] in [0, 1] that part them with the highest F1; 0.5 where none can.

    Among equals the one nearest 0.5. With all of one kind there is nothing to choose by.
    """
    if is_positive.all() or not is_positive.any():
        return DEFAULT_THRESHOLD
    order = np.argsort(-scores, kind="stable")
    falling = scores[order].astype(np.float64)
    last_of_ties = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    num_hits = np.cumsum(is_positive[order])[last_of_ties]
    f1 = 2 * num_hits / (last_of_ties + 1 + is_positive.sum())
    next_below = np.append(falling[1:], 0.0)[last_of_ties]
    cuts: NDArray[np.float64] = (falling[last_of_ties] + next_below) / 2
    cuts = np.clip(cuts, np.nextafter(next_below, 1.0), falling[last_of_ties])  # neighbours may have no number between
    best = f1 == f1.max()
    return float(cuts[best][np.argmin(np.abs(cuts[best] - DEFAULT_THRESHOLD))])


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
