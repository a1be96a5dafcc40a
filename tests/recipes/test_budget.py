"""A time budget: what is refused, what is measured, and a run that its run.toml repeats without the clock."""

from __future__ import annotations

import json
import time
import tomllib

import pytest
import torch

from recog.core.errors import ConfigError
from recog.recipes.budget import _Planner, check_budget, plan_within, prepare_within
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig, with_options
from recog.recipes.cost import Budget, NetworkSpeed, Speeds
from recog.recipes.prepare import prepare_data
from recog.runs.folder import load_run_config
from recog.training.config import HeadConfig, OptimConfig
from recog.training.distributed import World
from recog.training.schedule import StopConfig
from recog.verbs.run import Note, Run
from recog.verbs.train import train_events

DIGITS = TrainConfig(data=DataConfig(source="digits"), compute=ComputeConfig(num_threads=1))

RESNET8 = with_options(DIGITS, {"model": "resnet8"}, {})


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
        (TrainConfig(head=HeadConfig(compare=True)), {}, "head.compare"),
    ],
)
def test_what_else_sets_the_time_is_refused(config, options, named):
    with pytest.raises(ConfigError, match=f"conflicts with .*{named}"):
        check_budget(config, World(), **{"find_lr": False} | options)


def test_several_processes_are_refused():
    with pytest.raises(ConfigError, match="give --epochs"):
        check_budget(TrainConfig(), World(size=2), find_lr=False)


def test_too_short_a_time_is_refused_before_a_step_is_measured(digits, monkeypatch):
    monkeypatch.setattr("recog.recipes.budget._step_s", lambda *given, **named: pytest.fail("a step was measured"))
    with pytest.raises(
        ConfigError, match=r"--budget 1s is too short for 1,797 images .* give --budget \d+[ms]"
    ) as caught:
        plan_within(DIGITS, digits, budget(1.0))
    assert caught.value.exit_code == 2


@pytest.fixture
def steady(monkeypatch):
    """A machine on which an epoch of the digits takes 4,000 s, and nothing else takes time: the clock plays no part."""

    def measure(planner, budget):
        step_s = 4000 / planner.counts.train
        return Speeds(read_s=0.0, export_s=0.0, pace=0.0, networks={"resnet8": NetworkSpeed(step_s=step_s)})

    monkeypatch.setattr(_Planner, "measure", measure)


def test_what_is_measured_is_what_the_plan_needs(digits):
    planner = _Planner(RESNET8, digits, None)
    speeds = planner.measure(budget(3600))
    assert set(speeds.networks) == {"resnet8"}
    assert min(speeds.read_s, speeds.export_s, speeds.pace, speeds.networks["resnet8"].step_s) > 0
    assert planner.config_of(planner.candidates[0], 2).compute.precision is not None


def test_the_digits_are_too_small_for_the_fast_networks(digits):
    assert [each.network for each in _Planner(DIGITS, digits, None).candidates] == ["resnet8"]


def test_a_module_of_the_users_own_is_the_only_candidate(digits):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    config = with_options(DIGITS, {"channels": 1}, {"model.image_size": (8, 8)})
    planner = _Planner(config, digits, module)
    (only,) = planner.candidates
    assert only.recipe == "scratch"
    assert planner.measure(budget(3600)).networks[only.network].step_s > 0


def test_a_bundle_that_is_continued_keeps_its_network(digits, digits_run):
    planner = _Planner(with_options(DIGITS, {"parent": str(digits_run.bundle)}, {}), digits, None)
    assert [(each.recipe, each.network) for each in planner.candidates] == [("finetune", "resnet8")]


@pytest.mark.usefixtures("steady")
def test_more_time_plans_more_epochs_of_what_the_user_named(digits):
    """0.95 of the time holds 2 and 11 epochs of 4,000 s."""
    plans = [plan_within(RESNET8, digits, budget(seconds)) for seconds in (10_000, 50_000)]
    assert [(found.config.model.name, found.config.optim.epochs) for found in plans] == [
        ("resnet8", 2),
        ("resnet8", 11),
    ]


@pytest.mark.usefixtures("steady")
def test_the_whole_run_and_its_repetition(tmp_path):
    """The repetition has no budget and no clock; its bundle has the same bytes."""
    events = list(train_events(RESNET8, name="budget", runs=tmp_path, budget=budget(10_000)))
    run = events[-1]
    assert isinstance(run, Run)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any(text.startswith("budget 2h46m40s: recipe scratch, resnet8, 2 epochs; expected to end") for text in notes)
    assert run.report.training.budget_s is None  # of the run, not of its bundle
    assert json.loads((run.folder / "report.json").read_text())["training"]["budget_s"] == 10_000
    written = tomllib.loads((run.folder / "run.toml").read_text())
    assert written["optim"]["epochs"] == 2
    *_, again = train_events(load_run_config(run.folder / "run.toml"), name="again", runs=tmp_path)
    assert (again.bundle / "recog.json").read_bytes() == (run.bundle / "recog.json").read_bytes()


@pytest.mark.usefixtures("steady")
def test_a_run_whose_time_is_up_records_its_last_step(tmp_path, monkeypatch):
    """The deadline has passed in the first step; training ends there, and the recorded step repeats it."""
    monkeypatch.setattr(
        "recog.verbs.train.prepare_within", lambda *given, **named: (prepare_within(*given, **named)[0], 0.0)
    )
    *_, run = train_events(RESNET8, name="cut", runs=tmp_path, budget=budget(10_000))
    assert load_run_config(run.folder / "run.toml").stop.max_steps == 1
    *_, again = train_events(load_run_config(run.folder / "run.toml"), name="again", runs=tmp_path)
    assert again.report.training.cut_at_step == 1
    assert (again.bundle / "recog.json").read_bytes() == (run.bundle / "recog.json").read_bytes()
