"""Loader processes that may be killed or hang: noticed, and started anew where they were, a few times."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from recog.core.errors import DataError

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
