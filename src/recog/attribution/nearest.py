"""The training images whose features are nearest to an image's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def nearest_rows(
    bank: NDArray[np.float32], features: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows of `bank` [N, D] by cosine to each of `features` [B, D], the nearest first, and the cosines: both [B, count].

    Both are centred by the mean of the bank, as features that are never negative all point the same way.
    """
    mean = bank.mean(axis=0, dtype=np.float64)
    cosines = _units(features - mean) @ _units(bank - mean).T
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return rows, np.take_along_axis(cosines, rows, axis=1)


def _units(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found
