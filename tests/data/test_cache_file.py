"""A file of the decoded cache: damaged pixels are noticed and decoded again, odd entries are named and never used."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from recog.core.errors import DataError
from recog.core.preprocess import Preprocess
from recog.data import cache_file
from recog.data.cache import decode_for_each, list_entries
from recog.data.inspection import hash_samples
from recog.data.store import read_exact

EXACT = read_exact(Preprocess(image_size=(20, 16)))


@pytest.fixture(autouse=True)
def _own_cache(own_cache):
    pass


def decode_all(samples, reader=EXACT, *, memory):
    return decode_for_each(samples, [reader], hash_samples(samples), name="toys", max_memory_bytes=memory)[0]


def flip_bit(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


USES = {
    "fetch": lambda store: store.fetch(np.arange(11))[2],
    "one": lambda store: store[2],
    "stack": lambda store: store.stack(np.array([0, 2]))[1],
    "whole": lambda store: store.stack()[2],
    "rows": lambda store: store.rows()[1:4][1],
    "pixels": lambda store: np.concatenate(list(store.pixel_blocks())).reshape(11, 20, 16, 3)[2],
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_one_flipped_bit_is_noticed_at_first_use_and_mended_in_the_file(samples, use, caplog):
    decode_all(samples, memory=0)
    (entry,) = list_entries()
    before = entry.path.read_bytes()
    flip_bit(entry.path, cache_file.DATA_START + 2 * 20 * 16 * 3 + 100)  # in the third image
    np.testing.assert_array_equal(use(decode_all(samples, memory=0).images), EXACT(samples[2]))
    assert caplog.messages == [
        "warning: 2.png is damaged in the image cache, probably on the disk; it is decoded again"
    ]
    assert entry.path.read_bytes() == before
    caplog.clear()
    use(decode_all(samples, memory=0).images)
    assert caplog.messages == []


def test_an_image_is_compared_once(samples, monkeypatch):
    """11 good images: 11 comparisons, in whatever order and however often they are used."""
    decode_all(samples, memory=0)
    store = decode_all(samples, memory=0).images
    calls = []
    checksum = cache_file.checksum
    monkeypatch.setattr(cache_file, "checksum", lambda image: calls.append(1) or checksum(image))
    for _ in range(3):
        store.stack(np.array([4, 2, 2]))
        store.fetch(np.arange(11))
    assert len(calls) == 11


def test_processes_forked_from_this_one_share_what_was_compared(samples):
    store = decode_all(samples, memory=0).images
    child = os.fork()
    if child == 0:
        store.stack(np.array([3, 5]))
        os._exit(0)
    os.waitpid(child, 0)
    assert np.flatnonzero(store._is_checked).tolist() == [3, 5]


def test_many_damaged_images_are_three_lines(samples, caplog):
    decode_all(samples, memory=0)
    (entry,) = list_entries()
    for image in range(6):
        flip_bit(entry.path, cache_file.DATA_START + image * 20 * 16 * 3)
    decode_all(samples, memory=0).images.stack()
    assert len(caplog.messages) == 3
    assert caplog.messages[-1].endswith("Further ones are not listed")


def test_an_image_that_can_be_neither_used_nor_replaced_is_an_error(samples, monkeypatch):
    decode_all(samples, memory=0)
    (entry,) = list_entries()
    flip_bit(entry.path, cache_file.DATA_START)
    memmap = np.memmap

    def only_readable(file, *, mode, **layout):
        if mode == "r+":
            raise PermissionError(13, "Permission denied")
        return memmap(file, mode=mode, **layout)

    monkeypatch.setattr(np, "memmap", only_readable)
    with pytest.raises(DataError, match=r"0\.png is damaged in the image cache and cannot be replaced there.*--clear"):
        decode_all(samples, memory=0).images.stack()


def index_of(path):
    data = path.read_bytes()
    start, length = (int.from_bytes(data[at : at + 8], "little") for at in (16, 24))
    return start, json.loads(data[start : start + length])


def write_index(path, index):
    """Replace the index by another one, with its right digest."""
    start, _ = index_of(path)
    data = index if isinstance(index, bytes) else json.dumps(index).encode()
    pixels = path.read_bytes()[cache_file.DATA_START : start]
    header = cache_file._MAGIC + start.to_bytes(8, "little") + len(data).to_bytes(8, "little")
    header += hashlib.sha256(data).digest()
    path.write_bytes(header.ljust(cache_file.DATA_START, b"\0") + pixels + data)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("odd", "problem"),
    [
        ("pipe", "is a named pipe"),
        ("folder", "is a folder"),
        ("link", "is a symbolic link"),
        ("sparse", "is of another size than was written"),
        ("sparse index", "has an index of 1,099,511,627,776 bytes; at most"),
        ("deep", "nested more than 32 levels deep"),
        ("checksums", "do not belong together"),
        ("shapes", "shapes[0][0] is text; expected a whole number"),
        ("rows", "do not belong together"),
    ],
)
def test_odd_entries_are_listed_with_their_problem_and_never_used(samples, tmp_path, odd, problem, caplog):
    decode_all(samples, memory=0)
    (entry,) = list_entries()
    path, (_, index) = entry.path, index_of(entry.path)
    if odd in ("pipe", "folder", "link"):
        whole = path.rename(tmp_path / "whole")
        {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda p: p.symlink_to(whole)}[odd](path)
    elif odd == "sparse":
        os.truncate(path, 1 << 40)
    elif odd == "sparse index":
        start = index_of(path)[0].to_bytes(8, "little")
        path.write_bytes(cache_file._MAGIC + start + (1 << 40).to_bytes(8, "little") + bytes(32))
        os.truncate(path, (1 << 40) + int.from_bytes(start, "little"))
    else:
        write_index(
            path,
            {
                "deep": b'{"name": ' + b"[" * 100_000,
                "checksums": index | {"checksums": index["checksums"][1:]},
                "shapes": index | {"shapes": [["20", 16, 3], *index["shapes"][1:]]},
                "rows": index | {"bad": [[12, "x", "y", "z"]]},
            }[odd],
        )
    assert problem in list_entries()[0].problem
    decoded = decode_all(samples, memory=1 << 20)
    np.testing.assert_array_equal(decoded.images[0], EXACT(samples[0]))
    assert "a file of the image cache is not used" in caplog.text
    command = [sys.executable, "-m", "recog", "cache"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    assert problem in listed
    cleared = subprocess.run([*command, "--clear"], capture_output=True, text=True, check=True, timeout=20).stdout
    assert ("was not removed: is a folder" in cleared) == (odd == "folder") == path.is_dir()
