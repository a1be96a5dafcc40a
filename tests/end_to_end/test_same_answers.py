"""The promise that what was trained is what answers: the same config, workers, files and engines give the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recog.bundle.manifest import read_manifest
from recog.core.images.decode import decode
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
from recog.runs.folder import load_run_config
from recog.training.config import HeadConfig, OptimConfig
from recog.verbs.run import Run
from recog.verbs.train import train_events

TIMM_SCRIPT = """
import json, sys
import timm, torch
from PIL import Image
bundle, *files = sys.argv[1:]
model = timm.create_model(f"local-dir:{bundle}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
torch.set_num_threads(2)
rows = []
with torch.inference_mode():
    for file in files:
        rows.append(model(transform(Image.open(file).convert("RGB"))[None])[0].double().tolist())
assert not any(name.split(".")[0] == "recog" for name in sys.modules)
print(json.dumps(rows))
"""


def as_timm_would_see_it(file, converted):
    """The photo itself, or where it has a wide-gamut profile, which timm's transform ignores, its sRGB pixels as PNG."""
    pixels = decode(file)
    if np.array_equal(pixels, np.asarray(Image.open(file).convert("RGB"))):
        return file
    converted.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(converted / f"{file.stem}.png")
    return converted / f"{file.stem}.png"


def run_to_end(config, runs, name):
    *_, last = train_events(config, name=name, runs=runs)
    assert isinstance(last, Run)
    return last


def weights_sha256(run):
    return read_manifest(run.bundle).files["model.safetensors"]


def small_config(**optim):
    return TrainConfig(
        data=DataConfig(source="digits"),
        optim=OptimConfig(epochs=2, **optim),
        compute=ComputeConfig(num_threads=1),
    )


def test_run_toml_gives_the_identical_bundle_again(digits_run, tmp_path):
    config = load_run_config(digits_run.folder / "run.toml")
    again = run_to_end(config, tmp_path, "again")
    first, second = (read_manifest(run.bundle) for run in (digits_run, again))
    # every file of the bundle, byte for byte: weights, ONNX, report, reference images with their probabilities
    assert first.files == second.files
    assert first == second


@pytest.mark.parametrize("num_workers", [1, 2])
def test_loader_workers_change_nothing_but_who_does_the_work(digits_run, tmp_path, num_workers):
    import dataclasses

    config = small_config()
    config = dataclasses.replace(config, loader=dataclasses.replace(config.loader, num_workers=num_workers))
    run = run_to_end(config, tmp_path, "workers")
    assert weights_sha256(run) == weights_sha256(digits_run)
    pids = {
        line.split()[-1] for line in (run.folder / "debug.log").read_text().splitlines() if "made by process" in line
    }
    assert str(os.getpid()) not in pids
    assert len(pids) >= num_workers  # a new set of processes per epoch


def test_without_workers_this_process_does_the_work(digits_run):
    log = (digits_run.folder / "debug.log").read_text()
    assert f"batch made by process {os.getpid()}" in log


def test_another_seed_is_another_run(digits_run, tmp_path):
    import dataclasses

    run = run_to_end(dataclasses.replace(small_config(), seed=1), tmp_path, "seed-1")
    assert weights_sha256(run) != weights_sha256(digits_run)


def test_metrics_and_events_are_written(digits_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = [json.loads(line) for line in (digits_run.folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert [row["step"] for row in epochs] == [1, 2]
    steps = [row for row in rows if row["kind"] == "step"]
    # 1,797 digits less 360 for test and 269 for val leave 1,168, which are 18 full batches of 64 an epoch
    assert len(steps) == 2 * (1168 // 64)
    events = EventAccumulator(str(digits_run.folder / "tensorboard")).Reload()
    logged = [event.value for event in events.Scalars("epoch/val_accuracy")]
    assert logged == pytest.approx([row["val_accuracy"] for row in epochs])


def scaled_by_hand(logits, calibration):
    """What a reader of calibration.json without recog would do to the network's logits before the softmax."""
    if calibration["method"] == "temperature":
        return logits / calibration["temperature"]
    if calibration["method"] == "vector":
        return logits * np.array(calibration["factors"]) + np.array(calibration["offsets"])
    assert calibration["method"] == "none"
    return logits


@pytest.mark.slow
def test_timm_and_onnx_agree_on_200_photos(flowers, tmp_path):
    """design.md section 4: the ONNX file from image files against torch rebuilt from model.safetensors without recog."""
    import recog

    config = TrainConfig(recipe="head", head=HeadConfig(layers="last"), data=DataConfig(source=str(flowers)))
    run = run_to_end(config, tmp_path, "flowers")
    assert run.report.accuracy >= 0.85
    assert run.report.num_images == 200
    files = sorted((flowers / "test").rglob("*.jpg"))
    readable = [as_timm_would_see_it(file, tmp_path / "converted") for file in files]
    assert sum(file == seen for file, seen in zip(files, readable, strict=True)) >= 100
    script = tmp_path / "without_recog.py"
    script.write_text(TIMM_SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(run.bundle), *map(str, readable)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    theirs = np.array(json.loads(done.stdout))
    predictions = recog.load(run.bundle).predict(list(map(str, files)))
    logits = np.stack([prediction.logits for prediction in predictions])
    np.testing.assert_allclose(logits, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
    scaled = scaled_by_hand(theirs, json.loads((run.bundle / "calibration.json").read_text()))
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    their_probs = powers / powers.sum(axis=1, keepdims=True)
    probs = np.stack([prediction.probs for prediction in predictions])
    assert np.abs(probs - their_probs).max() <= 1e-4
    best_two = np.sort(their_probs, axis=1)[:, -2:]
    clear = best_two[:, 1] - best_two[:, 0] > 2e-4
    assert clear.sum() + (~clear).sum() == 200
    assert (probs.argmax(axis=1) == their_probs.argmax(axis=1))[clear].all()
    labels = [Path(file).parent.name for file in files]
    assert np.mean([p.label == label for p, label in zip(predictions, labels, strict=True)]) == run.report.accuracy
