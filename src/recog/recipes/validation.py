"""How good answers are to images that are held out of learning: what chooses among epochs and among heads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import TrainingError
from recog.evaluation.measures.counts import accuracy, confusion_matrix
from recog.evaluation.measures.multilabel import bce, decide, is_subset_correct, mean_average_precision
from recog.evaluation.measures.probability import nll


@dataclass(frozen=True, kw_only=True)
class ValScores:
    accuracy: float  # multi-label: share of images with all labels right at a probability of 0.5
    nll: float  # multi-label: the mean BCE
    mean_average_precision: float | None = None  # of multi-label answers only
    confusion: NDArray[np.int64] | None = field(
        default=None, compare=False
    )  # [K, K], row = true; of single labels only

    @property
    def rank(self) -> tuple[float, float]:
        """The greater, the better: by accuracy, of multi-label answers by mAP; of equals the lower NLL."""
        first = self.accuracy if self.mean_average_precision is None else self.mean_average_precision
        return first, -self.nll


def score_answers(logits: NDArray[np.float32], targets: NDArray[np.generic]) -> ValScores:
    """Scores of `logits` float [N, K] by labels int64 [N], or multi-label `targets` float32 [N, K] of 0 and 1.

    TrainingError where the network has diverged.
    """
    if not np.isfinite(logits).all():
        raise TrainingError(
            "the network's answers on the validation split are not finite; a lower learning rate usually mends it: "
            "--set optim.lr=..."
        )
    if targets.ndim == 1:
        labels = targets.astype(np.int64)
        return ValScores(
            accuracy=accuracy(logits, labels), nll=nll(logits, labels), confusion=confusion_matrix(logits, labels)
        )
    shown = targets == 1
    said = decide(logits, np.zeros(logits.shape[1]))
    return ValScores(
        accuracy=float(is_subset_correct(said, shown).mean()),
        nll=bce(logits, shown),
        mean_average_precision=float(np.nan_to_num(mean_average_precision(logits, shown))),
    )
