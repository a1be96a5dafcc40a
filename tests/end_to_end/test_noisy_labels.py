"""`recog train --noisy-labels` on digits with wrong labels: what is left out, listed and kept when a run is resumed."""

from __future__ import annotations

import csv
import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import recog
from recog.core.errors import ConfigError
from recog.recipes.config import TrainConfig, with_options
from recog.training.fit import StepLog
from recog.verbs.run import Run
from recog.verbs.train import resume_events, train_events

NUM_WRONG = 30


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """(folder with train, val and test, names of the training images with a wrong label)."""
    folder = tmp_path_factory.mktemp("digits")
    pixels, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = set(rng.permutation(300)[:NUM_WRONG].tolist())
    names = set()
    for i in range(500):
        split = "train" if i < 300 else "val" if i < 400 else "test"
        label = (labels[i] + 1 + i % 9) % 10 if i in wrong else labels[i]
        place = folder / split / str(label) / f"{i:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels[i].reshape(8, 8) * 15.9).astype(np.uint8)).save(place)
        if i in wrong:
            names.add(place.relative_to(folder).as_posix())
    return folder, names


def config_for(photos, digits_run, **options):
    settings = {"checkpoint.every_steps": 1} if options.get("recipe") != "head" else {}
    chosen = {"noisy_labels": True, "parent": str(digits_run.bundle), "threads": 1, **options}
    config = with_options(TrainConfig(), chosen, settings)
    return with_options(config, {}, {"data.source": str(photos[0])})


def test_a_head_leaves_out_suspects_and_lists_them(photos, digits_run, tmp_path):
    *_, run = train_events(config_for(photos, digits_run, recipe="head"), name="run", runs=tmp_path)
    rows = list(csv.DictReader((run.folder / "pruned.csv").read_text().splitlines()))
    found = {row["path"] for row in rows}
    assert len(found & photos[1]) >= 0.8 * NUM_WRONG
    assert len(found - photos[1]) <= 0.2 * NUM_WRONG
    assert all(path.startswith("train/") for path in found)
    assert run.report.training.num_pruned == len(rows)
    assert run.report.training.num_images == 300
    splits = json.loads((run.folder / "splits.json").read_text())["splits"]
    assert {split: len(images) for split, images in splits.items()} == {"train": 300, "val": 100, "test": 100}
    assert "noisy_labels = true" in (run.folder / "run.toml").read_text()
    records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    (record,) = [record for record in records if record["kind"] == "noisy_labels"]
    assert (record["num_images"], record["num_pruned"]) == (300, len(rows))
    assert f"{len(rows)} of them left out for their labels" in (run.folder / "report.html").read_text()


@pytest.mark.slow
def test_a_resumed_run_leaves_out_the_same_images(photos, digits_run, tmp_path):
    config = config_for(photos, digits_run, recipe="finetune", epochs=2)
    *events, straight = train_events(config, name="straight", runs=tmp_path)
    steps = [event.step for event in events if isinstance(event, StepLog)]
    assert len(steps) == 2 * ((300 - straight.report.training.num_pruned) // 32)
    begun = train_events(config, name="run", runs=tmp_path)
    next(event for event in begun if isinstance(event, StepLog) and event.step == 4)
    next(begun)  # the checkpoint of step 4 is written after its event
    begun.close()
    *_, resumed = resume_events(tmp_path / "run")
    assert isinstance(resumed, Run)
    files = [sorted(run.bundle.iterdir()) for run in (straight, resumed)]
    hashes = [{path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in side} for side in files]
    assert hashes[0] == hashes[1]
    assert (resumed.folder / "pruned.csv").read_bytes() == (straight.folder / "pruned.csv").read_bytes()


def test_a_study_refuses_it():
    with pytest.raises(ConfigError, match="no effect on the trials of a study"):
        recog.tune("digits", config=TrainConfig(noisy_labels=True), trials=1)
