"""Training batches: one order per (seed, epoch), augmented here or in worker processes, the same either way."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from recog.core.chance import permutation, uniforms
from recog.core.errors import ConfigError, DataError
from recog.data.augment.batch import MIX_COINS, augment_batch, mix, soft_targets
from recog.data.augment.geometry import shrink
from recog.data.augment.policies import AugmentConfig
from recog.data.balance import balanced_draws, check_sampler
from recog.data.dataset import Targets
from recog.data.store import Images
from recog.evaluation.measures.task import task_of

logger = logging.getLogger(__name__)


def share(num_rows: int, rank: int, num_ranks: int) -> slice:
    """The rows of process `rank`: all processes' shares are the rows in order, and differ by one row at most in length."""
    return slice(num_rows * rank // num_ranks, num_rows * (rank + 1) // num_ranks)


@dataclass(frozen=True, kw_only=True)
class TrainLoader:
    """Batches of `store` for an epoch and from a step on, in the order of (seed, epoch).

    `targets` are labels int64 [N], or zeros and ones float32 [N, K].

    The last batch of an epoch is left out when it is not full, so that every step has the same weight; the next epoch's
    order is another one. With fewer images than a batch, the batch is all of them. Where several processes train together,
    each is given its `share` of the same batches.
    """

    store: Images
    targets: Targets
    augment: AugmentConfig
    image_size: tuple[int, int]
    batch_size: int
    seed: int
    num_workers: int = 0
    num_classes: int | None = None  # by default, one more than the largest label, or K
    balanced: bool = False  # draw every class equally often
    rank: int = 0
    num_ranks: int = 1
    pin_memory: bool = False  # for a GPU, which then fetches a batch while the one before is at work
    names: Sequence[str] = ()  # of the images, for messages
    num_small_steps: int = 0  # the first ones of all epochs, whose images have `small_size`
    small_size: tuple[int, int] = (0, 0)  # (height, width)

    def __post_init__(self) -> None:
        if not len(self.store):
            raise DataError("the training split is empty; there is nothing to learn from.")
        if self.balanced:
            check_sampler(task_of(self.targets).task)
        if self.images_per_step < self.num_ranks:
            raise ConfigError(
                f"a step takes {self.images_per_step} images (loader.batch_size is {self.batch_size}, of "
                f"{len(self.store)} training images) for {self.num_ranks} processes; each needs one or more. Raise "
                "loader.batch_size, which counts the images of all processes together, or start fewer processes."
            )

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.store) // self.batch_size)

    @property
    def images_per_step(self) -> int:
        """Of all processes together."""
        return min(self.batch_size, len(self.store))

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(images uint8 [B, H, W, C], targets int64 [B] or float32 [B, K]) of this process for the steps from `first_step` on.

        They are augmented at `image_size`, and shrunk to `small_size` for the first steps.
        Where images are mixed, soft targets float32 [B, K] stand in place of the labels.
        """
        loaded = batches_with_restarts(
            partial(self._load, epoch), first_step=first_step, num_steps=self.steps_per_epoch
        )
        for step, (images, targets, pid) in loaded:
            logger.debug("epoch %d step %d: batch made by process %d", epoch, step, pid)
            yield images, targets

    def _load(self, epoch: int, first_step: int) -> DataLoader[tuple[torch.Tensor, torch.Tensor, int]]:
        steps = _EpochSteps(self, epoch, first_step)
        # batch_size=None: an element of `steps` is a whole batch, so that a worker augments it in one go
        return DataLoader(
            steps,
            batch_size=None,
            sampler=SequentialSampler(steps),
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            timeout=POLL_S if self.num_workers else 0,
            generator=torch.Generator(),  # else the workers' seeds, which nothing uses, are drawn from dropout's generator
        )

    def batch(self, epoch: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """As `batches`, the one of `step` alone, made by this process; the last one's where the epoch has no such step."""
        images, targets, _ = _EpochSteps(self, epoch, min(step, self.steps_per_epoch - 1))[0]
        return images, targets

    def names_at(self, epoch: int, step: int) -> tuple[str, ...]:
        """The names of the images in this process's batch at `step`, those that they are mixed with left out."""
        if not self.names:
            return ()
        batch = self.draws(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        mine = batch[share(len(batch), self.rank, self.num_ranks)] % len(self.store)
        return tuple(self.names[i] for i in mine.tolist())

    def draws(self, epoch: int) -> NDArray[np.int64]:
        """The draws of `epoch` in order, int64 [N]; draw n is image n % N."""
        if self.balanced:
            return balanced_draws(self.targets.astype(np.int64), self.class_count, seed=self.seed, epoch=epoch)
        return permutation(self.seed, epoch, len(self.store))

    @property
    def class_count(self) -> int:
        return self.num_classes or task_of(self.targets).class_count(self.targets)


class _EpochSteps(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    def __init__(self, loader: TrainLoader, epoch: int, first_step: int) -> None:
        self._loader = loader
        self._epoch = epoch
        self._first_step = first_step
        self._order = loader.draws(epoch)
        self._partners: NDArray[np.int64] | None = None
        if loader.augment.strengths.mixup or loader.augment.strengths.cutmix:
            self._partners = permutation(loader.seed, epoch, len(loader.store), "partners")

    def __len__(self) -> int:
        return self._loader.steps_per_epoch - self._first_step

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        loader = self._loader
        start = (self._first_step + item) * loader.batch_size
        batch = self._order[start : start + loader.images_per_step]
        draws = batch[share(len(batch), loader.rank, loader.num_ranks)]
        images = self._augment(draws)
        own = loader.targets[draws % len(loader.store)]
        if self._partners is None:
            return self._sized(images, item), torch.from_numpy(own), os.getpid()
        partners = self._partners[draws % len(loader.store)]
        strengths = loader.augment.strengths
        coins = uniforms(loader.seed, self._epoch, draws, "mix", MIX_COINS)
        mixed, weights = mix(images, self._augment(partners), coins, mixup=strengths.mixup, cutmix=strengths.cutmix)
        targets = soft_targets(own, loader.targets[partners], weights, loader.class_count)
        return self._sized(mixed, item), targets, os.getpid()

    def _sized(self, images: torch.Tensor, item: int) -> torch.Tensor:
        loader = self._loader
        step = self._epoch * loader.steps_per_epoch + self._first_step + item
        return images if step >= loader.num_small_steps else shrink(images, loader.small_size)

    def _augment(self, draws: NDArray[np.int64]) -> torch.Tensor:
        """uint8 [B, H, W, C]: the same for the same draw, whether it is asked for as an image or as a partner."""
        loader = self._loader
        return augment_batch(
            loader.store,
            draws,
            loader.augment,
            image_size=loader.image_size,
            seed=loader.seed,
            epoch=self._epoch,
        )


logger = logging.getLogger(__name__)

MAX_RESTARTS = 3  # of an epoch; what fails four times will fail again
HANG_S = 60.0  # without a batch; then its worker hangs
POLL_S = 5.0  # the loader's timeout, after which it looks whether its workers live
_WAITS = "DataLoader timed out"
_LOST = ("DataLoader worker (pid", "Pin memory thread exited")  # as torch's messages begin


class _LostWorker(Exception):  # noqa: N818  caught here
    pass


def batches_with_restarts(
    load: Callable[[int], DataLoader[Any]], *, first_step: int, num_steps: int
) -> Iterator[tuple[int, Any]]:
    """(step, batch) of `load(step)`, which gives the batches from `step` on, for the steps from `first_step` to `num_steps`.

    Where a worker process dies or hangs, all are started anew from the step that is missing: as batches are functions of
    their step, nothing is lost or changed by it. DataError after three times.
    """
    step, restarts = first_step, 0
    while step < num_steps:
        try:
            for batch in _watched(load(step)):
                yield step, batch
                step += 1
        except _LostWorker as error:
            restarts += 1
            if restarts > MAX_RESTARTS:
                raise DataError(
                    f"the loader's processes were lost {restarts} times ({error}). Where memory or /dev/shm is used up, fewer "
                    "of them help: --workers 0 loads without any."
                ) from None
            logger.warning("warning: data loader processes failed (%s); restarting them at step %d", error, step + 1)


def _watched(loader: DataLoader[Any]) -> Iterator[Any]:
    """The loader's batches; _LostWorker where a worker is gone, or none has given a batch for 60 seconds."""
    if not loader.num_workers:
        yield from loader
        return
    with _without_torch_s_handler():
        batches = iter(loader)
    waited = 0.0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (RuntimeError, OSError, EOFError) as error:
            lost = _reason(error)
            if lost is None:
                raise
            waited += loader.timeout
            if lost == _WAITS and waited < HANG_S:
                continue  # asked again, the iterator waits on
        else:
            waited = 0.0
            yield batch
            continue
        raise _LostWorker(f"no batch for {HANG_S:.0f} s" if lost == _WAITS else lost)


def _reason(error: Exception) -> str | None:
    """How a worker was lost, by the error that asking for a batch raised; None where the error is of the data."""
    if isinstance(error, RuntimeError):
        message = str(error)
        if message.startswith(_WAITS):
            return _WAITS
        return message.splitlines()[0] if message.startswith(_LOST) else None
    # a batch comes through a connection to its worker; what fails within a worker is worded by torch
    return None if str(error).startswith("Caught ") else f"a process ended as it gave a batch ({type(error).__name__})"


@contextlib.contextmanager
def _without_torch_s_handler() -> Iterator[None]:
    """For the block that starts a loader, and from there on: torch's handler for a child's death is not installed.

    It raises in the main thread at any time, which may be in the middle of an optimiser's step. A lost process is noticed by
    asking for a batch, `POLL_S` later at most.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield  # there torch has no handler
        return
    before = signal.getsignal(signal.SIGCHLD)
    yield
    is_torch_s = getattr(before, "__module__", "").startswith("torch.")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL if is_torch_s else before)
