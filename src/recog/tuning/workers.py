"""Several processes of this machine on one study."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import BrokenBarrierError
from typing import TYPE_CHECKING

from recog.core.errors import RecogError, TrainingError
from recog.core.parallel import end_with_parent
from recog.recipes.prepare import PreparedData
from recog.tuning.search import Rules, Search, Watch, unwatched
from recog.tuning.storage import StudyFacts, TrialRow, open_storage, open_study, quiet_optuna, rows_of
from recog.tuning.trials import TrialRunner

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

    import optuna

POLL_S = 0.25
START_S = 60.0  # that a process waits for the others
FEATURES = "features"  # in the study's folder


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """All that a process needs to take part in a study."""

    where: str  # the storage
    name: str
    folder: Path
    facts: StudyFacts
    rules: Rules
    data: PreparedData  # without the test split
    out_of_fold: bool
    num_workers: int = 1

    def runner(self) -> TrialRunner:
        folder, is_shared = self.folder / FEATURES, self.num_workers > 1
        return TrialRunner(self.data, folder, out_of_fold=self.out_of_fold, is_shared=is_shared)


def run_in_processes(job: Job, study: optuna.Study, *, watch: Watch = unwatched) -> Iterator[TrialRow]:
    """Run the study in `job.num_workers` processes; each row as its trial ends. The error of one of them ends all.

    `watch` is told of the trials that run.
    """
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    known = {row.number for row in rows_of(study, job.rules.space) if row.state in ("done", "pruned", "failed")}
    together, pipes, processes = context.Barrier(job.num_workers), [], []
    with _threads(job.rules.config.compute.num_threads):
        for _ in range(job.num_workers):
            ours, theirs = context.Pipe(duplex=False)
            processes.append(context.Process(target=_work, args=(job, theirs, together), daemon=True))
            pipes.append(ours)
            processes[-1].start()
    try:
        is_over = False
        while not is_over:
            is_over = not any(process.is_alive() for process in processes)
            rows = rows_of(study, job.rules.space)
            watch([row for row in rows if row.state == "running"])
            for row in rows:
                if row.number not in known and row.state in ("done", "pruned", "failed"):
                    known.add(row.number)
                    yield row
            for process, pipe in zip(processes, pipes, strict=True):
                _raise_error(process.exitcode, pipe)
            if not is_over:
                time.sleep(POLL_S)
    finally:
        for process in processes:
            process.terminate()
            process.join()


@contextlib.contextmanager
def _threads(num_threads: int | None) -> Iterator[None]:
    """The environment of processes that are started: each uses its share of the cores."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(num_threads or 1)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _raise_error(exit_code: int | None, pipe: Connection) -> None:
    if exit_code in (None, 0):
        return
    with contextlib.suppress(EOFError, OSError):
        if pipe.poll():
            raise _OtherError(*pipe.recv())
    raise TrainingError(
        f"a worker of the study ended with exit code {exit_code}; finished trials are kept, and the study can be resumed."
    )


class _OtherError(RecogError):
    """The error of another process."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _work(job: Job, pipe: Connection, together: Barrier) -> None:
    """The part of one process, from its start to its end. All begin `together`, however long each takes to load torch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the parent ends its processes
    end_with_parent()
    try:
        with quiet_optuna():
            study = open_study(open_storage(job.where), job.name, job.facts, where=job.where)
            search = Search(study, job.runner(), job.rules, job.data)
            with contextlib.suppress(BrokenBarrierError):
                together.wait(timeout=START_S)
            for _ in search.trials():
                pass
    except RecogError as error:
        pipe.send((str(error), error.exit_code))
        raise SystemExit(1) from None
