"""Intervals around rates: how far a share of n images may be from the share of all images like them."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from recog.core.errors import DataError

Interval = tuple[float, float]  # lower and upper bound


def wilson_interval(num_successes: int, num_trials: int, confidence: float = 0.95) -> Interval:
    """(low, high) in [0, 1]: Wilson's score interval for the rate `num_successes / num_trials`.

    With no trial nothing is known, and the interval is (0.0, 1.0). Unlike p +- z * sqrt(p (1 - p) / n) it
    stays inside [0, 1] and does not collapse at 0 or n successes. Wilson (1927), JASA 22(158), p. 209-212.
    """
    if not 0 <= num_successes <= num_trials:
        raise DataError(f"{num_successes} successes of {num_trials} trials: expected 0 <= successes <= trials.")
    if not 0.0 < confidence < 1.0:
        raise DataError(f"confidence is {confidence}; expected a fraction between 0 and 1, such as 0.95.")
    if num_trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = num_successes / num_trials
    shrink = 1 + z * z / num_trials
    centre = (rate + z * z / (2 * num_trials)) / shrink
    half = z * sqrt(rate * (1 - rate) / num_trials + (z / (2 * num_trials)) ** 2) / shrink
    # At the two ends the formula gives exactly 0 or 1; floating point misses by an ulp.
    low = 0.0 if num_successes == 0 else max(0.0, centre - half)
    high = 1.0 if num_successes == num_trials else min(1.0, centre + half)
    return low, high


@dataclass(frozen=True, kw_only=True)
class Hits:
    """So many right of so many images: a rate that carries its n."""

    num_images: int
    num_correct: int

    @property
    def accuracy(self) -> float:
        return self.num_correct / self.num_images

    @property
    def accuracy_ci95(self) -> tuple[float, float]:
        """Wilson's."""
        return wilson_interval(self.num_correct, self.num_images)
