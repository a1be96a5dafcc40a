"""What training keeps between its steps, so that a run that ends before its time goes on as if it had not."""

from __future__ import annotations

import contextlib
import copy
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import FrameType, TracebackType
from typing import Any, NoReturn

import torch
from safetensors.torch import load, save

from recog.core.errors import TrainingStopped
from recog.models.classifier import Classifier
from recog.training.checkpoint import Checkpoints
from recog.training.distributed import World, any_of, broadcast, broadcast_bytes
from recog.training.fit import EpochLog
from recog.training.nested import flatten_state, unflatten_state
from recog.training.state import TrainState, restore_snapshot, take_snapshot

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}  # 128 + the signal's number, as a shell reports it

Rank = tuple[float, float]  # (val accuracy, minus val NLL): of two epochs the greater is better


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Where a run's state is kept, by the process that writes, and the one to go on from; None begins at the first step."""

    checkpoints: Checkpoints | None = None
    state: Mapping[str, Any] | None = None

    @property
    def cursor(self) -> tuple[int, int]:
        """(epochs, steps) that were done and measured, counted from the run's beginning."""
        if self.state is None:
            return 0, 0
        cursor, progress = self.state["training"]["cursor"], self.state["progress"]
        return cursor["epoch"] - (progress["unmeasured"] is not None), cursor["num_steps_done"]


def shared(world: World, kept: Kept) -> Kept:
    """The state that process 0 goes on from, in all processes."""
    if world.size == 1:
        return kept
    tensors, values = ({}, None) if kept.state is None else flatten_state(kept.state)
    values = broadcast(world, values)
    data = broadcast_bytes(world, save(tensors) if world.is_writer else b"")
    return Kept(checkpoints=kept.checkpoints, state=None if values is None else unflatten_state(load(data), values))


@dataclass(kw_only=True)
class Progress:
    """What has been found out so far, beside the state that training changes."""

    best_rank: Rank
    best_weights: dict[str, torch.Tensor]
    best_epoch: int = 0  # from 1; 0: the weights that training began with
    measured: list[float] = field(default_factory=list)  # by early stopping's measure, after each epoch
    unmeasured: EpochLog | None = None  # an epoch that has ended, and is not measured yet

    @classmethod
    def begin(cls, rank: Rank, classifier: Classifier) -> Progress:
        return cls(best_rank=rank, best_weights=copy.deepcopy(classifier.state_dict()))

    def offer(self, rank: Rank, answering: Classifier) -> bool:
        """Keep the weights of `answering` where `rank` is the best so far; whether it is."""
        is_best = rank > self.best_rank
        if is_best:
            self.best_rank, self.best_weights = rank, copy.deepcopy(answering.state_dict())
            self.best_epoch = len(self.measured) + 1
        return is_best

    def close_epoch(self, measure: float) -> None:
        self.measured.append(measure)
        self.unmeasured = None

    def to_state(self) -> dict[str, Any]:
        log = None if self.unmeasured is None else asdict(self.unmeasured)
        return {
            "best_rank": self.best_rank,
            "best_weights": self.best_weights,
            "best_epoch": self.best_epoch,
            "measured": self.measured,
            "unmeasured": log,
        }

    @classmethod
    def from_state(cls, saved: Mapping[str, Any]) -> Progress:
        log = saved["unmeasured"]
        return cls(**{**saved, "unmeasured": None if log is None else EpochLog(**log)})


class Keeper:
    """Keeps a run between two of its steps, and ends it there, in all processes, where one of them is asked to stop."""

    def __init__(self, kept: Kept, world: World) -> None:
        self._kept = kept
        self._world = world
        self._stop = StopSignal()

    def take_up(self, state: TrainState) -> Progress | None:
        """Put what was kept into `state`, and give the progress that it had made; None where nothing was."""
        if self._kept.state is None:
            return None
        restore_snapshot(state, self._kept.state["training"])
        return Progress.from_state(self._kept.state["progress"])

    def keep(self, state: TrainState, progress: Progress, *, epoch_ended: bool = False) -> None:
        """To be called after each step and each epoch. TrainingStopped, after saving, where a stop was asked for."""
        asked = any_of(self._world, self._stop.asked is not None)
        checkpoints = self._kept.checkpoints
        if checkpoints is not None and (asked or checkpoints.is_due(state.num_steps_done, epoch_ended=epoch_ended)):
            kept = {"training": take_snapshot(state), "progress": progress.to_state()}
            checkpoints.save(kept, epoch=state.epoch, step=state.step)
        if asked:
            self._end(state)

    def _end(self, state: TrainState) -> NoReturn:
        checkpoints, signal = self._kept.checkpoints, self._stop.asked
        run = broadcast(self._world, None if checkpoints is None else str(checkpoints.run))
        kept = "" if run is None else f"; everything up to there is kept. To go on: recog train --resume {run}"
        raise TrainingStopped(
            f"stopped by {signal.name if signal else 'another process'} after step {state.num_steps_done}{kept}",
            exit_code=EXIT_CODES[signal] if signal else TrainingStopped.exit_code,
        )

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within the block, SIGINT and SIGTERM wait for the next `keep`."""
        with self._stop:
            yield

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A block that changes nothing, left by StopAsked at once where a stop is asked for; the next `keep` ends the run.

        Several processes stay together to its end.
        """
        if self._world.size > 1:
            yield
            return
        with self._stop.at_once():
            yield


class StopAsked(Exception):  # noqa: N818  caught by the training loop, which then keeps what it has
    """Raised within `StopSignal.at_once` where a stop is asked for."""


class StopSignal:
    """While entered, the first SIGINT or SIGTERM is noted in `asked`; a second SIGINT raises KeyboardInterrupt at once.

    Outside the main thread, where Python takes no signals, it notes nothing.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._at_once = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise StopAsked within the block, which changes nothing that would have to be kept, instead of waiting for its end."""
        self._at_once = True
        try:
            if self.asked is not None:
                raise StopAsked
            yield
        finally:
            self._at_once = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = self.asked or signal.Signals(number)
        if self._at_once:
            self._at_once = False  # once: the way out must not be interrupted by a second SIGTERM
            raise StopAsked
