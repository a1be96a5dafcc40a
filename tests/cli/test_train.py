"""The flags of `recog train` and what they set."""

import inspect
import re
import signal
from pathlib import Path

import pytest
import typer
from containers import labelled_pngs, write_folder

from recog.cli import train as command
from recog.core.config import build_config, config_to_dict
from recog.core.errors import ConfigError
from recog.recipes.config import OPTIONS, TrainConfig, unused_settings
from recog.training.config import OptimConfig
from recog.verbs import train
from recog.verbs.python import embedded


@pytest.fixture
def seen(monkeypatch):
    """(config, whether a rate is looked for) of each training that would have begun."""
    seen = []

    def no_events(config, *, name, choose_lr, dataset, network=None, budget=None, clock=None):
        seen.append((config, choose_lr))
        budgets.append(None if budget is None else budget.seconds)
        return iter(())

    monkeypatch.setattr(signal, "signal", lambda *_: None)  # a command's handlers are not for this process
    for module in (train, embedded):
        monkeypatch.setattr(module, "train_events", no_events)
    return seen


budgets: list[float | None] = []  # of the commands so far, in seconds
GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1"


@pytest.fixture
def chosen(seen):
    """What `recog train` with some flags would train with: (config, whether a rate is looked for)."""

    def of(**flags):
        command.train(**flags)
        return seen.pop()

    return of


@pytest.fixture
def chosen_in_python(seen):
    """The config that `recog.train` with some arguments would train with."""

    def of(*arguments, **keywords):
        with pytest.raises(ConfigError, match="ended without a run"):
            embedded.train(*arguments, **keywords)
        return seen.pop()[0]

    return of


def test_the_flags_of_an_optimiser(chosen):
    config, find_lr = chosen(data="digits", optimizer="adamw", lr=0.002, batch_size=16)
    assert (config.optim.name, config.optim.lr, config.loader.batch_size, find_lr) == ("adamw", 0.002, 16, False)


def test_what_is_not_given_is_left_to_the_plan(chosen):
    config, find_lr = chosen(data="digits", find_lr=True)
    assert (config.optim.name, config.optim.lr, config.loader.batch_size, find_lr) == (None, None, None, True)


def test_threads_are_recorded_in_the_run(chosen):
    config, _ = chosen(data="digits", threads=3)
    assert config.compute.num_threads == 3


def test_the_layout_of_the_data_is_recorded_in_the_run(chosen, tmp_path):
    for split in ("one", "two"):
        write_folder(labelled_pngs(2), tmp_path / split)
    config, _ = chosen(data=str(tmp_path), split_folders="train=one, test=two", classes_at_depth=2, group="(.).png")
    assert (config.data.split_folders, config.data.classes_at_depth) == (("train=one", "test=two"), 2)
    assert build_config(TrainConfig, config_to_dict(config)).data.layout == config.data.layout  # as run.toml is read
    assert config.data.layout.group == "(.).png"


def test_where_the_labels_are_is_recorded_in_the_run(chosen, tmp_path):
    for name, i in (images := labelled_pngs(2)):
        (tmp_path / f"{name}_{i}.png").write_bytes(images[name, i])
        (tmp_path / f"{name}_{i}-gt.png").write_bytes(images[name, i])
    config, _ = chosen(data=str(tmp_path), label_pattern="{label}_{number}", exclude=["*-gt.png"])
    assert (config.data.label_pattern, config.data.exclude) == ("{label}_{number}", ("*-gt.png",))
    assert build_config(TrainConfig, config_to_dict(config)).data.layout == config.data.layout


def test_a_parent_is_recorded_in_the_run(chosen):
    config, _ = chosen(data="digits", parent=str(GOLDEN), device="cpu")
    assert (config.model.parent, config.compute.device) == (str(GOLDEN), "cpu")
    assert config.recipe is None  # the plan takes the parent's, and states why


def test_any_other_setting_goes_through_set(chosen):
    settings = ["optim.layer_decay=0.75", "schedule.name=one-cycle", "stop.patience=3", "loss.name=focal"]
    config, _ = chosen(data="digits", lr=0.5, settings=[*settings, "optim.lr=0.1"])
    assert (config.optim.layer_decay, config.schedule.name, config.stop.patience) == (0.75, "one-cycle", 3)
    assert (config.loss.name, config.optim.lr) == ("focal", 0.1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"optimizer": "adamv"}, "--optimizer is 'adamv'; it must be one of sgd, adam, adamw, rmsprop, muon."),
        ({"lr": 0.0}, "--lr is 0.0; it must be above 0"),
        ({"settings": ["compute.num_threads=-1"]}, "compute.num_threads is -1; it must be from 1 to 1024."),
    ],
)
def test_a_users_mistake_ends_with_its_remedy(chosen, flags, message, capsys):
    with pytest.raises(typer.Exit) as stopped:
        chosen(data="digits", **flags)
    assert stopped.value.exit_code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_budget_is_read_in_both_and_is_no_setting(chosen, chosen_in_python):
    assert chosen(data="digits", budget="1m30s")[0] == chosen_in_python("digits", budget="90s")
    assert budgets[-2:] == [90.0, 90.0]


def test_a_budget_without_a_unit_is_a_mistake(chosen, capsys):
    with pytest.raises(typer.Exit) as stopped:
        chosen(data="digits", budget="90")
    assert stopped.value.exit_code == 2
    assert "--budget is '90'; expected a time with its unit, such as 90s" in " ".join(capsys.readouterr().err.split())


def test_the_command_and_the_python_function_have_every_option():
    in_python = inspect.signature(embedded.train).parameters
    in_command = inspect.signature(command.train).parameters
    assert set(OPTIONS) <= set(in_python)
    assert set(OPTIONS) <= set(in_command)
    others = {"data", "config", "settings", "find_lr", "budget", "tune", "name", "resume", "as_json", "verbose"}
    assert set(in_command) == set(OPTIONS) | others


def test_options_of_python_set_what_those_of_the_command_set(chosen, chosen_in_python):
    given = {
        "recipe": "scratch",
        "model": "resnet8",
        "channels": 1,
        "epochs": 2,
        "lr": 0.01,
        "batch_size": 8,
        "seed": 3,
    }
    given |= {
        "optimizer": "adamw",
        "balance": "weights",
        "workers": 1,
        "bad_images": "skip",
        "min_images": 2,
        "threads": 1,
        "device": "cpu",
    }
    in_command, _ = chosen(data="digits", **given, settings=["stop.patience=3", "model.image_size=32"])
    assert chosen_in_python("digits", **given, settings={"stop.patience": 3, "model.image_size": 32}) == in_command
    assert (in_command.loss, in_command.optim.epochs, in_command.model.image_size) == (TrainConfig().loss, 2, (32, 32))


def test_options_go_over_a_config_and_settings_over_both(chosen_in_python, tmp_path):
    config = TrainConfig(seed=1, optim=OptimConfig(epochs=3, lr=0.5))
    (tmp_path / "run.toml").write_text("seed = 1\n[optim]\nepochs = 3\nlr = 0.5\n")
    for given in (config, tmp_path / "run.toml"):
        found = chosen_in_python("digits", given, epochs=4, seed=2, settings={"optim": {"lr": 0.25}, "seed": 7})
        assert (found.seed, found.optim.epochs, found.optim.lr) == (7, 4, 0.25)
        assert found.data.source == "digits"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": "adamv"}, "optim.name is 'adamv'; it must be one of sgd, adam"),
        ({"settings": {"optim.epoch": 3}}, "unknown setting 'optim.epoch'. Did you mean 'optim.epochs'?"),
        ({"config": [1]}, "config is of type list; expected a TrainConfig or a TOML file"),
        ({"lr": "fast"}, "optim.lr is 'fast'; it must be a number"),
    ],
)
def test_wrong_arguments_of_python_are_named(given, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        embedded.train("digits", **given)


def test_class_weights_of_ones_own(chosen, chosen_in_python):
    config, _ = chosen(data="digits", settings=["loss.class_weights.daisy=2", "loss.class_weights.St. John's wort=0.5"])
    assert config.loss.class_weights == {"daisy": 2.0, "St. John's wort": 0.5}  # a name may have dots
    assert build_config(TrainConfig, config_to_dict(config)) == config
    assert chosen_in_python("digits", settings={"loss.class_weights": {"daisy": 2, "St. John's wort": 0.5}}) == config
    for weight in (0, -1, "much"):
        with pytest.raises(ConfigError, match=r"loss.class_weights.daisy is .*; it must be"):
            embedded.train("digits", settings={"loss.class_weights.daisy": weight})
    assert unused_settings(config, "head") == {}
