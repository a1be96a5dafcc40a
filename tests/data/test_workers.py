"""Loader processes that are killed or hang (T4): the batches are the same, and after three restarts there is a clear error."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import signal
import time

import pytest
import torch
from small_training import hash_of, loader, lr_at, made
from torch.utils.data import DataLoader, Dataset

from recog.core.errors import DataError
from recog.data import loader as module
from recog.data.loader import batches_with_restarts
from recog.training.fit import StepLog, fit

pytestmark = pytest.mark.slow


class Numbers(Dataset):
    """Item i is first + i; `harm` may do something to the process that makes it."""

    def __init__(self, first, count, harm=None):
        self.first, self.count, self.harm = first, count, harm

    def __len__(self):
        return self.count - self.first

    def __getitem__(self, item):
        if self.harm is not None:
            self.harm(self.first + item)
        return torch.tensor(self.first + item)


def steps_of(count, harm=None, *, first=0, num_workers=1):
    def load(step):
        timeout = 0.5 if num_workers else 0
        return DataLoader(Numbers(step, count, harm), batch_size=None, num_workers=num_workers, timeout=timeout)

    return batches_with_restarts(load, first_step=first, num_steps=count)


def once(path, deed):
    """Do `deed` where `path` does not exist yet, and make it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    deed()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_without_harm_it_is_the_loader(num_workers):
    found = [(step, int(batch)) for step, batch in steps_of(6, first=2, num_workers=num_workers)]
    assert found == [(2, 2), (3, 3), (4, 4), (5, 5)]


def test_a_worker_that_dies_making_a_batch_is_replaced(tmp_path, caplog):
    def harm(number):
        if number == 3:
            once(tmp_path / "harmed", die)

    with caplog.at_level(logging.WARNING):
        found = [int(batch) for _, batch in steps_of(6, harm)]
    assert found == [0, 1, 2, 3, 4, 5]
    assert len(caplog.records) == 1
    assert "restarting them at step" in caplog.text


def test_a_worker_that_hangs_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HANG_S", 1.5)

    def harm(number):
        if number == 2:
            once(tmp_path / "harmed", lambda: time.sleep(600))

    started = time.monotonic()
    assert [int(batch) for _, batch in steps_of(4, harm)] == [0, 1, 2, 3]
    assert time.monotonic() - started < 60


def test_a_slow_batch_is_waited_for():
    def harm(number):
        time.sleep(1.2 if number == 1 else 0)  # more than twice the loader's timeout

    assert [int(batch) for _, batch in steps_of(3, harm)] == [0, 1, 2]


def test_after_three_restarts_it_is_an_error():
    def harm(number):
        if number == 2:
            die()

    batches = steps_of(4, harm)
    with pytest.raises(DataError, match=r"were lost 4 times \(.*--workers 0"):
        list(batches)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_of_the_data_is_passed_on(num_workers):
    def harm(number):
        if number == 1:
            raise OSError("a bad disk")

    with pytest.raises(OSError, match="a bad disk"):
        list(steps_of(3, harm, num_workers=num_workers))


def kill_workers():
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
        child.join()


@pytest.mark.parametrize("step", [3, 8, 13])
def test_training_ends_alike_where_workers_are_killed_between_two_steps(step):
    straight = made()
    list(fit(straight, loader(), lr_at, epochs=3))
    state = made()
    for log in fit(state, dataclasses.replace(loader(), num_workers=2), lr_at, epochs=3):
        if isinstance(log, StepLog) and log.step == step:
            kill_workers()
            time.sleep(0.05)  # where torch's handler would raise
    assert hash_of(state) == hash_of(straight)
