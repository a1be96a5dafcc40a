"""Images per second of several ways to run a network, measured in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_ROUNDS = 5  # the networks take turns, so that a load that comes and goes meets all of them

Network = Callable[[NDArray[np.uint8]], object]


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Images per second over rounds of equal length."""

    median: float
    least: float
    most: float


def measure_speed(
    networks: Mapping[str, Network], images: NDArray[np.uint8], batch_sizes: Sequence[int], *, seconds: float
) -> dict[str, dict[int, Speed]]:
    """{name: {batch size: its Speed}} for images uint8 [N, H, W, C]; `seconds` for each network and batch size."""
    rates: dict[str, dict[int, list[float]]] = {name: {} for name in networks}
    for size in batch_sizes:
        batch = np.resize(images, (size, *images.shape[1:]))  # repeated where there are fewer
        for network in networks.values():
            network(batch)  # the first call of a shape allocates
        for _ in range(NUM_ROUNDS):
            for name, network in networks.items():
                rates[name].setdefault(size, []).append(_rate(network, batch, seconds / NUM_ROUNDS))
    return {
        name: {size: Speed(median=statistics.median(r), least=min(r), most=max(r)) for size, r in by_size.items()}
        for name, by_size in rates.items()
    }


def _rate(network: Network, batch: NDArray[np.uint8], seconds: float) -> float:
    """Images per second of calls that begin within `seconds`; at least one."""
    started, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - started < seconds:
        network(batch)
        calls += 1
    return calls * len(batch) / (time.perf_counter() - started)
