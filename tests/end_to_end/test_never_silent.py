"""What is wrong with the data is an error with its remedy, or a counted, named exclusion; and nothing half-written stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from recog.core.errors import DataError, TrainingError
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
from recog.training.config import OptimConfig
from recog.verbs.evaluate import evaluate
from recog.verbs.run import Note, Run
from recog.verbs.train import train_events


def write_images(folder, classes, per_class, size=16):
    """Images of one colour per class with noise, so that two epochs can learn them; no two alike."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            pixels = np.full((size, size, 3), 40 * label, np.uint8)
            pixels += generator.integers(0, 40, pixels.shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def train(folder, tmp_path, **settings):
    config = TrainConfig(
        data=DataConfig(source=str(folder), **settings),
        optim=OptimConfig(epochs=1),
        compute=ComputeConfig(num_threads=1),
    )
    return list(train_events(config, runs=tmp_path / "runs"))


@pytest.fixture
def shapes(tmp_path):
    folder = tmp_path / "shapes"
    write_images(folder, ["a", "b", "c"], 60)
    return folder


def test_a_bad_file_is_excluded_by_name_in_notes_and_splits(shapes, tmp_path):
    (shapes / "a" / "bad.jpg").write_bytes(b"\xff\xd8\xff garbage")
    (shapes / ".ipynb_checkpoints").mkdir()
    events = train(shapes, tmp_path)
    run = events[-1]
    assert isinstance(run, Run)
    notes = "\n".join(event.text for event in events if isinstance(event, Note))
    assert "left out 2: .ipynb_checkpoints" in notes
    assert "a/bad.jpg" in notes
    table = json.loads((run.folder / "splits.json").read_text())
    assert {row["name"] for row in table["excluded"]} == {".ipynb_checkpoints", "a/bad.jpg"}
    used = [row["name"] for rows in table["splits"].values() for row in rows]
    assert sorted(used) == sorted(f"{c}/{i}.png" for c in "abc" for i in range(60))  # each once, none twice


def test_more_than_one_percent_bad_is_an_error(shapes, tmp_path):
    for i in range(4):  # 4 of 184: above 1 % and above 3 files
        (shapes / "a" / f"bad{i}.jpg").write_bytes(b"no image")
    with pytest.raises(
        DataError, match=r"4 of 184 files of shapes cannot be used \(more than 1% of all and more than 3\)"
    ):
        train(shapes, tmp_path)


def test_policy_error_stops_at_the_first_bad_file(shapes, tmp_path):
    (shapes / "a" / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="a/bad.jpg"):
        train(shapes, tmp_path, bad_images="error")


def test_a_class_whose_only_test_image_is_bad_is_an_error(tmp_path):
    folder = tmp_path / "shapes"
    for split, n in (("train", 150), ("val", 4), ("test", 4)):
        write_images(folder / split, ["a", "b"], n)
    for file in (folder / "test" / "b").iterdir():
        file.unlink()
    (folder / "test" / "b" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="split 'test' of shapes has no usable image of 1 of 2 classes: b"):
        train(folder, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_without_a_bundle(tmp_path):
    config = TrainConfig(
        data=DataConfig(source="digits"), optim=OptimConfig(epochs=1, lr=1e30), compute=ComputeConfig(num_threads=1)
    )
    with pytest.raises(TrainingError, match="the loss is (nan|inf) at epoch 1, step"):
        list(train_events(config, runs=tmp_path / "runs"))
    (run,) = (tmp_path / "runs").iterdir()
    assert not (run / "bundle").exists()
    assert not list(run.glob("*.tmp-*"))


def test_evaluate_refuses_a_class_that_the_bundle_does_not_know(digits_run, tmp_path):
    write_images(tmp_path / "letters", ["1", "l"], 2, size=8)
    with pytest.raises(DataError, match="1 of 2 classes that the bundle does not know: l"):
        evaluate(digits_run.bundle, tmp_path / "letters")


def test_evaluate_leaves_absent_classes_undefined_and_counts_them(digits_run, tmp_path):
    write_images(tmp_path / "some", ["1", "2"], 3, size=8)
    report = evaluate(digits_run.bundle, tmp_path / "some", out=tmp_path / "out").report
    assert report.num_absent_classes == 8
    assert report.to_dict()["classes"][0]["recall"] is None
    present = [row.recall for row in report.classes if row.support]
    assert report.macro.recall == pytest.approx(sum(present) / 2)


def test_evaluate_measures_what_the_run_did_not_use_and_counts_the_openings_of_its_test_images(digits_run, run_folder):
    first = evaluate(run_folder, "digits")
    assert first.report.num_images == digits_run.report.num_images == 360
    assert first.report.accuracy == digits_run.report.accuracy
    assert first.report.data.num_seen_in_training == 0
    second = evaluate(run_folder, "digits")
    assert digits_run.report.data.test_openings == 1
    assert first.report.data.test_openings == 2
    assert second.report.data.test_openings == 3


def test_evaluate_with_images_that_were_used_counts_them(run_folder):
    result = evaluate(run_folder, "digits", include_seen=True)
    data = result.report.data
    assert (result.report.num_images, data.split, data.num_left_out_as_seen) == (1797, None, 0)
    assert (data.num_seen_in_training, data.num_seen_in_selection) == (1168, 269)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["epoch   2", "exporting"])
def test_a_signal_leaves_no_half_written_bundle(tmp_path, number, code, moment):
    command = [sys.executable, "-m", "recog", "train", "digits", "--epochs", "30", "--name", "stopped"]
    if moment == "exporting":
        command[5:7] = ["--epochs", "3"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # whoever runs the tests in the background has SIGINT ignored, which processes inherit
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stderr:
        if line.startswith(moment):
            process.send_signal(number)
    assert process.wait(timeout=60) == code
    run = tmp_path / "runs" / "stopped"
    assert (run / "metrics.jsonl").is_file()
    assert not (run / "bundle").exists()
    assert not list(run.glob("*.tmp-*"))
