"""How much memory planning and the cache may count on, with and without limits set on the process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


SMALL_PHOTO = """
import io, resource, sys
from recog.core.images.decode import decode
first = decode(sys.argv[1]).sum()
data = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmData:")) << 10
resource.setrlimit(resource.RLIMIT_DATA, (data + (16 << 20),) * 2)
print(first == decode(sys.argv[1]).sum())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_a_small_photo_takes_little_memory(tmp_path):
    """640 x 480 px are 0.9 MiB of pixels; 16 MiB are left for them, not the 200 that a file may have."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    command = [sys.executable, "-c", SMALL_PHOTO, str(tmp_path / "a.jpg")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
