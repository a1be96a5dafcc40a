from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from recog.core.errors import BundleError, DataError
from recog.data.dataset import Dataset, Exclusion, Sample
from recog.data.inspection import fingerprint, hash_samples
from recog.runs.splits import SeenImages, log_test_opening, read_seen, write_splits


@pytest.fixture
def dataset():
    splits = ["train", "train", "val", "test"]
    samples = tuple(
        Sample(name=f"{i}.png", source=np.full((2, 2), i, np.uint8), labels=(i % 2,), split=split)
        for i, split in enumerate(splits)
    )
    return Dataset(
        name="d",
        layout="test",
        class_names=("a", "b"),
        samples=samples,
        exclusions=(Exclusion(name="x.txt", reason="not an image file"),),
    )


def hashes_of(dataset):
    return dict(zip((s.name for s in dataset.samples), hash_samples(dataset.samples), strict=True))


def test_splits_are_written_and_read(dataset, tmp_path):
    hashes = hashes_of(dataset)
    write_splits(tmp_path, dataset, hashes, seed=3)
    table = json.loads((tmp_path / "splits.json").read_text())
    assert table["seed"] == 3
    assert [row["name"] for row in table["splits"]["train"]] == ["0.png", "1.png"]
    assert table["excluded"] == [{"name": "x.txt", "reason": "not an image file"}]
    seen = read_seen(tmp_path)
    assert seen.count("train", hashes.values()) == 2
    assert seen.count("test", [hashes["3.png"], "another"]) == 1
    assert seen.count("unknown split", hashes.values()) == 0


def test_the_fingerprint_is_of_content_class_and_split_not_of_names_or_order(dataset):
    import dataclasses

    renamed = tuple(dataclasses.replace(s, name=f"other/{s.name}") for s in reversed(dataset.samples))
    other = dataclasses.replace(dataset, samples=renamed)
    same = fingerprint(dataset, hashes_of(dataset))
    assert fingerprint(other, hashes_of(other)) == same
    relabelled = dataclasses.replace(
        dataset, samples=(dataclasses.replace(dataset.samples[0], labels=(1,)), *dataset.samples[1:])
    )
    assert fingerprint(relabelled, hashes_of(relabelled)) != same
    moved = dataset.with_splits(["train", "train", "test", "val"])
    assert fingerprint(moved, hashes_of(moved)) != same


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (hashed,) = hash_samples([Sample(name="pipe.jpg", source=tmp_path / "pipe.jpg", labels=(0,))])
    assert hashed == "unreadable pipe.jpg"


def test_openings_of_the_test_split_are_counted(tmp_path):
    openings = [log_test_opening(tmp_path, command="evaluate", num_images=n) for n in (5, 5, 7)]
    assert [(opening.number, opening.note) for opening in openings] == [(1, None), (2, None), (3, None)]
    rows = [json.loads(line) for line in (tmp_path / "test_openings.jsonl").read_text().splitlines()]
    assert [row["num_images"] for row in rows] == [5, 5, 7]
    with (tmp_path / "test_openings.jsonl").open("a") as file:
        file.write('{"half')  # by a process that was killed
    assert log_test_opening(tmp_path, command="evaluate", num_images=1).number == 5
    assert (tmp_path / "test_openings.jsonl").read_text().splitlines()[3] == '{"half'


def test_a_resumed_training_opens_its_test_split_once(tmp_path):
    def open_as(command, num_images=5, **options):
        return log_test_opening(tmp_path, command=command, num_images=num_images, **options).number

    assert [open_as("train", once=True), open_as("train", once=True), open_as("evaluate")] == [1, 1, 2]
    assert [open_as("evaluate"), open_as("train", once=True), open_as("train", 6, once=True)] == [3, 1, 4]
    assert len((tmp_path / "test_openings.jsonl").read_text().splitlines()) == 4


def test_openings_at_once_have_different_numbers(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        openings = pool.map(lambda n: log_test_opening(tmp_path, command="evaluate", num_images=n).number, range(64))
    assert sorted(openings) == list(range(1, 65))
    lines = (tmp_path / "test_openings.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["num_images"] for line in lines) == list(range(64))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_an_opening_in_a_run_that_may_only_be_read_is_noted(tmp_path, monkeypatch, code):
    log_test_opening(tmp_path, command="evaluate", num_images=5)
    before, os_open = (tmp_path / "test_openings.jsonl").read_bytes(), os.open

    def refuse_writing(path, flags, *mode, **options):
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(code, os.strerror(code))
        return os_open(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", refuse_writing)
    opening = log_test_opening(tmp_path, command="evaluate", num_images=5)
    assert opening.number == 2
    assert opening.note == f"{tmp_path} is read-only, so this use of its test split was not recorded"
    assert (tmp_path / "test_openings.jsonl").read_bytes() == before


def test_a_test_split_whose_opening_cannot_be_recorded_is_not_opened(tmp_path):
    with pytest.raises(DataError, match="cannot be written: No such file or directory"):
        log_test_opening(tmp_path / "absent", command="evaluate", num_images=1)


def test_a_damaged_splits_file(tmp_path):
    (tmp_path / "splits.json").write_text("{")
    with pytest.raises(BundleError, match=r"splits\.json is not valid JSON"):
        read_seen(tmp_path)


def test_of_multi_label_data_all_labels_are_written_and_enter_the_fingerprint(dataset, tmp_path):
    import dataclasses

    none, both = (dataclasses.replace(dataset.samples[i], labels=labels) for i, labels in ((0, ()), (1, (0, 1))))
    several = dataclasses.replace(dataset, task="multilabel", samples=(none, both, *dataset.samples[2:]))
    hashes = hashes_of(several)
    write_splits(tmp_path, several, hashes, seed=0)
    rows = json.loads((tmp_path / "splits.json").read_text())["splits"]["train"]
    assert [row["classes"] for row in rows] == [[], list(dataset.class_names)]
    assert fingerprint(several, hashes) != fingerprint(dataset, hashes)


@pytest.mark.timeout(10)  # a pipe that is opened to be read would wait for a writer for ever
@pytest.mark.parametrize("kind", ["pipe", "link", "dangling link"])
def test_openings_are_read_from_a_regular_file_only(tmp_path, kind):
    run = tmp_path / "run"
    run.mkdir()
    path, outside = run / "test_openings.jsonl", tmp_path / "outside"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(outside)
    if kind == "link":
        outside.write_text("{}\n")
    with pytest.raises(DataError, match=r"test_openings\.jsonl"):
        log_test_opening(run, command="recog evaluate", num_images=4)
    assert kind != "link" or outside.read_text() == "{}\n"


def test_the_images_of_a_continued_run_count_as_seen(dataset, tmp_path):
    parent = SeenImages(
        hashes={"train": frozenset({"t"}), "val": frozenset({"v"}), "test": frozenset({"x"})}, hash_of="pixels"
    )
    write_splits(tmp_path, dataset, hashes_of(dataset), seed=0, parent=parent)
    seen = read_seen(tmp_path)
    assert [seen.shaped_the_model(h) for h in ("t", "v", "x")] == [True, True, False]
    assert seen.count("train", [*hashes_of(dataset).values(), "t"]) == 3
    assert {seen.split_of()[h] for h in ("t", hashes_of(dataset)["0.png"])} == {"train"}
