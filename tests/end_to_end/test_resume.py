"""A run that ended before its time goes on: from where, with which data, and to the same bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import recog
from recog.core.errors import CheckpointError, ConfigError, DataError, TrainingStopped
from recog.data.augment.policies import AugmentConfig
from recog.models.config import ModelConfig
from recog.models.networks.resnet import resnet8
from recog.recipes.config import ComputeConfig, DataConfig, LoaderConfig, TrainConfig
from recog.recipes.events import EpochResult, HeadLog
from recog.training.config import CheckpointConfig, OptimConfig
from recog.training.fit import StepLog
from recog.verbs.run import Note, Planned, Run
from recog.verbs.train import resume_events, train_events

EPOCHS, STEPS = 3, 5


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of 24 grey images 8 px wide, one brightness each under noise."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("dark", "grey", "light")):
        (folder / name).mkdir()
        for i in range(24):
            pixels = (90 * number + rng.integers(0, 60, (8, 8))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def config_for(photos):
    return TrainConfig(
        recipe="scratch",
        data=DataConfig(source=str(photos)),
        augment=AugmentConfig(mixup=0.4),
        loader=LoaderConfig(batch_size=10),
        optim=OptimConfig(epochs=EPOCHS, ema_decay=0.9, max_grad_norm=1.0),
        compute=ComputeConfig(num_threads=1, precision="bfloat16"),
        checkpoint=CheckpointConfig(every_steps=1),
    )


def hashes(bundle):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bundle.iterdir()}


def take(events, *, until):
    """The events up to the first for which `until` holds; then the run is left, as by a process that dies."""
    taken = []
    for event in events:
        taken.append(event)
        if until(event):
            break
    events.close()
    return taken


def after_step(number):
    return lambda event: isinstance(event, StepLog) and event.step == number


def saved(number):
    """The first event after the checkpoint of step `number`: a step is saved once its event has been seen."""
    seen = []

    def passed(event):
        if seen:
            return True
        seen.extend([event] if after_step(number)(event) else [])
        return False

    return passed


def folder_of(events):
    return next(event.folder for event in events if isinstance(event, Planned))


def run_of(events):
    return next(event for event in events if isinstance(event, Run))


def texts(events):
    return "\n".join(event.text for event in events if isinstance(event, Note))


@pytest.fixture(scope="module")
def uninterrupted(photos, tmp_path_factory):
    events = list(train_events(config_for(photos), name="run", runs=tmp_path_factory.mktemp("straight")))
    assert sum(isinstance(event, StepLog) for event in events) == EPOCHS * STEPS
    return run_of(events)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, STEPS, STEPS + 2, EPOCHS * STEPS])
def test_the_whole_bundle_is_that_of_an_uninterrupted_run(number, photos, uninterrupted, tmp_path):
    begun = take(train_events(config_for(photos), name="run", runs=tmp_path), until=saved(number))
    resumed = list(resume_events(folder_of(begun)))
    run = run_of(resumed)
    assert hashes(run.bundle) == hashes(uninterrupted.bundle)
    steps = [event.step for event in resumed if isinstance(event, StepLog)]
    assert steps == list(range(number + 1, EPOCHS * STEPS + 1))
    assert f"resuming from {folder_of(begun) / 'checkpoints'}" in texts(resumed)
    assert not (run.folder / "checkpoints").exists()
    records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    straight = [json.loads(line) for line in (uninterrupted.folder / "metrics.jsonl").read_text().splitlines()]
    for record in records + straight:
        record.pop("images_per_s", None)
    assert records == straight


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["head", "finetune"])
def test_other_recipes_go_on_too(recipe, photos, tmp_path):
    """A head is fitted anew, which is cheap; fine-tuning goes on where it was, its head as it had become."""
    torch.manual_seed(0)
    weights = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in resnet8(num_classes=3, in_chans=1).state_dict().items()}, weights)
    model = ModelConfig(name="resnet8", weights=str(weights), channels=1, image_size=(8, 8))
    config = dataclasses.replace(config_for(photos), recipe=recipe, model=model)
    if recipe == "head":  # which takes no settings of steps
        config = TrainConfig(recipe="head", data=config.data, model=model, compute=ComputeConfig(num_threads=1))
    straight = run_of(train_events(config, name="straight", runs=tmp_path))
    ended = saved(STEPS + 2) if recipe == "finetune" else lambda event: isinstance(event, HeadLog)
    begun = take(train_events(config, name="run", runs=tmp_path), until=ended)
    resumed = list(resume_events(folder_of(begun)))
    assert hashes(run_of(resumed).bundle) == hashes(straight.bundle)
    heads = [event for event in resumed if isinstance(event, HeadLog)]
    assert bool(heads) == (recipe == "head")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(photos, uninterrupted, tmp_path):
    begun = take(train_events(config_for(photos), name="run", runs=tmp_path), until=after_step(7))
    newest = max((folder_of(begun) / "checkpoints").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:1000])
    resumed = list(resume_events("run", runs=tmp_path))
    assert f"skipped a newer checkpoint: {newest.with_suffix('.json')}" in texts(resumed)
    assert hashes(run_of(resumed).bundle) == hashes(uninterrupted.bundle)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["in a step", "in an evaluation"])
def test_a_signal_ends_it_after_a_checkpoint(number, when, photos, uninterrupted, tmp_path, monkeypatch):
    from recog.recipes import learn

    config = dataclasses.replace(config_for(photos), checkpoint=CheckpointConfig())
    real = learn.collect_logits

    def interrupted(*args, **kwargs):
        if when == "in an evaluation" and len(steps) == STEPS:
            os.kill(os.getpid(), number)
        return real(*args, **kwargs)

    monkeypatch.setattr(learn, "collect_logits", interrupted)
    steps = []

    def train():
        for event in train_events(config, name="run", runs=tmp_path):
            if isinstance(event, StepLog):
                steps.append(event)
                if when == "in a step" and event.step == 3:
                    os.kill(os.getpid(), number)

    with pytest.raises(TrainingStopped, match=rf"stopped by {number.name} after step \d.*--resume") as caught:
        train()
    assert caught.value.exit_code == 128 + number
    assert len(steps) == (3 if when == "in a step" else STEPS)
    monkeypatch.setattr(learn, "collect_logits", real)
    resumed = list(resume_events(tmp_path / "run"))
    assert [event.log.epoch for event in resumed if isinstance(event, EpochResult)] == [1, 2, 3]
    weights = "model.safetensors"
    assert hashes(run_of(resumed).bundle)[weights] == hashes(uninterrupted.bundle)[weights]


@pytest.mark.slow
def test_before_the_first_checkpoint_it_begins_anew(photos, uninterrupted, tmp_path):
    begun = take(train_events(config_for(photos), name="run", runs=tmp_path), until=lambda e: isinstance(e, Planned))
    (folder_of(begun) / "bundle.tmp-7-aa").mkdir()
    resumed = list(resume_events(folder_of(begun)))
    assert hashes(run_of(resumed).bundle) == hashes(uninterrupted.bundle)
    assert not list(folder_of(begun).glob("*.tmp-*"))
    with pytest.raises(CheckpointError, match="is finished: there is nothing to resume"):
        list(resume_events(folder_of(begun)))


def test_other_data_are_refused_and_named(photos, tmp_path):
    import shutil

    own = shutil.copytree(photos, tmp_path / "photos")
    begun = take(train_events(config_for(own), name="run", runs=tmp_path), until=after_step(2))
    (own / "dark" / "0.png").unlink()
    shutil.copy(own / "grey" / "1.png", own / "grey" / "new.png")
    with pytest.raises(DataError, match=r"have changed since it started.*dark/0\.png is gone; grey/new\.png is new"):
        list(resume_events(folder_of(begun)))


@pytest.mark.slow
def test_moved_data_go_on_from_their_new_place(photos, uninterrupted, tmp_path):
    """The run's folder is moved too, and reached through a link."""
    copied = shutil.copytree(photos, tmp_path / "work/photos")
    begun = take(train_events(config_for(copied), name="run", runs=tmp_path / "work/runs"), until=saved(1))
    assert folder_of(begun) == tmp_path / "work/runs/run"
    (tmp_path / "work/photos").rename(tmp_path / "elsewhere")
    (tmp_path / "work/runs").rename(tmp_path / "disk")
    (tmp_path / "work/runs").symlink_to(tmp_path / "disk")
    with pytest.raises(DataError, match="they or the run were moved"):
        list(resume_events(tmp_path / "work/runs/run"))
    resumed = list(resume_events(tmp_path / "work/runs/run", source=str(tmp_path / "elsewhere")))
    name = "model.safetensors"
    assert hashes(run_of(resumed).bundle)[name] == hashes(uninterrupted.bundle)[name]


def test_changed_settings_are_refused_and_named(photos, tmp_path):
    begun = take(train_events(config_for(photos), name="run", runs=tmp_path), until=after_step(2))
    path = folder_of(begun) / "run.toml"
    path.write_text(path.read_text().replace("ema_decay = 0.9", "ema_decay = 0.99"))
    with pytest.raises(CheckpointError, match=r"config\.optim\.ema_decay was 0\.9 and is 0\.99 now"):
        list(resume_events(folder_of(begun)))


def test_nothing_else_can_be_given():
    with pytest.raises(ConfigError, match="leave out lr, name"):
        recog.train("digits", lr=0.1, name="b", resume="a")
    with pytest.raises(ConfigError, match="leave out config"):
        recog.train(config=TrainConfig(), resume="a")
    with pytest.raises(CheckpointError, match="there is no run 'nowhere'"):
        recog.train(resume="nowhere")
