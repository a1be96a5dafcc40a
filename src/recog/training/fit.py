"""The training loop, in sight: `fit` yields after every step and epoch, and the caller prints, saves or stops."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from recog.core.errors import TrainingError
from recog.data.geometry import as_tensor
from recog.data.loader import TrainLoader
from recog.data.store import Rows
from recog.models.classifier import Classifier

Precision = Literal["float32", "bfloat16"]


@dataclass(kw_only=True)
class TrainState:
    """All that training changes. The cursor is (epoch, step): the next step to take."""

    classifier: Classifier
    optimizer: torch.optim.Optimizer
    precision: Precision
    label_smoothing: float
    freeze_batch_norm: bool = False
    class_weights: torch.Tensor | None = None  # float32 [K], of the loss
    epoch: int = 0
    step: int = 0  # within the epoch
    num_steps_done: int = 0
    epoch_loss: float = 0.0  # summed over the steps of this epoch so far


@dataclass(frozen=True, kw_only=True)
class StepLog:
    epoch: int
    step: int  # since the start of training, from 1
    loss: float  # mean over the batch
    lr: float
    num_images: int


@dataclass(frozen=True, kw_only=True)
class EpochLog:
    epoch: int  # from 1
    train_loss: float  # mean over the epoch's steps, on augmented images
    num_images: int  # and the time they took: since the epoch began or was resumed
    train_s: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Logits float32 [N, K] and features float32 [N, D] of a whole split, in its order."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]


def fit(
    state: TrainState, loader: TrainLoader, lr_at: Callable[[int], float], *, epochs: int
) -> Iterator[StepLog | EpochLog]:
    """Train `state` in place from its cursor on; stop early by ceasing to iterate.

    Raises TrainingError on a loss that is not finite, before the optimiser's step.
    """
    for epoch in range(state.epoch, epochs):
        num_images = 0
        started = time.perf_counter()
        for images, targets in loader.batches(epoch, first_step=state.step):
            log = train_step(state, images, targets, lr=lr_at(state.num_steps_done))
            num_images += log.num_images
            yield log
        if not state.step:
            raise TrainingError(f"epoch {epoch + 1} had no step; the training split or the batch is empty.")
        train_loss = state.epoch_loss / state.step
        state.epoch, state.step, state.epoch_loss = epoch + 1, 0, 0.0
        yield EpochLog(
            epoch=epoch + 1,
            train_loss=train_loss,
            num_images=num_images,
            train_s=time.perf_counter() - started,
        )


def train_step(state: TrainState, images: torch.Tensor, targets: torch.Tensor, *, lr: float) -> StepLog:
    """One step on images uint8 [B, H, W, C] and labels int64 [B], or soft targets float32 [B, K] that sum to 1."""
    classifier, device = state.classifier, state.classifier.device
    classifier.train()
    if state.freeze_batch_norm:
        for module in classifier.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
    with autocast(device, state.precision):
        logits, _ = classifier(images.to(device))
    loss = F.cross_entropy(
        logits.float(),
        targets.to(device),
        weight=None if state.class_weights is None else state.class_weights.to(device),
        label_smoothing=state.label_smoothing,
    )
    value = loss.item()
    step = state.num_steps_done + 1
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss is {value} at epoch {state.epoch + 1}, step {step} (learning rate {lr:.3g}); the weights were "
            "not changed by this step and no bundle was written. A lower rate usually mends it: "
            f"--set optim.lr={lr / 10:.2g}."
        )
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    state.num_steps_done, state.step, state.epoch_loss = step, state.step + 1, state.epoch_loss + value
    return StepLog(epoch=state.epoch + 1, step=step, loss=value, lr=lr, num_images=len(targets))


def collect_logits(classifier: Classifier, images: Rows, *, precision: Precision, batch_size: int = 64) -> Evaluation:
    """Run `images` uint8 [N, H, W, C] through the classifier in evaluation mode; its mode is left as it was."""
    logits, features = [], []
    with eval_mode(classifier), torch.inference_mode(), autocast(classifier.device, precision):
        for start in range(0, len(images), batch_size):
            batch = as_tensor(images[start : start + batch_size]).to(classifier.device)
            batch_logits, batch_features = classifier(batch)
            logits.append(batch_logits.float().cpu().numpy())
            features.append(batch_features.float().cpu().numpy())
    return Evaluation(logits=np.concatenate(logits), features=np.concatenate(features))


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[None]:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextlib.contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; every sub-module's mode is put back, even when the block raises."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, was_training in modes:
            child.training = was_training
