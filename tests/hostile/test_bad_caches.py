"""Kind 56: whatever stands in the cache of decoded images, the right pixels are used, and `recog cache` names what is odd."""

import os
import subprocess
import sys
from collections import Counter

import ledger
import numpy as np
import pytest

from recog.core.preprocess import Preprocess
from recog.data.cache import decode_for_each, list_entries
from recog.data.dataset import Sample
from recog.data.inspection import hash_samples
from recog.data.store import read_exact

EXACT = read_exact(Preprocess(image_size=(8, 8)))
SAMPLES = [Sample(name=f"{i}.png", source=np.full((9, 9), i, np.uint8), labels=(0,)) for i in range(8)]


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder(path):
    path.unlink()
    path.mkdir()


def link(path):
    path.rename(path.with_name("whole"))
    path.symlink_to(path.with_name("whole"))


def link_to_nothing(path):
    path.unlink()
    path.symlink_to("nowhere")


def sparse(path):
    os.truncate(path, 1 << 40)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    path.write_bytes(b"")


def other_kind(path):
    path.write_bytes(b"\x89PNG" * 2000)


def flipped(at):
    def flip(path):
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    flip.__name__ = f"a flipped bit at {at}"
    return flip


ODD = [pipe, folder, link, link_to_nothing, sparse, cut, empty, other_kind, *map(flipped, (0, 20, 40, 5000, -1))]


def decoded():
    """From the file where it can be used; uint8 [8, 8, 8, C]."""
    return decode_for_each(SAMPLES, [EXACT], hash_samples(SAMPLES), name="toys", max_memory_bytes=0)[0].images


def verdict_of(damage):
    expected = np.stack([EXACT(sample) for sample in SAMPLES])
    np.testing.assert_array_equal(decoded().fetch(np.arange(8)), expected)
    (entry,) = list_entries()
    damage(entry.path)
    command = [sys.executable, "-m", "recog", "cache"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), damage.__name__
    problem = next((entry.problem for entry in list_entries() if entry.problem), None)
    assert problem is None or problem in done.stdout
    np.testing.assert_array_equal(decoded().fetch(np.arange(8)), expected)
    subprocess.run([*command, "--clear"], capture_output=True, timeout=60, check=True)
    return "named and decoded again" if problem else "decoded again"


def test_ledger(tmp_path, monkeypatch, capsys):
    """`make ledger` prints it."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    counts = Counter()
    for number, damage in enumerate(ODD):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(number)))
        (tmp_path / str(number)).mkdir(mode=0o700)
        counts[verdict_of(damage)] += 1
    with capsys.disabled():
        print("", *ledger.lines({56: counts}), sep="\n")
