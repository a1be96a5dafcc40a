from __future__ import annotations

import dataclasses
import os
import tomllib

import pytest

from recog.bundle.manifest import read_manifest
from recog.bundle.reference import read_reference
from recog.core.errors import ConfigError
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
from recog.runs.folder import load_run_config
from recog.runtime.predictor import verify
from recog.training.config import OptimConfig
from recog.verbs.python.embedded import train
from recog.verbs.train import train_events


def config(**changes):
    base = TrainConfig(
        data=DataConfig(source="digits"), optim=OptimConfig(epochs=1), compute=ComputeConfig(num_threads=1)
    )
    return dataclasses.replace(base, **changes)


def test_no_absolute_path_is_shipped(digits_run):
    for path in digits_run.bundle.iterdir():
        assert os.fsencode(digits_run.folder.parent) not in path.read_bytes(), path.name
        assert os.fsencode(os.path.expanduser("~/")) not in path.read_bytes(), path.name


def test_the_bundles_run_toml_is_the_runs(digits_run):
    shipped = tomllib.loads((digits_run.bundle / "run.toml").read_text())
    assert shipped == tomllib.loads((digits_run.folder / "run.toml").read_text())
    assert load_run_config(digits_run.folder / "run.toml").data.source == "digits"


@pytest.mark.parametrize("kind", ["synthetic", "none"])
def test_private_data_leave_no_picture_in_the_bundle(kind, tmp_path):
    *_, run = train_events(config(reference=kind), runs=tmp_path)
    reference = read_reference(run.bundle)
    assert reference.kind == kind
    assert len(reference.images) == (16 if kind == "synthetic" else 0)
    assert "data:image/png;base64" not in (run.folder / "report.html").read_text()
    assert verify(run.bundle).num_reference_images == len(reference.images)


def test_runs_are_numbered_and_a_chosen_name_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "digits-1").mkdir(parents=True)
    run = train("digits", config())
    assert run.folder.name == "digits-2"
    with pytest.raises(ConfigError, match="already exists"):
        train("digits", config(), name="digits-1")


def test_the_manifest_says_what_it_was_trained_on(digits_run):
    manifest = read_manifest(digits_run.bundle)
    assert manifest.data.name == "digits"
    assert dict(manifest.data.num_images) == {"train": 1168, "val": 269, "test": 360}
    assert manifest.data.fingerprint.startswith("sha256:")
    assert manifest.class_names == tuple("0123456789")


def test_training_without_data_says_what_to_name():
    with pytest.raises(ConfigError, match="no data to train on"):
        train(None)


@pytest.mark.parametrize("recipe", ["head", "finetune"])
def test_features_of_random_weights_are_refused(recipe, tmp_path):
    from recog.models.config import ModelConfig

    model = ModelConfig(name="resnet8", channels=1, image_size=(8, 8))
    asked = config(recipe=recipe, model=model, optim=OptimConfig())
    with pytest.raises(ConfigError, match=f"recipe {recipe} needs pretrained weights"):
        list(train_events(asked, runs=tmp_path))
