"""The state of a run between its steps: what a checkpoint holds, and how a signal stops training after one."""

from __future__ import annotations

import contextlib
import copy
import math
import operator
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import FrameType, TracebackType
from typing import Any, NoReturn

import torch
from safetensors.torch import load, save

from recog.core.errors import CheckpointError, TrainingStopped, one_line
from recog.evaluation.results.facts import CrossValidation
from recog.models.classifier import Classifier
from recog.training.checkpoint import Checkpoints, flatten_state, unflatten_state
from recog.training.distributed import World, any_of, broadcast, broadcast_bytes
from recog.training.fit import EpochLog
from recog.training.state import TrainState, restore_snapshot, take_snapshot

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}  # 128 + the signal's number, as a shell reports it

Rank = tuple[float, float]  # (val accuracy, minus val NLL): of two epochs the greater is better
RANDOM_START: Rank = (-1.0, 0.0)  # below every epoch: random weights can be better on few images by chance only


@dataclass(frozen=True, kw_only=True)
class ResumePoint:
    """Where a run's checkpoints are written, in the process that writes, and the state to continue from, if any."""

    checkpoints: Checkpoints | None = None
    state: Mapping[str, Any] | None = None

    @property
    def pruned(self) -> tuple[str, ...]:
        """The training images that the run leaves out for their labels."""
        if self.state is None:
            return ()
        with _checked_state():
            return tuple(map(str, self.state["pruned"]))

    @property
    def cursor(self) -> tuple[int, int]:
        """(epochs, steps) that were done and measured, counted from the start of training."""
        if self.state is None:
            return 0, 0
        with _checked_state():
            cursor, progress = self.state["training"]["cursor"], self.state["progress"]
            epochs, steps = operator.index(cursor["epoch"]), operator.index(cursor["num_steps_done"])
            return epochs - (progress["unmeasured"] is not None), steps


@contextlib.contextmanager
def _checked_state() -> Iterator[None]:
    """A block that reads a checkpoint's state: CheckpointError where it is not as `CheckpointKeeper.keep` wrote it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise CheckpointError(
            f"the checkpoint's state does not belong to this run ({type(error).__name__}: {one_line(error)}). Remove the "
            "folder checkpoints of the run to train from the first step."
        ) from None


def shared(world: World, resume: ResumePoint) -> ResumePoint:
    """The state of process 0, in all processes."""
    if world.size == 1:
        return resume
    tensors, values = ({}, None) if resume.state is None else flatten_state(resume.state)
    values = broadcast(world, values)
    data = broadcast_bytes(world, save(tensors) if world.is_writer else b"")
    return replace(resume, state=None if values is None else unflatten_state(load(data), values))


@dataclass(kw_only=True)
class Progress:
    """The best weights and the measures so far."""

    best_rank: Rank
    best_weights: dict[str, torch.Tensor]
    best_epoch: int = 0  # from 1; 0: the weights that training began with
    measured: list[float] = field(default_factory=list)  # by early stopping's measure, after each epoch
    unmeasured: EpochLog | None = None  # an epoch that has ended, and is not measured yet

    @classmethod
    def begin(cls, rank: Rank, classifier: Classifier) -> Progress:
        return cls(best_rank=rank, best_weights=copy.deepcopy(classifier.state_dict()))

    def update_best(self, rank: Rank, answering: Classifier) -> bool:
        """Keep the weights of `answering` if `rank` is the best so far; returns whether it is."""
        is_best = rank > self.best_rank
        if is_best:
            self.best_rank, self.best_weights = rank, copy.deepcopy(answering.state_dict())
            self.best_epoch = len(self.measured) + 1
        return is_best

    def close_epoch(self, measure: float) -> None:
        self.measured.append(measure)
        self.unmeasured = None

    def to_state(self) -> dict[str, Any]:
        return vars(self) | {"unmeasured": None if self.unmeasured is None else asdict(self.unmeasured)}

    @classmethod
    def from_state(cls, saved: Mapping[str, Any]) -> Progress:
        log = saved["unmeasured"]
        return cls(**{**saved, "unmeasured": None if log is None else EpochLog(**log)})


class CheckpointKeeper:
    """Saves a run between two steps, and stops it there, in all processes, if one of them is asked to stop."""

    def __init__(
        self,
        resume: ResumePoint,
        world: World,
        cross_validation: CrossValidation | None = None,
        *,
        pruned: tuple[str, ...] = (),
        deadline: float = math.inf,
    ) -> None:
        """`cross_validation` is that of the head that was fitted first; a resumed run has it from its checkpoint.

        `pruned` are the names of training images that are left out for their labels. `deadline` is when training has to end, in
        seconds of time.perf_counter.
        """
        with _checked_state():
            saved = None if resume.state is None else resume.state["cross_validation"]
            self.cross_validation = cross_validation if saved is None else CrossValidation(**saved)
        self.world, self.deadline, self.pruned = world, deadline, pruned
        self._resume = resume
        self._stop = StopSignal()

    def restore(self, state: TrainState) -> Progress | None:
        """Restore `state` from the checkpoint and return the progress so far; None if there is no checkpoint."""
        if self._resume.state is None:
            return None
        with _checked_state():
            restore_snapshot(state, self._resume.state["training"])
            return Progress.from_state(self._resume.state["progress"])

    def keep(self, state: TrainState, progress: Progress, *, epoch_ended: bool = False) -> None:
        """To be called after each step and each epoch. TrainingStopped, after saving, if a stop was requested."""
        asked = any_of(self.world, self._stop.asked is not None)
        checkpoints = self._resume.checkpoints
        if checkpoints is not None and (asked or checkpoints.is_due(state.num_steps_done, epoch_ended=epoch_ended)):
            saved = {
                "training": take_snapshot(state),
                "progress": progress.to_state(),
                "cross_validation": None if self.cross_validation is None else asdict(self.cross_validation),
                "pruned": list(self.pruned),
            }
            checkpoints.save(saved, epoch=state.epoch, step=state.step)
        if asked:
            self._end(state)

    def _end(self, state: TrainState) -> NoReturn:
        checkpoints, signal = self._resume.checkpoints, self._stop.asked
        run = broadcast(self.world, None if checkpoints is None else str(checkpoints.run))
        to_resume = (
            ""
            if run is None
            else f"; everything so far is saved. To resume: recog train --resume {shlex.quote(str(run))}"
        )
        raise TrainingStopped(
            f"stopped by {signal.name if signal else 'another process'} after step {state.num_steps_done}{to_resume}",
            exit_code=EXIT_CODES[signal] if signal else TrainingStopped.exit_code,
        )

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within the block, SIGINT and SIGTERM take effect at the next `keep`."""
        with self._stop:
            yield

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A block without side effects, which StopAsked leaves at once if a stop is requested; the next `keep` ends the run.

        Several processes finish it together.
        """
        if self.world.size > 1:
            yield
            return
        with self._stop.at_once():
            yield


class StopAsked(Exception):  # noqa: N818  caught by the training loop, which then saves a checkpoint
    """Raised within `StopSignal.at_once` if a stop is requested."""


class StopSignal:
    """While entered, the first SIGINT or SIGTERM is noted in `asked`; a second SIGINT raises KeyboardInterrupt at once.

    Does nothing outside the main thread, where Python handles no signals.
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
        """Raise StopAsked within the block, which has no side effects, instead of waiting for its end."""
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
