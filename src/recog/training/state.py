"""The state of training: network, optimiser, averaged weights, cursor; and its snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parallel import DistributedDataParallel

from recog.models.classifier import Classifier
from recog.training.config import AdversarialConfig, OnNonFinite, OptimPlan, Precision
from recog.training.device import build_scaler
from recog.training.distributed import World, parallel
from recog.training.losses import Loss
from recog.training.optim import build_optimizer, freeze_layers

if TYPE_CHECKING:
    from timm.utils.model_ema import ModelEmaV3

_COUNTED = (
    "epoch",
    "step",
    "num_steps_done",
    "epoch_loss",
    "accumulation",  # it grows where memory runs out
    "num_skipped",
    "skipped_in_epoch",
    "skipped_in_a_row",
)


@dataclass(kw_only=True)
class TrainState:
    """All that training changes. The cursor is (epoch, step): the next step to take."""

    classifier: Classifier
    optimizer: torch.optim.Optimizer
    loss: Loss
    precision: Precision = "float32"
    ema: ModelEmaV3 | None = None  # the moving average of the classifier's weights
    accumulation: int = 1  # parts that a batch is put through the network in; the step is the whole batch's
    planned_accumulation: int = 1  # before memory ran out
    on_nonfinite: OnNonFinite = "stop"
    max_grad_norm: float | None = None
    freeze_batch_norm: bool = False
    freeze_epochs: int = 0  # in which only the head learns
    adversarial: AdversarialConfig | None = None
    num_adversarial_warmup_steps: int = 0  # in which its eps grows
    scaler: torch.amp.GradScaler = field(default_factory=build_scaler)  # of the loss, in float16
    world: World = field(default_factory=World)
    parallel: DistributedDataParallel | None = None  # the classifier as several processes train it
    epoch: int = 0
    step: int = 0  # within the epoch
    num_steps_done: int = 0
    epoch_loss: float = 0.0  # summed over the steps of this epoch so far
    num_skipped: int = 0  # steps that were not taken, of num_steps_done
    skipped_in_epoch: int = 0
    skipped_in_a_row: int = 0

    @property
    def answering(self) -> Classifier:
        """The weights that are evaluated and shipped: their average where one is kept."""
        if self.ema is None:
            return self.classifier
        averaged: Classifier = self.ema.module
        return averaged


def build_state(
    classifier: Classifier,
    *,
    optim: OptimPlan,
    loss: Loss,
    precision: Precision,
    world: World | None = None,
    adversarial: AdversarialConfig | None = None,
    num_steps: int = 0,
) -> TrainState:
    """`classifier` ready for the first of `num_steps` by `optim`: in channels-last layout, its first layers frozen."""
    world, ema = world or World(), None
    freeze_layers(classifier.network, optim.freeze_layers)
    classifier.to(memory_format=torch.channels_last)
    if optim.ema_decay:
        from timm.utils.model_ema import ModelEmaV3  # timm takes most of a second to import

        # the decay grows with the steps: a constant 0.9998 would keep the random first weights for thousands of steps
        ema = ModelEmaV3(classifier, decay=optim.ema_decay, use_warmup=True)
    return TrainState(
        classifier=classifier,
        optimizer=build_optimizer(classifier.network, classifier.classifier, optim),
        loss=loss,
        precision=precision,
        ema=ema,
        accumulation=optim.accumulation,
        planned_accumulation=optim.accumulation,
        on_nonfinite=optim.on_nonfinite,
        max_grad_norm=optim.max_grad_norm or None,
        freeze_batch_norm=optim.freeze_batch_norm,
        freeze_epochs=optim.freeze_epochs,
        adversarial=adversarial if adversarial is not None and adversarial.eps > 0 else None,
        num_adversarial_warmup_steps=0 if adversarial is None else round(adversarial.warmup_fraction * num_steps),
        scaler=build_scaler(precision),
        world=world,
        parallel=parallel(world, classifier, will_freeze=optim.freeze_epochs > 0),
    )


def take_snapshot(state: TrainState) -> dict[str, Any]:
    """Everything that decides the rest of a run, for `restore_snapshot`.

    The tensors are the live ones, not copies.
    """
    device = state.classifier.device
    return {
        "weights": state.classifier.state_dict(),
        "average": None if state.ema is None else state.ema.module.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "rng": torch.get_rng_state(),  # of dropout and drop-path; augmentation does not use this stream
        "device_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "cursor": {name: getattr(state, name) for name in _COUNTED},
    }


def restore_snapshot(state: TrainState, saved: Mapping[str, Any]) -> None:
    """Restore `saved` into a `state` that was built by the same settings, and torch's random state."""
    state.classifier.load_state_dict(saved["weights"])
    if state.ema is not None:
        state.ema.module.load_state_dict(saved["average"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.scaler.load_state_dict(saved["scaler"])
    torch.set_rng_state(saved["rng"])
    if saved["device_rng"] is not None and state.classifier.device.type == "cuda":
        torch.cuda.set_rng_state(saved["device_rng"], state.classifier.device)
    for name in _COUNTED:
        setattr(state, name, saved["cursor"][name])
