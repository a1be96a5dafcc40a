"""Verification of the ONNX export: its probabilities must match the torch network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BundleError
from recog.core.task import Task
from recog.evaluation.measures.task import TASK_MEASURES

MAX_PROB_DIFFERENCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How two engines agree on the same `num_images` image files."""

    num_images: int
    max_prob_difference: float
    mean_prob_difference: float
    num_ties: int  # images whose two best classes are closer than twice the tolerance, or, of several labels, whose
    # probability of one is closer than the tolerance to its threshold: there labels may differ
    num_label_differences: int  # among the others

    @property
    def agrees(self) -> bool:
        """Whether every probability agrees to 1e-4 and every clear label is equal, as float32 engines do."""
        return self.max_prob_difference <= MAX_PROB_DIFFERENCE and not self.num_label_differences


def compare_engines(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    *,
    task: Task = "multiclass",
    thresholds: Sequence[float] = (),
) -> Parity:
    """Agreement of probs [N, K] from two engines; `thresholds` [K] are those of a multilabel bundle."""
    measures = TASK_MEASURES[task]
    near = measures.smallest_margin(ours, thresholds) <= MAX_PROB_DIFFERENCE
    differing = (measures.preds(ours, thresholds) != measures.preds(theirs, thresholds)) & ~near
    num_ties, num_differences = near.any(axis=1).sum(), differing.any(axis=1).sum()
    difference = (
        np.abs(ours - theirs) if np.isfinite(ours).all() and np.isfinite(theirs).all() else np.full((1, 1), np.inf)
    )
    return Parity(
        num_images=len(ours),
        max_prob_difference=float(difference.max(initial=0.0)),
        mean_prob_difference=float(difference.mean()) if difference.size else 0.0,
        num_ties=int(num_ties),
        num_label_differences=int(num_differences),
    )


def check_parity(parity: Parity) -> None:
    """Raise BundleError unless the two agree."""
    if not parity.agrees:
        raise BundleError(
            f"the exported model disagrees with the trained one on {parity.num_images} image files: probabilities differ "
            f"by up to {parity.max_prob_difference:.2g} (at most {MAX_PROB_DIFFERENCE:g} is allowed), "
            f"{parity.num_label_differences} labels differ. No bundle was written. Please report the network's name."
        )
