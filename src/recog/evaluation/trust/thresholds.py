"""Label thresholds of multilabel bundles: the probability from which a label is predicted, chosen on calibration data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import ConfigError
from recog.evaluation.measures.arrays import BoolArray, FloatArray
from recog.evaluation.measures.task import DEFAULT_THRESHOLD

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
