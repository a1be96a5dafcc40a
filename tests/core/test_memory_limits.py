"""How much memory planning and the cache may count on, with and without limits set on the process."""

import subprocess
import sys
from pathlib import Path

import pytest

from recog.core.hardware import available_memory_bytes

LIMITED = """
import resource, sys
from recog.core.hardware import available_memory_bytes
free = available_memory_bytes()
resource.setrlimit(getattr(resource, sys.argv[1]), (2 << 30, 2 << 30))
print(free, available_memory_bytes())
"""


def test_some_memory_is_free():
    assert available_memory_bytes() > 1 << 20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_limit_on_the_process_is_seen(limit):
    done = subprocess.run([sys.executable, "-c", LIMITED, limit], capture_output=True, text=True, check=True)
    free, left = map(int, done.stdout.split())
    assert 1 << 30 < left < 2 << 30 or left == free < 2 << 30  # less what Python itself has taken
