"""The rate that a range test suggests, and that nothing else of the run is touched by it."""

import hashlib
import json

import pytest
import torch

from recog.core.errors import ConfigError
from recog.recipes.config import ComputeConfig, DataConfig, LoaderConfig, TrainConfig
from recog.recipes.find_lr import LR_PLOT, LR_TRIALS, check_find_lr, find_lr, run_range_test
from recog.recipes.prepare import prepare
from recog.runs.folder import load_run_config
from recog.training.config import OptimConfig
from recog.verbs.run import Note, Run
from recog.verbs.train import train_events


def config(lr=None, **changes):
    return TrainConfig(
        data=DataConfig(source="digits"),
        optim=OptimConfig(epochs=1, lr=lr),
        loader=LoaderConfig(batch_size=64),
        compute=ComputeConfig(num_threads=1),
        **changes,
    )


def weights_sha256(run):
    return hashlib.sha256((run.bundle / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
def test_the_training_after_it_is_that_with_the_suggested_rate(tmp_path):
    *events, found = train_events(config(), runs=tmp_path, choose_lr=True)
    assert isinstance(found, Run)
    written = load_run_config(found.folder / "run.toml").optim.lr
    assert written != 0.1
    assert any(f"learning rate {written:g} instead of the default 0.1" in e.text for e in events if isinstance(e, Note))
    *_, plain = train_events(config(lr=written), runs=tmp_path)
    assert weights_sha256(found) == weights_sha256(plain)
    assert (found.bundle / "run.toml").read_bytes() == (plain.bundle / "run.toml").read_bytes()
    trials = json.loads((found.folder / LR_TRIALS).read_text())
    assert trials["suggestion"] == written
    assert f"suggested: {written:g}" in (found.folder / LR_PLOT).read_text()


def test_the_range_test_touches_neither_weights_nor_chance():
    prepared = prepare(config())
    before = {key: value.clone() for key, value in prepared.model.classifier.state_dict().items()}
    modes = [module.training for module in prepared.model.classifier.modules()]
    state = torch.get_rng_state()
    assert run_range_test(prepared, usual_lr=0.1).trials
    assert torch.equal(torch.get_rng_state(), state)
    after = prepared.model.classifier.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert [module.training for module in prepared.model.classifier.modules()] == modes
    assert all(parameter.grad is None for parameter in prepared.model.classifier.parameters())


def test_where_no_rate_helps_the_usual_one_stays(tmp_path, monkeypatch):
    from recog.recipes import find_lr as module
    from recog.recipes.find_lr import LrRange, LrTrial

    flat = tuple(LrTrial(lr=10.0**power, loss=1.0, smoothed=1.0) for power in range(-5, 2))
    nothing = LrRange(trials=flat, suggestion=None, diverged=False)
    monkeypatch.setattr(module, "run_range_test", lambda prepared, usual_lr: nothing)
    prepared = prepare(config())
    same, text = find_lr(prepared, tmp_path)
    assert same.plan.optim.lr == 0.1
    assert "the loss hardly fell at any learning rate; keeping the default 0.1" in text


def test_a_rate_that_is_set_is_not_looked_for():
    with pytest.raises(ConfigError, match=r"optim.lr is set to 0.5, which conflicts with --find-lr; use only one"):
        check_find_lr(config(lr=0.5))


def test_a_head_takes_no_steps():
    with pytest.raises(ConfigError, match=r"recipe head has none\. Add --recipe finetune"):
        check_find_lr(config(recipe="head"))
    check_find_lr(config())
