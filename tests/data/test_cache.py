"""The decoded cache: right pixels from memory, file and stream; damaged, half-written or foreign files are never used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recog.core.preprocess import Preprocess
from recog.data import cache_file
from recog.data.cache import cache_key, clear_entries, decode_for_each, list_entries
from recog.data.dataset import Sample
from recog.data.inspection import hash_samples
from recog.data.store import ImageStore, StreamedImages, channel_statistics, read_exact, read_larger

EXACT = read_exact(Preprocess(image_size=(20, 16)))


@pytest.fixture(autouse=True)
def _own_cache(own_cache):
    pass


def decode_all(samples, reader=EXACT, *, memory):
    (decoded,) = decode_for_each(samples, [reader], hash_samples(samples), name="toys", max_memory_bytes=memory)
    return decoded


@pytest.mark.parametrize("reader", [EXACT, read_larger(Preprocess(image_size=(20, 16)))])
def test_memory_file_and_second_run_hold_the_same_pixels(samples, reader):
    expected = [reader(sample) for sample in samples if sample.name != "5.png"]
    for memory, kind in ((1 << 20, np.ndarray), (2000, np.memmap), (1 << 20, np.memmap)):
        decoded = decode_all(samples, reader, memory=memory)
        assert isinstance(decoded.images._buffer, kind)
        assert isinstance(decoded.images._buffer, np.memmap) == (kind is np.memmap)
        assert [error.name for error in decoded.bad] == ["5.png"]
        assert decoded.rows.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
        for image, same in zip(decoded.images.fetch(np.arange(11)), expected, strict=True):
            np.testing.assert_array_equal(image, same)
    assert len(list_entries()) == 1


def test_a_full_disk_streams_and_leaves_nothing(samples, monkeypatch):
    monkeypatch.setattr(cache_file, "MIN_FREE_DISK_BYTES", 1 << 60)
    decoded = decode_all(samples, memory=0)
    assert isinstance(decoded.images, StreamedImages)
    assert "would be left on its disk" in decoded.note
    assert [error.name for error in decoded.bad] == ["5.png"]
    assert list_entries() == []
    expected = ImageStore([EXACT(sample) for sample in samples if sample.name != "5.png"])
    np.testing.assert_array_equal(decoded.images.rows()[3:7], expected.rows()[3:7])
    np.testing.assert_array_equal(decoded.images.stack(np.array([9, 0])), expected.stack(np.array([9, 0])))
    assert channel_statistics(decoded.images) == expected.channel_statistics()


def test_a_disk_that_fills_while_writing_leaves_nothing(samples, monkeypatch):
    wrote = []

    def write(self, pixels):
        wrote.append(pixels.size)
        if len(wrote) == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_file.CacheFile, "add", write)
    decoded = decode_all(samples, memory=0)
    assert isinstance(decoded.images, StreamedImages)
    assert "No space left on device" in decoded.note
    assert list_entries() == []


@pytest.mark.parametrize("damage", ["truncate", "append", "index", "magic", "empty"])
def test_a_damaged_file_is_named_and_built_anew(samples, damage):
    decode_all(samples, memory=0)
    (entry,) = list_entries()
    data = bytearray(entry.path.read_bytes())
    if damage == "truncate":
        data = data[: len(data) // 2]
    elif damage == "append":
        data += b"\0"
    elif damage == "index":
        data[-5] ^= 1
    elif damage == "magic":
        data[0] ^= 1
    else:
        data = bytearray()
    entry.path.write_bytes(data)
    assert list_entries()[0].problem is not None
    decoded = decode_all(samples, memory=0)
    np.testing.assert_array_equal(decoded.images.fetch(np.array([0]))[0], EXACT(samples[0]))
    assert list_entries()[0].problem is None


def test_an_edited_image_another_order_and_another_reading_have_other_keys(samples):
    hashes = hash_samples(samples)
    keys = {
        cache_key(hashes, EXACT),
        cache_key(hashes[::-1], EXACT),
        cache_key(["0" * 64, *hashes[1:]], EXACT),
        cache_key(hashes, read_exact(Preprocess(image_size=(20, 17)))),
        cache_key(hashes, read_larger(EXACT.preprocess)),
        cache_key(hashes, read_larger(EXACT.preprocess, margin=1.5)),
    }
    assert len(keys) == 6


def test_an_entry_under_a_wrong_name_is_not_used(samples):
    decode_all(samples, memory=0)
    (entry,) = list_entries()
    foreign = samples[:3]
    entry.path.rename(entry.path.with_name(cache_key(hash_samples(foreign), EXACT) + cache_file.SUFFIX))
    decoded = decode_all(foreign, memory=1 << 20)
    assert len(decoded.images) == 3


def test_clearing_leaves_open_entries_readable_and_takes_unfinished_ones(samples):
    decoded = decode_all(samples, memory=0)
    unfinished = list_entries()[0].path.with_name("x" + cache_file.UNFINISHED)
    unfinished.write_bytes(b"half")
    assert len(clear_entries()) == 2
    assert list_entries() == []
    np.testing.assert_array_equal(decoded.images.fetch(np.array([0]))[0], EXACT(samples[0]))


def test_a_cache_cleared_while_it_is_built_still_serves_its_builder(samples, monkeypatch):
    finish = cache_file.CacheFile.finish

    def cleared_first(self, index):
        clear_entries()
        return finish(self, index)

    monkeypatch.setattr(cache_file.CacheFile, "finish", cleared_first)
    decoded = decode_all(samples, memory=0)
    np.testing.assert_array_equal(decoded.images.fetch(np.array([2]))[0], EXACT(samples[2]))


BUILD = """
import sys
from pathlib import Path
from recog.core.preprocess import Preprocess
from recog.data.cache import decode_for_each
from recog.data.dataset import Sample
from recog.data.inspection import hash_samples
from recog.data.store import read_exact
samples = [Sample(name=p.name, source=p, labels=(0,)) for p in sorted(Path(sys.argv[1]).glob("*.png"))]
(decoded,) = decode_for_each(samples, [read_exact(Preprocess(image_size=(20, 16)))], hash_samples(samples),
                             name="toys", max_memory_bytes=0)
print(int(decoded.images.rows()[:].astype(int).sum()))
"""


def test_processes_that_build_at_once_agree(samples, tmp_path):
    commands = [[sys.executable, "-c", BUILD, str(tmp_path)]] * 3
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    sums = {process.communicate(timeout=120)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(sums) == 1
    (entry,) = list_entries()
    assert entry.problem is None
    assert entry.num_images == 11


def test_the_command_lists_and_clears(samples):
    decode_all(samples, memory=0)
    command = [sys.executable, "-m", "recog", "cache", "--json"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [entry["name"] for entry in listed["entries"]] == ["toys"]
    assert listed["num_bytes"] == os.path.getsize(listed["entries"][0]["path"])
    subprocess.run([*command, "--clear"], capture_output=True, check=True)
    assert not Path(listed["entries"][0]["path"]).exists()


LIMITED = """
import resource, sys
import numpy as np
from recog.core.hardware import available_memory_bytes
from recog.core.preprocess import Preprocess
from recog.data.cache import decode_for_each
from recog.data.dataset import Sample
from recog.data.store import read_exact
import recog.data.augment.geometry  # brings torch, whose memory is not what is measured
def anonymous():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon:")) >> 10
tile = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
samples = [Sample(name=str(i), source=tile, labels=(0,)) for i in range(400)]
data = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmData:")) << 10
limit = data + (256 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
before = anonymous()
(decoded,) = decode_for_each(
    samples, [read_exact(Preprocess(image_size=(768, 768)))], [str(i) for i in range(400)], name="big"
)
total = sum(int(image[0, 0, 0]) for start in range(0, 400, 8) for image in decoded.images.stack(np.arange(start, start + 8)))
print(type(decoded.images._buffer).__name__, decoded.images.num_bytes >> 20, anonymous() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_data_larger_than_the_process_may_hold_stream_without_growth():
    """675 MiB of pixels under a limit of 256 MiB (RLIMIT_DATA) beyond what the imports took."""
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True)
    kind, size_mib, grown_mib = done.stdout.split()
    assert (kind, size_mib) == ("memmap", "675")
    assert int(grown_mib) < 256


EPOCHS = """
import resource, sys
import numpy as np
from recog.core.preprocess import Preprocess
from recog.data import cache, cache_file
from recog.data.dataset import Sample
from recog.data.loader import TrainLoader
from recog.data.augment.policies import AugmentConfig
from recog.data.store import read_exact
def status(field):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(field + ":")) >> 10
if sys.argv[1] == "StreamedImages":
    cache_file.MIN_FREE_DISK_BYTES = 1 << 60  # as on a full disk
tile = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
samples = [Sample(name=str(i), source=tile, labels=(i % 2,)) for i in range(160)]
limit = (status("VmData") + 128) << 20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
(decoded,) = cache.decode_for_each(
    samples, [read_exact(Preprocess(image_size=(768, 768)))], list(map(str, range(160))), name="big"
)
loader = TrainLoader(
    store=decoded.images, targets=np.arange(160) % 2, image_size=(64, 64), batch_size=8, seed=0,
    augment=AugmentConfig(policy="standard", geometry="crop", mirror=True),
)
for epoch in range(3):
    num_images = sum(len(images) for images, _ in loader.batches(epoch))
    print(type(decoded.images).__name__, num_images, status("RssAnon"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("kind", ["CachedImages", "StreamedImages"])
def test_epochs_over_data_larger_than_the_limit_do_not_grow(kind):
    """270 MiB of pixels under a limit of 128 MiB (RLIMIT_DATA) beyond the imports, from the mapped file and without it."""
    done = subprocess.run([sys.executable, "-c", EPOCHS, kind], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    epochs = [line.split() for line in done.stdout.splitlines()]
    assert [epoch[:2] for epoch in epochs] == [[kind, "160"]] * 3
    first, *later = (int(mib) for *_, mib in epochs)
    assert max(later) <= first + 16


@pytest.mark.parametrize("memory", [None, 0], ids=["memory", "file"])
def test_for_several_readers_each_file_is_decoded_once(tmp_path, monkeypatch, memory):
    samples = [toy_file(tmp_path, i) for i in range(6)]
    (tmp_path / "bad.png").write_bytes(b"")
    samples.append(Sample(name="bad.png", source=tmp_path / "bad.png", labels=(0,)))
    hashes, readers = hash_samples(samples), [EXACT, read_larger(EXACT.preprocess)]
    alone = [[reader(sample) for sample in samples[:6]] for reader in readers]
    decoded, decode = [], Preprocess.decode
    monkeypatch.setattr(Preprocess, "decode", lambda *a, **k: decoded.append(k["name"]) or decode(*a, **k))
    found = decode_for_each(samples, readers, hashes, name="toys", max_memory_bytes=memory)
    assert sorted(decoded) == sorted(sample.name for sample in samples)
    for images, each in zip(alone, found, strict=True):
        assert (each.rows.tolist(), [error.name for error in each.bad]) == (list(range(6)), ["bad.png"])
        assert all(np.array_equal(*pair) for pair in zip(images, each.images.fetch(np.arange(6)), strict=True))
    again = decode_for_each(samples, [EXACT, EXACT], hashes, name="toys", max_memory_bytes=memory)
    assert again[0] is again[1]
    assert len(decoded) == (7 if memory == 0 else 14)  # what is in the file of the cache is not decoded again


def toy_file(folder, i):
    path = folder / f"{i}.png"
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)).save(path)
    return Sample(name=path.name, source=path, labels=(0,))
