"""`recog train --find-lr`: the range test on a copy of what is to be trained, its drawing, and the rate that it suggests."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

import torch

from recog.core.errors import ConfigError
from recog.core.files import pretty_json, write_bytes_atomic
from recog.recipes.config import TrainConfig
from recog.recipes.head import learn_frozen
from recog.recipes.network import start_training
from recog.recipes.prepare import Prepared
from recog.report.lr_plot import draw_lr_range
from recog.training.device import choose_device
from recog.training.lr_range import LrRange, range_test

LR_PLOT = "lr_range.svg"
LR_TRIALS = "lr_range.json"


def check_find_lr(config: TrainConfig) -> None:
    """ConfigError where the rate is set already, or nothing is learnt by steps: what is known before the data are read."""
    if config.optim.lr is not None:
        raise ConfigError(
            f"optim.lr is set to {config.optim.lr:g}, and --find-lr would choose another; give one of them."
        )
    if config.recipe == "head":
        raise ConfigError("--find-lr is for training by steps, and recipe head takes none; add --recipe finetune.")


def find_lr(prepared: Prepared, folder: Path) -> tuple[Prepared, str]:
    """`prepared` with the rate that the range test suggests, and what to tell; the drawing and its numbers go into `folder`."""
    config = prepared.config
    if prepared.larger is None:
        raise ConfigError("--find-lr is for training by steps, and recipe head takes none; add --recipe finetune.")
    usual = config.optim.lr or 0.1
    found = run_range_test(prepared, usual_lr=usual)
    write_bytes_atomic(folder / LR_TRIALS, pretty_json(asdict(found)))
    drawing = draw_lr_range(
        [(trial.lr, trial.loss, trial.smoothed) for trial in found.trials],
        suggestion=found.suggestion,
        optimizer=str(config.optim.name),
    )
    write_bytes_atomic(folder / LR_PLOT, drawing.encode())
    tried = f"range test of {len(found.trials)} steps, drawn in {folder / LR_PLOT}"
    if found.suggestion is None:
        return prepared, f"{tried}: the loss hardly fell at any rate, so the usual {usual:g} stays"
    config = replace(config, optim=replace(config.optim, lr=found.suggestion))
    return replace(
        prepared, config=config
    ), f"{tried}: learning rate {found.suggestion:g} instead of the usual {usual:g}"


def with_lr(prepared: Prepared, lr: float) -> Prepared:
    """`prepared` to be trained at the peak rate `lr`."""
    config = prepared.config
    return replace(prepared, config=replace(config, optim=replace(config.optim, lr=lr)))


def run_range_test(prepared: Prepared, *, usual_lr: float) -> LrRange:
    """On copies of the network and of torch's random state: the training that follows begins as if there had been none."""
    if prepared.larger is None:
        raise ConfigError("a range test needs images to take steps on; the recipe has none.")
    # all layers learn, as they will for most of the time, and only the weights themselves tell of the rate
    optim = replace(prepared.config.optim, freeze_epochs=0, ema_decay=0.0)
    config = replace(prepared.config, optim=optim)
    classifier = copy.deepcopy(prepared.model.classifier)
    with torch.random.fork_rng():
        for _ in learn_frozen(classifier, prepared):
            pass
        classifier.to(choose_device(config.compute.device, local_rank=0))
        state, loader = start_training(
            classifier, prepared.larger, config, image_size=prepared.model.preprocess.image_size
        )
        return range_test(state, loader, usual_lr=usual_lr)
