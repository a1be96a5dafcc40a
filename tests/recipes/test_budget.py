"""A time budget: what is refused, what is measured, and a run that its run.toml repeats without the clock."""

from __future__ import annotations

import time
import tomllib

import pytest

from recog.core.errors import ConfigError
from recog.recipes.budget import check_budget, plan_within
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig, with_options
from recog.recipes.cost import Budget
from recog.recipes.prepare import prepare_data
from recog.runs.folder import load_run_config
from recog.training.config import OptimConfig
from recog.training.distributed import World
from recog.training.schedule import StopConfig
from recog.verbs.train import Note, Run, train_events

DIGITS = TrainConfig(data=DataConfig(source="digits"), compute=ComputeConfig(num_threads=1))


def budget(seconds: float) -> Budget:
    return Budget(seconds=seconds, started=time.perf_counter())


@pytest.fixture(scope="module")
def digits():
    return prepare_data(DIGITS, world=World())


@pytest.mark.parametrize(
    ("config", "options", "named"),
    [
        (TrainConfig(optim=OptimConfig(epochs=3)), {}, "optim.epochs"),
        (TrainConfig(stop=StopConfig(max_steps=3)), {}, "stop.max_steps"),
        (TrainConfig(), {"find_lr": True}, "--find-lr"),
    ],
)
def test_what_else_sets_the_time_is_refused(config, options, named):
    with pytest.raises(ConfigError, match=f"conflicts with .*{named}"):
        check_budget(config, World(), **{"find_lr": False} | options)


def test_several_processes_are_refused():
    with pytest.raises(ConfigError, match="give --epochs"):
        check_budget(TrainConfig(), World(size=2), find_lr=False)


def test_too_short_a_time_names_one_that_works(digits):
    with pytest.raises(
        ConfigError, match=r"--budget 1s is too short for 1,797 images .* needs --budget \d+[ms]"
    ) as caught:
        plan_within(DIGITS, digits, budget(1.0))
    assert caught.value.exit_code == 2


def test_more_time_plans_more_epochs_of_what_the_user_named(digits):
    config = with_options(DIGITS, {"recipe": "scratch", "model": "resnet8"}, {})
    plans = [plan_within(config, digits, budget(seconds)) for seconds in (60.0, 3600.0)]
    assert [found.config.model.name for found in plans] == ["resnet8", "resnet8"]
    epochs = [found.config.optim.epochs for found in plans]
    assert 1 <= epochs[0] < epochs[1]


def test_the_whole_run_and_its_repetition(tmp_path):
    """The repetition has no budget and no clock; its bundle has the same bytes."""
    config = with_options(DIGITS, {"model": "resnet8"}, {})
    events = list(train_events(config, name="budget", runs=tmp_path, budget=budget(25.0)))
    run = events[-1]
    assert isinstance(run, Run)
    assert any(isinstance(e, Note) and e.text.startswith("budget 25s: recipe scratch, resnet8") for e in events)
    written = tomllib.loads((run.folder / "run.toml").read_text())
    assert written["optim"]["epochs"] >= 1
    assert "budget" not in written
    *_, again = train_events(load_run_config(run.folder / "run.toml"), name="again", runs=tmp_path)
    assert (again.bundle / "recog.json").read_bytes() == (run.bundle / "recog.json").read_bytes()
