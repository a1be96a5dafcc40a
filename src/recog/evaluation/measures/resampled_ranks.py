"""AUROC and average precision of every resample at once: the images are sorted a single time, and counts say who was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recog.evaluation.measures.arrays import FloatArray
from recog.evaluation.measures.resampling import ratio


@dataclass(frozen=True, kw_only=True)
class RankTable:
    """One class against the rest: the m distinct scores of its own images cut the others into 2 m + 1 heaps.

    Heap 2 j lies below own score j and above the one before, heap 2 j + 1 equals it.
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
        heap = 2 * place
        if len(cuts):
            heap += cuts[np.minimum(place, len(cuts) - 1)] == scores
        return cls(
            own=_count_table(place[is_own], images[is_own], (len(cuts), num_images)),
            others=_count_table(heap[~is_own], images[~is_own], (2 * len(cuts) + 1, num_images)),
        )

    def measures(self, counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(AUROC, average precision), float64 [B] each, from counts [N, B]; NaN where a resample lacks own or others.

        AUROC is pairs won over all pairs, a tie being half of one; scores that are equal enter the average precision together.
        """
        own, heaps = self.own @ counts, self.others @ counts
        up_to = np.cumsum(heaps, axis=0)
        below, equal, num_others = up_to[:-1:2], heaps[1::2], up_to[-1]
        num_own = own.sum(axis=0)
        auroc = ratio(np.einsum("mb,mb->b", own, below + 0.5 * equal), num_own * num_others)
        hits = num_own - np.cumsum(own, axis=0) + own  # own images at or above each own score
        taken = hits + num_others - below
        precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
        average = ratio(np.einsum("mb,mb->b", own, precision), np.where(num_others > 0, num_own, 0.0))
        return auroc, average


def _count_table(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
