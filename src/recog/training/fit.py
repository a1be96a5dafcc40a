"""The training loop: `fit` yields after every step and epoch; the caller prints, saves or stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from recog.core.errors import TrainingError
from recog.data.augment.geometry import as_tensor
from recog.data.dataset import Targets
from recog.data.loader import TrainLoader, share
from recog.data.store import Rows
from recog.models.classifier import Classifier
from recog.runtime.engine import Outputs
from recog.training.adversarial import adversarial_loss, as_pixels, ascend
from recog.training.config import AdversarialConfig, Precision
from recog.training.device import (
    autocast,
    describe_parts,
    is_out_of_memory,
    more_parts,
    move,
    release_memory,
)
from recog.training.device import eval_mode as eval_mode
from recog.training.distributed import World, gather_rows, seed_own_chance, sums, synchronised
from recog.training.state import TrainState
from recog.training.threat import Threat

MAX_NAMES = 8  # of a batch's images, in a message; debug.log has them all
MAX_SKIPPED_IN_A_ROW = 10


@dataclass(frozen=True, kw_only=True)
class StepLog:
    epoch: int
    step: int  # since the start of training, from 1
    loss: float  # mean over the batch
    lr: float
    num_images: int
    grad_norm: float  # of all gradients together, before clipping
    notes: tuple[str, ...] = ()  # for the user


@dataclass(frozen=True, kw_only=True)
class SkippedStep:
    """A step that was skipped because its loss or gradient was not finite."""

    epoch: int
    step: int  # since the start of training, from 1
    reason: str
    names: tuple[str, ...]  # of the images in its batch

    def __str__(self) -> str:
        return f"warning: skipped a step: {self.reason}{describe_batch(self.names)}"


@dataclass(frozen=True, kw_only=True)
class EpochLog:
    epoch: int  # from 1
    train_loss: float  # mean over the epoch's steps, on augmented images
    num_images: int  # and the time they took: since the epoch began or was resumed
    train_s: float
    num_skipped: int = 0  # steps that were not taken


def fit(
    state: TrainState,
    loader: TrainLoader,
    lr_at: Callable[[int], float],
    *,
    epochs: int,
    is_over: Callable[[int], bool] = lambda num_steps_done: False,
) -> Iterator[StepLog | SkippedStep | EpochLog]:
    """Train `state` in place from its cursor on; stop early by ceasing to iterate.

    `is_over` is called after each step; where it returns True, training ends and the epoch counts as ended.

    A loss or gradient that is not finite raises TrainingError before the optimiser's step, or skips the step, by
    `state.on_nonfinite`; either names the images of the batch.
    """
    for epoch in range(state.epoch, epochs):
        was_over = state.num_steps_done > 0 and is_over(state.num_steps_done)
        if was_over and not state.step:
            return
        _freeze_body(state, epoch)
        num_images = 0
        started = time.perf_counter()
        for images, targets in () if was_over else loader.batches(epoch, first_step=state.step):
            seed_own_chance(state.world, seed=loader.seed, step=state.num_steps_done)
            statistics = _statistics(state)
            try:
                log = train_step(state, images, targets, lr=lr_at(state.num_steps_done))
            except NotFiniteError as error:
                yield _skip(state, str(error), loader.names_at(epoch, state.step), statistics)
                continue
            num_images += log.num_images
            yield log
            if is_over(state.num_steps_done):
                break
        if not state.step:
            raise TrainingError(f"epoch {epoch + 1} has no steps; the training split or the batch is empty.")
        train_loss, num_skipped = state.epoch_loss / max(1, state.step - state.skipped_in_epoch), state.skipped_in_epoch
        state.epoch, state.step, state.epoch_loss, state.skipped_in_epoch = epoch + 1, 0, 0.0, 0
        yield EpochLog(
            epoch=epoch + 1,
            train_loss=train_loss,
            num_images=num_images,
            train_s=time.perf_counter() - started,
            num_skipped=num_skipped,
        )


def train_step(state: TrainState, images: torch.Tensor, targets: torch.Tensor, *, lr: float) -> StepLog:
    """One step on images uint8 [B, H, W, C] and labels int64 [B], or targets float32 [B, K].

    The batch is processed in `state.accumulation` parts, each weighted by its share of the batch's loss, so that loss and
    gradient are those of the whole batch (except for BatchNorm's statistics); in twice as many parts from the first time
    that memory runs out. If several processes train, each is given its share of the batch. NotFiniteError, before the
    optimiser's step, if loss or gradient is not finite.
    """
    _set_modes(state)
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
    value, notes = _compute_gradients_within_memory(state, images, targets)
    _check_finite(state, "loss", value, lr=lr)
    state.scaler.unscale_(state.optimizer)
    gradients = [p.grad for p in state.classifier.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if not state.scaler.is_enabled():  # which expects such gradients, and skips the step and lowers its scale
        _check_finite(state, "gradient's norm", norm.item(), lr=lr)
    if state.max_grad_norm is not None:
        nn.utils.clip_grads_with_norm_(state.classifier.parameters(), state.max_grad_norm, norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.num_steps_done, state.step, state.epoch_loss, state.skipped_in_a_row = (
        state.num_steps_done + 1,
        state.step + 1,
        state.epoch_loss + value,
        0,
    )
    if state.ema is not None:
        state.ema.update(state.classifier, step=state.num_steps_done)
    (num_images,) = sums(state.world, [len(targets)])
    return StepLog(
        epoch=state.epoch + 1,
        step=state.num_steps_done,
        loss=value,
        lr=lr,
        num_images=int(num_images),
        grad_norm=norm.item(),
        notes=notes,
    )


def _compute_gradients_within_memory(
    state: TrainState, images: torch.Tensor, targets: torch.Tensor
) -> tuple[float, tuple[str, ...]]:
    """The loss of the batch, and a note if memory ran out and it took more parts."""
    chance = torch.get_rng_state()
    notes: tuple[str, ...] = ()
    while True:
        try:
            return _compute_gradients(state, images, targets), notes
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if state.world.size > 1:  # the other processes are in the middle of the step and cannot repeat it
                raise TrainingError(
                    f"out of memory with the {len(images)} images per step of process {state.world.rank}. Process a batch in "
                    f"parts: --set optim.accumulation={2 * state.accumulation}, with a --batch-size smaller in proportion."
                ) from None
        # after the except block, which holds the failed step's tensors
        state.optimizer.zero_grad(set_to_none=True)
        release_memory(state.classifier.device)
        state.accumulation = more_parts(state.accumulation, len(images), planned=state.planned_accumulation)
        notes = (describe_parts(state.accumulation, state.classifier),)
        torch.set_rng_state(chance)


def _compute_gradients(state: TrainState, images: torch.Tensor, targets: torch.Tensor) -> float:
    state.optimizer.zero_grad(set_to_none=True)
    (total_weight,) = sums(state.world, [state.loss.total_weight(targets)])
    value = 0.0
    num_parts = min(state.accumulation, len(images))
    parts = list(zip(images.chunk(num_parts), targets.chunk(num_parts), strict=True))
    for number, (part, part_targets) in enumerate(parts, start=1):
        is_last = number == len(parts)
        with synchronised(state.parallel, is_last_part=is_last):
            loss = _loss(state, part, part_targets) * (state.loss.total_weight(part_targets) / total_weight)
            value += loss.item()
            if is_last:
                (value,) = sums(state.world, [value])
                if not math.isfinite(value):
                    break  # in all processes alike; there is no gradient
            # the processes' gradients are averaged, and it is their sum that is the whole batch's
            state.scaler.scale(loss * state.world.size).backward()  # type: ignore[no-untyped-call]
    return value


class NotFiniteError(TrainingError):
    """A loss or gradient is not finite; its step changed nothing."""


def _check_finite(state: TrainState, what: str, value: float, *, lr: float) -> None:
    if not math.isfinite(value):
        raise NotFiniteError(
            f"the {what} is {value} at epoch {state.epoch + 1}, step {state.num_steps_done + 1} (learning rate {lr:.3g}); "
            "the step was not taken and no bundle was written. A lower learning rate usually helps: "
            f"--set optim.lr={lr / 10:.2g}."
        )


def _statistics(state: TrainState) -> list[torch.Tensor]:
    """BatchNorm's statistics before a step that may be skipped, whose forward pass changes them."""
    return [buffer.clone() for buffer in state.classifier.buffers()] if state.on_nonfinite == "skip" else []


def _skip(state: TrainState, reason: str, names: tuple[str, ...], statistics: list[torch.Tensor]) -> SkippedStep:
    """Skip a step; TrainingError if the policy is to stop, or after too many skipped steps in a row."""
    if state.on_nonfinite == "stop":
        raise TrainingError(f"{reason}{describe_batch(names)}")
    state.skipped_in_a_row, state.skipped_in_epoch = state.skipped_in_a_row + 1, state.skipped_in_epoch + 1
    if state.skipped_in_a_row > MAX_SKIPPED_IN_A_ROW:
        raise TrainingError(f"{MAX_SKIPPED_IN_A_ROW} steps in a row were skipped, and now {reason}")
    state.num_steps_done, state.step, state.num_skipped = (
        state.num_steps_done + 1,
        state.step + 1,
        state.num_skipped + 1,
    )
    state.optimizer.zero_grad(set_to_none=True)
    for buffer, before in zip(state.classifier.buffers(), statistics, strict=True):
        buffer.copy_(before)
    return SkippedStep(epoch=state.epoch + 1, step=state.num_steps_done, reason=reason, names=names)


def describe_batch(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f" The batch contains {', '.join(names[:MAX_NAMES])}{more}."


def _freeze_body(state: TrainState, epoch: int) -> None:
    """Only the head learns in the first `freeze_epochs` epochs; frozen layers are in no parameter group."""
    if state.freeze_epochs:
        head = {id(parameter) for parameter in state.classifier.classifier.parameters()}
        for group in state.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(epoch >= state.freeze_epochs or id(parameter) in head)


def _set_modes(state: TrainState) -> None:
    """Training mode, except BatchNorm whose statistics are frozen: all of them, or those of which nothing is trained."""
    state.classifier.train()
    for module in state.classifier.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            parameters = list(module.parameters())
            frozen = bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
            module.train(not (frozen or state.freeze_batch_norm))


def _loss(state: TrainState, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    device = state.classifier.device
    network = state.classifier if state.parallel is None else state.parallel
    images, targets = move(images, device), move(targets, device)
    with autocast(device, state.precision):
        if state.adversarial is not None:
            config = state.adversarial.at(state.num_steps_done, state.num_adversarial_warmup_steps)
            return adversarial_loss(network, state.classifier, state.loss, images, targets, config)
        logits, _ = network(images)
    return state.loss(logits.float(), targets)


def attacked_logits(classifier: Classifier, images: Rows, targets: Targets, state: TrainState) -> NDArray[np.float32]:
    """Logits [N, K] on `images` uint8 [N, H, W, C] under ten steps of PGD against `targets`, without a random start.

    Epochs of adversarial training are chosen by them: after one-step training a network may resist one step and nothing else.
    """
    config = state.adversarial or AdversarialConfig()
    threat, logits = Threat(norm="linf", eps=config.eps), []
    mine = range(len(images))[share(len(images), state.world.rank, state.world.size)]
    for start in range(mine.start, mine.stop, 64):
        rows = slice(start, min(start + 64, mine.stop))
        pixels = as_pixels(move(as_tensor(images[rows]), classifier.device))
        wanted = move(torch.from_numpy(np.asarray(targets[rows])), classifier.device)
        raised = partial(state.loss, targets=wanted)
        with eval_mode(classifier), autocast(classifier.device, state.precision):
            changed = ascend(classifier, pixels, pixels, raised, threat, num_steps=10, size=config.eps / 4)
            with torch.no_grad():
                logits.append(classifier.forward_pixels(changed)[0].float().cpu())
    return gather_rows(state.world, torch.cat(logits), len(images)).numpy()


def collect_logits(
    classifier: Classifier,
    images: Rows,
    *,
    precision: Precision,
    batch_size: int = 64,
    world: World | None = None,
) -> Outputs:
    """Outputs for `images` uint8 [N, H, W, C] in evaluation mode; the classifier's mode is restored.

    Each process of `world` runs its share, and all receive the whole.
    """
    if world is None or len(images) < world.size:
        world = World()
    mine = range(len(images))[share(len(images), world.rank, world.size)]
    logits, features = [], []
    with eval_mode(classifier), torch.inference_mode(), autocast(classifier.device, precision):
        for start in range(mine.start, mine.stop, batch_size):
            batch = move(as_tensor(images[start : min(start + batch_size, mine.stop)]), classifier.device)
            batch_logits, batch_features = classifier(batch)
            logits.append(batch_logits.float().cpu())
            features.append(batch_features.float().cpu())
        return Outputs(
            logits=gather_rows(world, torch.cat(logits), len(images)).numpy(),
            features=gather_rows(world, torch.cat(features), len(images)).numpy(),
        )
