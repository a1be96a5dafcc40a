"""`recog train --find-lr`: the learning-rate range test, its plot, and the rate that it suggests."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from recog.core.errors import ConfigError, TrainingError
from recog.core.files import pretty_json, write_bytes_atomic
from recog.data.loader import TrainLoader
from recog.recipes.config import TrainConfig
from recog.recipes.head import learn_frozen
from recog.recipes.labelled_images import LabelledImages
from recog.recipes.learn import start_training
from recog.recipes.plan import StepsPlan
from recog.recipes.prepare import Prepared
from recog.report.lr_plot import draw_lr_range
from recog.training.device import choose_device
from recog.training.fit import StepLog, fit
from recog.training.state import TrainState

LR_PLOT = "lr_range.svg"
LR_TRIALS = "lr_range.json"


_NO_STEPS = "--find-lr needs a recipe with gradient steps; recipe head has none. Add --recipe finetune."


def check_find_lr(config: TrainConfig) -> None:
    """ConfigError if the rate is set already, or no gradient steps are taken: what is known before the data are read."""
    if config.optim.lr is not None:
        raise ConfigError(
            f"optim.lr is set to {config.optim.lr:g}, which conflicts with --find-lr; use only one of them."
        )
    if config.recipe == "head":
        raise ConfigError(_NO_STEPS)


def find_lr(prepared: Prepared, folder: Path) -> tuple[Prepared, str]:
    """`prepared` with the suggested rate, and a note; the plot and its numbers are written to `folder`."""
    plan, _ = _steps_of(prepared)
    usual = plan.optim.lr
    found = run_range_test(prepared, usual_lr=usual)
    write_bytes_atomic(folder / LR_TRIALS, pretty_json(asdict(found)))
    drawing = draw_lr_range(
        [(trial.lr, trial.loss, trial.smoothed) for trial in found.trials],
        suggestion=found.suggestion,
        optimizer=plan.optim.name,
    )
    write_bytes_atomic(folder / LR_PLOT, drawing.encode())
    tried = f"range test of {len(found.trials)} steps, plotted in {folder / LR_PLOT}"
    if found.suggestion is None:
        return prepared, f"{tried}: the loss hardly fell at any learning rate; keeping the default {usual:g}"
    found_lr = f"{tried}: learning rate {found.suggestion:g} instead of the default {usual:g}"
    return with_lr(prepared, found.suggestion), found_lr


def with_lr(prepared: Prepared, lr: float) -> Prepared:
    """`prepared` to be trained at the peak rate `lr`."""
    plan, _ = _steps_of(prepared)
    return replace(prepared, plan=replace(plan, optim=replace(plan.optim, lr=lr)))


def run_range_test(prepared: Prepared, *, usual_lr: float) -> LrRange:
    """On copies of the network and of torch's random state, so that the training that follows is not affected."""
    plan, train = _steps_of(prepared)
    # all layers learn, at the full size, as they will in the end, and only the weights themselves show the effect of the rate
    optim, schedule = replace(plan.optim, freeze_epochs=0, ema_decay=0.0), replace(plan.schedule, small_fraction=0.0)
    plan = replace(plan, optim=optim, schedule=schedule)
    classifier = copy.deepcopy(prepared.model.classifier)
    with torch.random.fork_rng():
        for _ in () if prepared.exact is None else learn_frozen(classifier, prepared, prepared.exact):
            pass
        classifier.to(choose_device(plan.compute.device, local_rank=0))
        state, loader = start_training(classifier, train, plan, image_size=prepared.model.preprocess.image_size)
        return range_test(state, loader, usual_lr=usual_lr)


def _steps_of(prepared: Prepared) -> tuple[StepsPlan, LabelledImages]:
    if prepared.larger is None or not isinstance(prepared.plan, StepsPlan):
        raise ConfigError(_NO_STEPS)
    return prepared.plan, prepared.larger


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

    Smith (2017), "Cyclical Learning Rates for Training Neural Networks", section 3.3. It changes `state`: pass a copy.
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
        diverged = True  # the loss is not finite any more: the end of the test
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
