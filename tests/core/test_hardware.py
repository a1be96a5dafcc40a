import os
import platform
import subprocess
import sys

import pytest

from recog.core import hardware
from recog.core.hardware import available_memory_bytes, cpu_name, num_cores, read_hardware


def test_facts_are_plausible():
    facts = read_hardware()
    assert 1 <= facts.num_cores <= os.cpu_count()
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
    assert available_memory_bytes() == 4 << 30
    assert num_cores() == 1
