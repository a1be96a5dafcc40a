"""Every kind of bad dataset ends in a named verdict: no traceback, no hang, nothing taken for what it is not."""

import os
import re
import time
from collections import Counter
from pathlib import Path

import ledger
import numpy as np
import pytest
from bad_datasets import CASES, pets
from bad_forms import FORM_KINDS, Items
from bad_layouts import LAYOUT_KINDS
from containers import labelled_pngs, write_folder, write_text, write_zip
from ledger import DATASET_KINDS

from recog.core.errors import BadImage, DataError
from recog.core.images.decode import decode
from recog.core.preprocess import Preprocess
from recog.data.readers.named import read_digits
from recog.data.sources import open_source
from recog.data.store import ImageStore, read_exact, read_images
from recog.verbs.evaluate import evaluate
from recog.verbs.scan import scan_events

GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1"
MAX_S = 2.0
MAX_GROWTH_MIB = 32
NUM_REPEATS = 100
TESTED_APART = {
    37: ("test_37_an_unreadable_file",),
    39: ("test_39_a_million_rows",),
    41: (
        "test_41_a_file_that_changes_or_goes_after_it_was_hashed",
        "test_41_an_archive_that_is_cut_after_it_was_opened",
    ),
    48: ("test_48_evaluate",),
}


def verdict_of(source):
    """(verdict, all that is said, number of images that remain)"""
    try:
        *_, report = scan_events(source)  # in the words of the command line
    except DataError as error:
        return "refused", str(error), None
    said = [f"{e.name}: {e.reason}" for e in (*report.bad, *report.left_out)]
    said += [*report.notes, *report.warnings, *report.problems]
    verdict = "read"
    if report.problems:
        verdict = "untrainable"
    elif [text for text in report.warnings if not is_of_size(text, report)] or report.notes:
        verdict = "warned"
    elif report.left_out:
        verdict = "left out"
    return verdict, "\n".join(said), report.num_images - len(report.bad)


def is_of_size(text, report):
    """Whether a warning is about the four images per class that the cases have by construction."""
    return text.startswith(("train gets", "half of the")) and len(report.class_names) < 60


def check(bad, folder):
    """The verdict on a case built in `folder`, once all that is promised of it was checked."""
    source = bad.build(folder)
    before = sorted(folder.rglob("*"))
    started, own = time.perf_counter(), time.process_time()
    verdict, said, num_images = verdict_of(source)
    own, elapsed = time.process_time() - own, time.perf_counter() - started
    print(f"kind {bad.kind}, {bad.name}: {verdict} in {elapsed:.2f} s; {said[:160]!r}")
    assert verdict == bad.expected, said
    assert re.search(bad.says, said), said
    assert num_images == bad.num_images or bad.num_images is None
    assert own < MAX_S  # of this process's own time
    assert elapsed < 5 * MAX_S  # what waits, as a pipe would; two cores that others use too
    assert sorted(folder.rglob("*")) == before  # nothing was written, moved or removed
    return verdict


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("bad", CASES, ids=lambda bad: f"{bad.kind} {bad.name}")
def test_each_has_its_verdict(bad, tmp_path):
    if "Parquet" in bad.name:
        pytest.importorskip("pyarrow")
    check(bad, tmp_path)


def resident_mib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident size from Linux's /proc")
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.slow
def test_memory_does_not_grow(tmp_path):
    pytest.importorskip("pyarrow")
    for number, bad in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = bad.build(folder)
        verdict_of(source)  # the first time may load a library
        start = resident_mib()
        for _ in range(NUM_REPEATS):
            verdict_of(source)
        assert resident_mib() - start <= MAX_GROWTH_MIB, f"{bad.kind} {bad.name}"


def test_nothing_was_unpickled():
    assert not Path("/tmp/recog-was-here").exists()


@pytest.mark.slow
def test_39_a_million_rows(tmp_path):
    rows = "".join(f"images/{i:07d}.png,{'cat' if i % 2 else 'dog'}\n" for i in range(1_000_000))
    path = write_text(tmp_path / "list.csv", "path,label\n" + rows)
    write_text(tmp_path / "images" / "0000000.png", "")
    dataset = open_source(path)
    assert len(dataset.samples) == 1_000_000
    assert [sample.label for sample in dataset.samples[-2:]] == [1, 0]  # even numbers are dogs
    assert dataset.samples[-1].name == "images/0999999.png"


def test_37_an_unreadable_file(tmp_path, monkeypatch):
    """By the error that opening it raises, as to root every file is readable."""
    opened = os.open

    def deny(path, *arguments, **settings):
        if str(path).endswith("000.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **settings)

    write_folder({("cat", 0): labelled_pngs(1, size=9)["ant", 0]}, tmp_path)
    pets(tmp_path)
    monkeypatch.setattr(os, "open", deny)
    verdict, said, num_images = verdict_of(tmp_path)
    assert (verdict, num_images) == ("warned", 6)
    assert "cat/000.png: " in said
    assert "Permission denied" in said or "permission" in said


def test_41_a_file_that_changes_or_goes_after_it_was_hashed(tmp_path):
    """Between hashing and decoding: the sample is a bad image by name. After decoding, training reads no file again."""
    data = pets(tmp_path)
    dataset = open_source(data)
    (data / "cat/000.png").unlink()
    (data / "cat/001.png").write_bytes(b"")
    results = list(read_images(dataset.samples, read_exact(Preprocess(image_size=(8, 8)))))
    reasons = {r.name: r.reason for r in results if not hasattr(r, "shape")}
    assert set(reasons) == {"cat/000.png", "cat/001.png"}
    good = [r for r in results if hasattr(r, "shape")]
    store = ImageStore(good)
    for path in data.rglob("*.png"):
        path.unlink()
    assert store.stack().shape == (6, 8, 8, 3)  # epoch 2 and all that follow


def test_41_an_archive_that_is_cut_after_it_was_opened(tmp_path):
    path = write_zip(labelled_pngs(2), tmp_path / "z")
    samples = open_source(path).samples
    path.write_bytes(path.read_bytes()[:100])
    for sample in samples:
        with pytest.raises(BadImage, match=re.escape(sample.name)):
            decode(sample.source, name=sample.name)


def test_48_evaluate():
    """Numbers without names are the bundle's own where its classes are numbers; a number too many and other names are refused."""
    images = np.stack([sample.source for sample in read_digits().samples[:50]])
    labels = [sample.label for sample in read_digits().samples[:50]]
    expected = evaluate(GOLDEN, Items(labels, images=images)).report.accuracy
    assert expected > 0.5
    swapped = [str(9 - number) for number in range(10)]
    renumbered = Items([9 - label for label in labels], swapped, images=images)
    assert evaluate(GOLDEN, renumbered).report.accuracy == expected
    with pytest.raises(DataError, match="the label '10', which is none of: 0, 1, 2"):
        evaluate(GOLDEN, Items([*labels[:-1], 10], images=images))
    with pytest.raises(DataError, match="2 of 2 classes that the bundle does not know: cat and dog"):
        evaluate(GOLDEN, Items([0, 1] * 25, ["cat", "dog"], images=images))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_ledger(tmp_path, capsys):
    """`make ledger` prints it."""
    pytest.importorskip("pyarrow")
    verdicts = {kind: Counter({"tested apart": len(tests)}) for kind, tests in TESTED_APART.items()}
    for number, bad in enumerate(CASES):
        folder = tmp_path / str(number)
        folder.mkdir()
        verdicts.setdefault(bad.kind, Counter())[check(bad, folder)] += 1
    assert set(verdicts) == {*DATASET_KINDS, *FORM_KINDS, *LAYOUT_KINDS}
    assert all(name in globals() for tests in TESTED_APART.values() for name in tests)
    total = ", ".join(f"{count} {verdict}" for verdict, count in sorted(sum(verdicts.values(), Counter()).items()))
    with capsys.disabled():
        print("", *ledger.lines(verdicts), sep="\n")
        print(f"bad datasets: {len(verdicts)} kinds: {total}; 0 crashed, hung or wrong")
