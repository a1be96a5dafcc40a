"""Trials whose process was killed, or fell silent on another machine: noticing them, and queuing them again."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recog.core.text import visible
from recog.recipes.cost import describe_seconds

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

HEARTBEAT_S, GRACE_S = (
    30,
    120,
)  # between signs of life; a process elsewhere that was silent for so long has lost its trial
MAX_KILLS = 2  # of a trial's process, after which it is not run again
OWNER, SIGN_OF_LIFE, KILLS = "owner", "sign_of_life", "kills"  # the trial's attributes


def owner() -> str:
    """This process: its machine, number, and the time at which it began, as numbers are used again."""
    return f"{_host()}/{os.getpid()}/{_start_of(os.getpid())}"


def _host() -> str:
    """This machine, and in it the container, which has numbers of processes of its own."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{socket.gethostname()} {namespace}"


def _start_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_gone(trial: FrozenTrial) -> bool:
    """Whether the process that ran `trial` was one of this machine and has ended."""
    text = str(trial.user_attrs.get(OWNER, "//"))
    host, _, rest = text.rpartition("/")[0].rpartition("/")
    start = text.rpartition("/")[2]
    if host != _host() or not rest.isdigit():
        return False
    return _start_of(int(rest)) != start if os.path.isdir("/proc") else not _is_alive(int(rest))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def kept_alive(trial: optuna.Trial) -> Iterator[None]:
    """A block in which this process runs `trial`, which other processes see by its attributes.

    In a journal they see when it last gave a sign of life; in a database Optuna keeps that itself.
    """
    import optuna

    trial.set_user_attr(OWNER, owner())
    if not isinstance(trial.storage, optuna.storages.JournalStorage):
        yield
        return
    trial.set_user_attr(SIGN_OF_LIFE, time.time())
    ended = threading.Event()

    def give_signs() -> None:
        while not ended.wait(HEARTBEAT_S):
            try:
                trial.set_user_attr(SIGN_OF_LIFE, time.time())
            except (OSError, optuna.exceptions.UpdateFinishedTrialError):
                continue  # a full disk or a trial that another process took over is found where scores are written

    thread = threading.Thread(target=give_signs, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def requeue(study: optuna.Study) -> list[str]:
    """Queue the trials again whose process ended without a result, and say which: of this machine, or one that fell silent."""
    import optuna

    running, failed = optuna.trial.TrialState.RUNNING, optuna.trial.TrialState.FAIL
    before = study.get_trials(deepcopy=False, states=(running,))
    for trial in before:
        if _is_gone(trial) or _silent_s(trial) > GRACE_S:
            try:
                study.tell(trial.number, state=failed)
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                continue  # it has just ended, or another process was faster
            run_again(study, trial)
    optuna.storages.fail_stale_trials(study)  # of a database
    if not before:
        return []
    after = {trial.number: trial for trial in study.get_trials(deepcopy=False, states=(failed,))}
    return [
        f"trial {trial.number} ended without a result, as its process on {_machine(trial)} was killed or fell silent; it runs "
        "again unless that was so before"
        for trial in before
        if trial.number in after and "reason" not in after[trial.number].user_attrs
    ]


def describe_running(study: optuna.Study) -> list[str]:
    """The trials that other processes run, and how long those of other machines have given no sign of life."""
    import optuna

    return [
        f"trial {trial.number} is run by a process on {_machine(trial)}"
        + (f", silent for {describe_seconds(silent_s)}" if (silent_s := _silent_s(trial)) > HEARTBEAT_S else "")
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    ]


def _silent_s(trial: FrozenTrial) -> float:
    """Seconds since the last sign of life, by the clocks of both machines; 0 where none are given, and of this machine's own
    processes, which may only have been suspended with it.
    """
    if _host_of(trial) == _host():
        return 0.0
    return max(0.0, time.time() - float(trial.user_attrs.get(SIGN_OF_LIFE, math.inf)))


def _host_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(OWNER, "//")).rpartition("/")[0].rpartition("/")[0]


def _machine(trial: FrozenTrial) -> str:
    return visible(_host_of(trial).partition(" ")[0] or "an unknown machine")


def run_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial whose process was killed; one that was killed MAX_KILLS times has failed, as it may be what kills them."""
    import optuna

    kills = trial.user_attrs.get(KILLS, 0) + 1
    if kills < MAX_KILLS:
        queue_again(study, trial, kills=kills)
        return
    reason = f"its process was killed {kills} times, perhaps for lack of memory"
    kept: dict[str, Any] = {key: trial.user_attrs[key] for key in ("default", "recipe") if key in trial.user_attrs}
    study.add_trial(
        optuna.create_trial(
            state=optuna.trial.TrialState.FAIL,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**kept, "reason": reason},
        )
    )


def queue_again(study: optuna.Study, trial: FrozenTrial | optuna.Trial, *, kills: int = 0) -> None:
    """Queue a trial with the settings of `trial`, which ended without a result, as its process had for the `kills`th time."""
    kept = {key: trial.user_attrs[key] for key in ("default",) if key in trial.user_attrs}
    study.enqueue_trial(trial.params, user_attrs={"again": trial.number, KILLS: kills, **kept})
