"""Facts of the machine that planning reads and that results are quoted with."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from recog.core.errors import ConfigError

MAX_THREADS = 1024
_IMPORTED = time.perf_counter()


@dataclass(frozen=True, kw_only=True)
class Hardware:
    num_cores: int  # that this process may use
    memory_bytes: int  # free for this process at the time of asking
    cpu: str


def num_cores() -> int:
    """Threads that this process should use: OMP_NUM_THREADS if set, else the cores that affinity and CPU quota leave it.

    A quota of part of a core counts as one: 1.5 cores are used best by two threads.
    """
    asked = _openmp_threads()
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in cpu_quotas())]))


def check_num_threads(num_threads: int) -> int:
    """`num_threads`; ConfigError where no process can have so many."""
    if type(num_threads) is not int or not 1 <= num_threads <= MAX_THREADS:
        raise ConfigError(f"num_threads is {num_threads!r}; it must be a whole number from 1 to {MAX_THREADS}.")
    return num_threads


def _openmp_threads() -> int | None:
    """The first number of OMP_NUM_THREADS. torchrun sets 1 for all of its processes, whatever the user has set or not."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    is_number = first.isascii() and first.isdigit() and len(first) <= len(str(MAX_THREADS))
    if not is_number or "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    return int(first) if 1 <= int(first) <= MAX_THREADS else None


def cpu_quotas(root: Path = Path("/")) -> list[float]:
    """The quotas, in cores, of this process's control groups and of those above them; none where unlimited."""
    quotas = (_quota(folder) for folder in _group_folders(root, "cpu"))
    return [quota for quota in quotas if quota is not None]


def _group_folders(root: Path, controller: str) -> Iterator[Path]:
    """Where the control groups (version 1 and 2) of this process for `controller`, and those above them, may have their files.

    In a container the group's path is often not visible: the top of the mounted tree is the container's own group then.
    """
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        inner = PurePosixPath(*(part for part in PurePosixPath(group).parts if part not in ("/", "..")))
        for mount in dict.fromkeys((controllers, controller)) if controllers else ("", "unified"):
            yield from (root / "sys/fs/cgroup" / mount / folder for folder in (inner, *inner.parents))


def _quota(group: Path) -> float | None:
    """In cores; None where the folder of a control group states none."""
    words = " ".join(_lines(group / "cpu.max")).split()  # version 2: microseconds of each period, or 'max'
    words = words or [
        *_lines(group / "cpu.cfs_quota_us"),
        *_lines(group / "cpu.cfs_period_us"),
    ]  # version 1: -1 is none
    try:
        quota, period = map(int, words)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, ValueError):
        return []


def available_memory_bytes() -> int:
    """Memory that this process can have without swapping: what is free, within its container's and its own limits."""
    return max(0, min([_free_memory_bytes(), *bytes_left_in_groups(), *_bytes_left_in_limits()]))


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


def bytes_left_in_groups(root: Path = Path("/")) -> list[int]:
    """Of the memory limits of this process's control groups and of those above them; none where unlimited."""
    left = (_bytes_left(folder) for folder in _group_folders(root, "memory"))
    return [num_bytes for num_bytes in left if num_bytes is not None]


def _bytes_left(group: Path) -> int | None:
    """None where the folder of a control group states no limit."""
    words = [*_lines(group / "memory.max"), *_lines(group / "memory.current")]  # version 2: bytes, or 'max'
    words = words or [*_lines(group / "memory.limit_in_bytes"), *_lines(group / "memory.usage_in_bytes")]  # version 1
    try:
        limit, used = map(int, words)
    except ValueError:
        return None
    return limit - used  # without a limit, version 1 states almost 2**63


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


def process_start(root: Path = Path("/")) -> float:
    """When this process started, in seconds of time.perf_counter, so that the interpreter's start and all imports count.

    Where /proc does not tell, when this module was imported.
    """
    now = time.perf_counter()
    try:
        fields = (root / "proc/self/stat").read_text().rpartition(")")[2].split()  # the name before may hold blanks
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED
    return min(_IMPORTED, now - age_s)


def read_hardware() -> Hardware:
    return Hardware(num_cores=num_cores(), memory_bytes=available_memory_bytes(), cpu=cpu_name())


def trim_memory() -> None:
    """Give memory that Python and the C library have freed back to the system, where the library is glibc: some milliseconds."""
    import ctypes  # only what trains needs it

    with contextlib.suppress(OSError, AttributeError, TypeError):  # of other C libraries
        ctypes.CDLL(None).malloc_trim(0)
