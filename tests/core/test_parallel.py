"""`map_in_parallel`: by threads, by forked processes or alone, the results are those of `map`, in order."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recog.core import parallel
from recog.core.errors import BadImage
from recog.core.parallel import map_in_parallel
from recog.data.dataset import Sample

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


@pytest.fixture
def samples() -> list[Sample]:
    """More than three chunks of them, the last chunk not full."""
    return [Sample(name=str(row), source=Path(f"{row}.png"), labels=(0,)) for row in range(3 * parallel._CHUNK + 7)]


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the work is."""
    monkeypatch.setattr(parallel, "_MIN_FORKED_S", 0.0)


def process_of(samples: list[Sample], **options: int) -> list[int]:
    return list(map_in_parallel(lambda sample: os.getpid(), samples, **options))


def test_order_is_that_of_the_samples(samples: list[Sample], forked: None) -> None:
    assert list(map_in_parallel(lambda sample: int(sample.name) ** 2, samples, num_threads=2)) == [
        row**2 for row in range(len(samples))
    ]


@linux
def test_many_small_samples_go_to_processes_one_chunk_each(samples: list[Sample], forked: None) -> None:
    pids = process_of(samples, num_threads=2)
    assert set(pids[:8]) == {os.getpid()}  # tried by threads: 4 for each of the two
    others = set(pids[8:])
    assert os.getpid() not in others
    assert 1 <= len(others) <= 2
    assert len(set(pids[8 : 8 + parallel._CHUNK])) == 1


def test_short_work_stays_in_this_process(samples: list[Sample]) -> None:
    assert set(process_of(samples, num_threads=2)) == {os.getpid()}


def test_one_thread_is_one_process(samples: list[Sample], forked: None) -> None:
    assert set(process_of(samples, num_threads=1)) == {os.getpid()}


def test_slow_samples_go_to_threads(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_MIN_THREADED_S", 0.0)
    found = list(map_in_parallel(lambda sample: (os.getpid(), threading.get_ident()), samples, num_threads=2))
    assert {pid for pid, _ in found} == {os.getpid()}
    assert threading.get_ident() not in {thread for _, thread in found}


@linux
def test_arrays_and_bad_images_come_back(samples: list[Sample], forked: None) -> None:
    def read(sample: Sample) -> np.ndarray | BadImage:
        row = int(sample.name)
        return (
            BadImage(sample.name, "it is truncated", "Replace it.")
            if row % 100 == 9
            else np.full((2, 2, 3), row % 256, np.uint8)
        )

    found = list(map_in_parallel(read, samples, num_threads=2))
    bad = [one for one in found if isinstance(one, BadImage)]
    assert [(one.name, one.reason, one.remedy) for one in bad] == [
        (str(row), "it is truncated", "Replace it.") for row in range(9, len(samples), 100)
    ]
    good = [one for one in found if isinstance(one, np.ndarray)]
    assert [int(one[0, 0, 0]) for one in good] == [row % 256 for row in range(len(samples)) if row % 100 != 9]


@linux
def test_an_error_in_a_process_is_raised_here(samples: list[Sample], forked: None) -> None:
    def fail(sample: Sample) -> int:
        if sample.name == "300":
            raise LookupError("row 300")
        return 0

    with pytest.raises(LookupError, match="row 300"):
        list(map_in_parallel(fail, samples, num_threads=2))


@linux
def test_what_a_killed_process_left_is_done_here(samples: list[Sample], forked: None) -> None:
    parent = os.getpid()

    def die_once(sample: Sample) -> int:
        if sample.name == "400" and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return int(sample.name)

    assert list(map_in_parallel(die_once, samples, num_threads=2)) == list(range(len(samples)))


@linux
def test_stopping_early_leaves_no_process(samples: list[Sample], forked: None) -> None:
    results = map_in_parallel(lambda sample: sample.name, samples, num_threads=2)
    assert [next(results) for _ in range(20)] == [str(row) for row in range(20)]
    assert multiprocessing.active_children()
    results.close()  # type: ignore[attr-defined]  # a generator
    assert not multiprocessing.active_children()


@linux
def test_processes_end_with_a_killed_parent(samples: list[Sample], forked: None) -> None:
    """Each process holds the pipe's writing end, so that it is at its end when all are gone."""
    reading, writing = os.pipe()

    def work() -> None:
        results = map_in_parallel(lambda sample: sample.name, samples, num_threads=2)
        for _ in range(20):  # the first ones are done by threads
            next(results)
        os.write(writing, b"!")
        time.sleep(60)

    parent = multiprocessing.get_context("fork").Process(target=work)
    parent.start()
    os.close(writing)
    assert os.read(reading, 1) == b"!"
    parent.kill()
    parent.join()
    assert select.select([reading], [], [], 10)[0]
    assert os.read(reading, 1) == b""
    os.close(reading)


@linux
def test_a_process_that_may_have_no_children_does_it_itself(samples: list[Sample], forked: None) -> None:
    def ask(answers: multiprocessing.SimpleQueue[bool], work: Callable[[], list[int]]) -> None:
        answers.put(set(work()) == {os.getpid()})

    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=ask, args=(answers, lambda: process_of(samples, num_threads=2)), daemon=True)
    child.start()
    child.join(20)
    assert answers.get() is True
