"""The learning-rate range test: a rate that grows with every step, and what the loss makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recog.core.errors import TrainingError
from recog.data.loader import TrainLoader
from recog.training.fit import StepLog, fit
from recog.training.state import TrainState

NUM_STEPS = 100
SMOOTHING = (
    0.98  # of the running mean of the loss; this, the steps and the stop at 4 times the lowest loss are fastai's
)
DIVERGED = 4.0
SPAN_DOWN, SPAN_UP = 1e-4, 1e2  # the rates that are tried, over the optimiser's usual one
FEWEST_FALLING = 10  # steps at which the smoothed loss falls: fewer are chance
LEAST_FALL = 0.05  # of the smoothed loss: less is what batches differ by, as after a head that fits already


@dataclass(frozen=True, kw_only=True)
class LrTrial:
    lr: float
    loss: float
    smoothed: float  # running mean of the losses, corrected for its start at 0


@dataclass(frozen=True, kw_only=True)
class LrRange:
    """The trials in rising order of rate. `suggestion` is None where the loss hardly fell at any."""

    trials: tuple[LrTrial, ...]
    suggestion: float | None
    diverged: bool  # before the highest rate


def range_test(state: TrainState, loader: TrainLoader, *, usual_lr: float, num_steps: int = NUM_STEPS) -> LrRange:
    """Train `state` at rates that grow from 1e-4 to 100 times `usual_lr` by the same factor a step, until the loss diverges.

    Smith (2017), "Cyclical Learning Rates for Training Neural Networks", section 3.3. `state` is spoilt by it: give a copy.
    """
    low, high = usual_lr * SPAN_DOWN, usual_lr * SPAN_UP
    trials: list[LrTrial] = []
    average, lowest, diverged = 0.0, float("inf"), False
    logs = fit(state, loader, lambda step: rate_at(step, low, high, num_steps), epochs=num_steps)
    try:
        for log in logs:
            if not isinstance(log, StepLog):
                continue
            average = SMOOTHING * average + (1 - SMOOTHING) * log.loss
            smoothed = average / (1 - SMOOTHING**log.step)
            lowest = min(lowest, smoothed)
            trials.append(LrTrial(lr=log.lr, loss=log.loss, smoothed=smoothed))
            diverged = smoothed > DIVERGED * lowest
            if diverged or len(trials) == num_steps:
                break
    except TrainingError:
        if not trials:
            raise
        diverged = True  # the loss is not finite any more, which is what the test is waiting for
    return LrRange(trials=tuple(trials), suggestion=suggest_lr(trials, num_steps=num_steps), diverged=diverged)


def rate_at(step: int, low: float, high: float, num_steps: int) -> float:
    """Step 0 at `low`, the last of `num_steps` at `high`, by the same factor from each to the next."""
    return float(low * (high / low) ** (step / max(1, num_steps - 1)))


def suggest_lr(trials: Sequence[LrTrial], *, num_steps: int = NUM_STEPS) -> float | None:
    """A rate in the middle of the longest fall of the smoothed loss, to two digits; None where it falls by less than 5 %.

    The first tenth, where the mean has not settled, and the last five, where the loss explodes, are left out. This is
    fastai's 'valley' (Howard and Gugger, 2020).
    """
    kept = trials[num_steps // 10 : -5]
    losses = [trial.smoothed for trial in kept]
    place = valley(losses)
    if place is None:
        return None
    lowest = min(losses)
    highest = max(losses[: losses.index(lowest) + 1])
    return float(f"{kept[place].lr:.2g}") if highest - lowest >= LEAST_FALL * highest else None


def valley(losses: Sequence[float]) -> int | None:
    """The place in `losses` half-way along their longest falling subsequence; None where that has fewer than ten."""
    lengths: list[int] = []
    for i, loss in enumerate(losses):
        lengths.append(1 + max((lengths[j] for j in range(i) if losses[j] > loss), default=0))
    longest = max(lengths, default=0)
    if longest < FEWEST_FALLING:
        return None
    return max(0, lengths.index(longest) - longest + longest // 3 + longest // 6)
