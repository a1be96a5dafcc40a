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
    """Memory that this process can have without swapping: what is free, within its container's and its own limits."""
    return max(0, min([_free_memory_bytes(), *_bytes_left_in_group(), *_bytes_left_in_limits()]))


def _free_memory_bytes() -> int:
    """/proc where there is one, else half of the physical pages, else 4 GiB."""
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


def _bytes_left_in_group() -> list[int]:
    """Of the memory limit of a container, where control groups (version 2) set one."""
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return [] if limit == "max" else [int(limit) - used]
    except (OSError, ValueError):
        return []


def _bytes_left_in_limits() -> list[int]:
    """Of the process's own limits (ulimit -v, -d) on address space and on data."""
    try:
        import resource

        used = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
        limits = {"VmSize": resource.RLIMIT_AS, "VmData": resource.RLIMIT_DATA}
        soft = {name: resource.getrlimit(number)[0] for name, number in limits.items()}
        return [
            limit - int(used[name].split()[0]) * 1024 for name, limit in soft.items() if limit != resource.RLIM_INFINITY
        ]
    except (ImportError, OSError, KeyError, ValueError):
        return []


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
