"""Facts of the machine that planning reads and that results are quoted with."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Hardware:
    num_cores: int  # that this process may use
    memory_bytes: int  # free for this process at the time of asking
    cpu: str


def num_cores() -> int:
    """Cores that this process may use: fewer than the machine has under taskset or a cpuset; a quota in time is not seen."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory_bytes() -> int:
    """Memory that can be had without swapping: /proc where there is one, else physical pages, else 4 GiB."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return 4 << 30


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def read_hardware() -> Hardware:
    return Hardware(num_cores=num_cores(), memory_bytes=available_memory_bytes(), cpu=cpu_name())
