import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recog.core import hardware
from recog.core.errors import ConfigError
from recog.core.hardware import (
    available_memory_bytes,
    bytes_left_in_groups,
    check_num_threads,
    cpu_name,
    cpu_quotas,
    num_cores,
    process_start,
    read_hardware,
    trim_memory,
)


@pytest.fixture(autouse=True)
def _no_openmp(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def write_tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"
GROUPS = {  # name: (files, quotas in cores)
    "version 2, in a container": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "150000 100000\n"}, [1.5]),
    "version 2, unlimited": ({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "max 100000\n"}, []),
    "version 2, a group and the one above it": (
        {
            "proc/self/cgroup": "0::/user.slice/job.scope\n",
            f"{V2}/user.slice/cpu.max": "400000 100000\n",
            f"{V2}/user.slice/job.scope/cpu.max": "20000 10000\n",
        },
        [2.0, 4.0],
    ),
    "version 2, seen from outside its namespace": (
        {"proc/self/cgroup": "0::/../../pod\n", f"{V2}/cpu.max": "50000 100000\n"},
        [0.5],
    ),
    "version 1": (
        {
            "proc/self/cgroup": "5:memory:/job\n4:cpu,cpuacct:/job\n",
            f"{V1}/job/cpu.cfs_quota_us": "300000\n",
            f"{V1}/job/cpu.cfs_period_us": "100000\n",
            f"{V1}/cpu.cfs_quota_us": "-1\n",
            f"{V1}/cpu.cfs_period_us": "100000\n",
        },
        [3.0],
    ),
    "version 1, in a container that sees its own group at the top, mounted under another name": (
        {
            "proc/self/cgroup": "4:cpuacct,cpu:/docker/0123\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000\n",
        },
        [2.0],
    ),
    "both versions": (
        {"proc/self/cgroup": "1:cpu:/\n0::/\n", f"{V2}/unified/cpu.max": "700000 100000\n"},
        [7.0],
    ),
    "a file of another kind": ({"proc/self/cgroup": "nothing\n\n", f"{V2}/cpu.max": "lots\n"}, []),
    "no control groups": ({}, []),
}


@pytest.mark.parametrize(("files", "quotas"), GROUPS.values(), ids=GROUPS)
def test_quotas_of_control_groups(files, quotas, tmp_path):
    """Kernel documentation: cgroup-v2.rst, "cpu.max"; cgroup-v1, sched-bwc.rst: quota / period."""
    assert cpu_quotas(write_tree(tmp_path, files)) == quotas


MEMORY_V1 = "sys/fs/cgroup/memory"
MEMORY_GROUPS = {  # name: (files, bytes left)
    "version 2, in a container": (
        {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "1000\n", f"{V2}/memory.current": "300\n"},
        [700],
    ),
    "version 2, unlimited": (
        {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n", f"{V2}/memory.current": "300\n"},
        [],
    ),
    "version 1, a group and the one above it": (
        {
            "proc/self/cgroup": "5:memory:/job\n4:cpu,cpuacct:/job\n",
            f"{MEMORY_V1}/job/memory.limit_in_bytes": "5000\n",
            f"{MEMORY_V1}/job/memory.usage_in_bytes": "1000\n",
            f"{MEMORY_V1}/memory.limit_in_bytes": "9223372036854771712\n",
            f"{MEMORY_V1}/memory.usage_in_bytes": "712\n",
        },
        [4000, 9223372036854771000],
    ),
    "version 1, in a container that sees its own group at the top": (
        {
            "proc/self/cgroup": "5:memory:/docker/0123\n",
            f"{MEMORY_V1}/memory.limit_in_bytes": "4096\n",
            f"{MEMORY_V1}/memory.usage_in_bytes": "96\n",
        },
        [4000],
    ),
    "no control groups": ({}, []),
}


@pytest.mark.parametrize(("files", "left"), MEMORY_GROUPS.values(), ids=MEMORY_GROUPS)
def test_memory_left_in_control_groups(files, left, tmp_path):
    """Kernel documentation: cgroup-v2.rst, "memory.max"; cgroup-v1, memory.rst: limit - usage."""
    assert bytes_left_in_groups(write_tree(tmp_path, files)) == left


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
@pytest.mark.parametrize(
    ("quotas", "cores"), [([], 8), ([16.0], 8), ([2.0], 2), ([2.0, 1.5], 2), ([0.25], 1), ([1.5], 2)]
)
def test_cores_are_the_least_of_affinity_and_quotas_rounded_up(quotas, cores, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(hardware, "cpu_quotas", lambda: quotas)
    assert num_cores() == cores


@pytest.mark.parametrize(
    ("value", "cores"),
    [
        ("3", 3),
        (" 5 ", 5),
        ("4,2", 4),
        ("12", 12),
        ("", 2),
        ("0", 2),
        ("-1", 2),
        ("many", 2),
        ("1.5", 2),
        ("9" * 30, 2),
    ],
)
def test_openmps_variable_comes_first_and_is_ignored_where_it_is_no_number(value, cores, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(hardware, "cpu_quotas", list)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert num_cores() == cores
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun, which sets the variable to 1 by itself
    assert num_cores() == 2


@pytest.mark.parametrize("number", [0, -1, 10**9, 2.0, True, "4"])
def test_impossible_numbers_of_threads_are_refused(number):
    with pytest.raises(ConfigError, match=f"num_threads is {number!r}; it must be a whole number from 1 to 1024"):
        check_num_threads(number)


def test_facts_are_plausible():
    facts = read_hardware()
    assert 1 <= facts.num_cores <= os.cpu_count()  # OMP_NUM_THREADS is not set here
    assert 1 << 20 < facts.memory_bytes < 1 << 50
    assert facts.cpu == facts.cpu.strip()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_cores_are_those_this_process_may_use():
    core = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{core}}}); from recog.core.hardware import num_cores; print(num_cores())"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "1"


@pytest.mark.skipif(not os.path.exists("/proc/meminfo"), reason="this system has no /proc")
def test_memory_is_what_the_kernel_calls_available(tmp_path, monkeypatch):
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:       16000000 kB\nMemFree:          500000 kB\nMemAvailable:    2000000 kB\n")
    monkeypatch.setattr(hardware, "Path", lambda _: table)
    assert available_memory_bytes() == 2_048_000_000  # 2,000,000 kB of 1,024 bytes


def test_without_proc_every_fact_has_a_second_source(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "Path", lambda _: tmp_path / "absent")
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert available_memory_bytes() == 2_048_000  # half of 1,000 pages
    assert cpu_name() == (platform.processor() or platform.machine())


def test_without_any_source_there_is_a_default(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "Path", lambda _: tmp_path / "absent")
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(hardware, "cpu_quotas", list)
    assert available_memory_bytes() == 4 << 30
    assert num_cores() == 1


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux only")
def test_a_process_started_when_the_kernel_states(tmp_path):
    """Field 22 of /proc/PID/stat, in ticks since the machine started (man proc_pid_stat); the name may hold blanks and ')'."""
    age_s = 50_000
    ticks = round((time.clock_gettime(time.CLOCK_BOOTTIME) - age_s) * os.sysconf("SC_CLK_TCK"))
    before = " ".join(["0"] * 18)
    write_tree(tmp_path, {"proc/self/stat": f"1 (a) b) S {before} {ticks} 0 0\n"})
    assert process_start(tmp_path) == pytest.approx(time.perf_counter() - age_s, abs=1.0)


@pytest.mark.parametrize("text", [None, "", "1 (a) S 0", "1 (a) S " + "x " * 30])
def test_without_the_kernel_it_started_when_this_module_was_imported(tmp_path, text):
    write_tree(tmp_path, {} if text is None else {"proc/self/stat": text})
    assert process_start(tmp_path) == hardware._IMPORTED


def test_freed_memory_goes_back_to_the_system():
    """Small blocks in the C library's heap, all but the last of which are freed: without a word they would stay."""
    if not Path("/proc/self/statm").exists() or platform.libc_ver()[0] != "glibc":
        pytest.skip("needs /proc and glibc")

    def resident_mib():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    blocks = [bytearray(60_000) for _ in range(2000)]  # 114 MiB
    full, last = resident_mib(), blocks.pop()
    del blocks
    trim_memory()
    assert resident_mib() < full - 80
    assert len(last) == 60_000
