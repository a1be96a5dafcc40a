"""Many images at once: by threads where one takes a millisecond, such as to decode a photo, by processes where there are many
small ones.

Of small images most of the time is spent within Python's lock, for which threads only wait: two threads decode 10,000 images of
32 px in 3.9 s, one in 1.4 s.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from statistics import median
from typing import Any, TypeVar

from recog.core.hardware import num_cores

_MIN_THREADED_S = 1e-3  # of one image; of less, handing it to a thread is most of the work
_MIN_FORKED_S = 2.0  # of all images; of less, the processes hardly pay
_CHUNK = 256  # images that a process is handed at once

T = TypeVar("T")
U = TypeVar("U")


def map_in_parallel(function: Callable[[U], T], items: Sequence[U], *, num_threads: int | None = None) -> Iterator[T]:
    """`function` of each item, in order; it may run in a forked process, so it returns what can be pickled."""

    def timed(item: U) -> tuple[T, float]:
        begun = time.perf_counter()
        return function(item), time.perf_counter() - begun

    num_threads = num_threads or num_cores()
    num_tried = 4 * num_threads
    seconds: list[float] = []
    with ThreadPoolExecutor(num_threads) as pool:
        for result, taken in _windowed(pool, timed, items[:num_tried], num_tried):
            seconds.append(taken)
            yield result
        if seconds and median(seconds) >= _MIN_THREADED_S:
            yield from _windowed(pool, function, islice(items, num_tried, None), num_tried)
            return
    rest = items[num_tried:]
    if num_threads > 1 and _can_fork() and rest and median(seconds) * len(rest) >= _MIN_FORKED_S:
        yield from _map_in_processes(function, rest, num_threads)
    else:
        yield from map(function, rest)


def _windowed(pool: Executor, function: Callable[[U], T], items: Iterable[U], window: int) -> Iterator[T]:
    """`function` of each item, in order, at most `window` of them under way: results that wait fill the memory."""
    remaining = iter(items)
    waiting = deque(pool.submit(function, item) for item in islice(remaining, window))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, item) for item in islice(remaining, 1))


def _can_fork() -> bool:
    """On Linux, and not in a process that may have no children of its own. Others would import the caller's script again."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


_forked: tuple[Callable[[Any], Any], Sequence[Any]] = (str, ())  # in a forked process: its work


def _map_in_processes(function: Callable[[U], T], items: Sequence[U], num_processes: int) -> Iterator[T]:
    """Both arguments reach the processes by the fork, nothing is pickled but results. What a killed process left is done here."""
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(num_processes, context, initializer=_begin, initargs=(function, items))
    num_done = 0
    try:
        for results in _windowed(pool, _map_chunk, range(0, len(items), _CHUNK), window=2 * num_processes):
            yield from results
            num_done += len(results)
        return
    except BrokenProcessPool:
        pass  # such as by a system that runs out of memory
    finally:
        pool.shutdown(cancel_futures=True)
    yield from map(function, items[num_done:])


def _begin(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    """Signals are the parent's to handle: Ctrl-C reaches the whole group, and handlers came along with the fork."""
    global _forked
    _forked = function, items
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _map_chunk(start: int) -> list[Any]:
    function, items = _forked
    return [function(item) for item in items[start : start + _CHUNK]]


def end_with_parent() -> None:
    """End this process, which multiprocessing began, when its parent is gone, even by SIGKILL: no one takes its results."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
