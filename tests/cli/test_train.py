"""The flags of `recog train` and what they set."""

import signal

import pytest
import typer
from containers import labelled_pngs, write_folder

from recog.cli import train as command
from recog.core.config import build_config, config_to_dict
from recog.recipes.config import TrainConfig
from recog.verbs import train as recipe


@pytest.fixture
def chosen(monkeypatch):
    """What `train` with some flags would train with: (config, whether a rate is looked for)."""
    seen = []

    def no_events(config, *, name, choose_lr, dataset):
        seen.append((config, choose_lr))
        return iter(())

    monkeypatch.setattr(signal, "signal", lambda *_: None)  # a command's handlers are not for this process
    monkeypatch.setattr(recipe, "train_events", no_events)

    def of(**flags):
        command.train(**flags)
        return seen.pop()

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


def test_any_other_setting_goes_through_set(chosen):
    settings = ["optim.layer_decay=0.75", "schedule.name=one-cycle", "stop.patience=3", "loss.name=focal"]
    config, _ = chosen(data="digits", lr=0.5, settings=[*settings, "optim.lr=0.1"])
    assert (config.optim.layer_decay, config.schedule.name, config.stop.patience) == (0.75, "one-cycle", 3)
    assert (config.loss.name, config.optim.lr) == ("focal", 0.1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"optimizer": "adamv"}, "optim.name is 'adamv'; it must be one of sgd, adam, adamw, rmsprop, muon."),
        ({"lr": 0.0}, "optim.lr is 0.0; it must be above 0"),
        ({"settings": ["compute.num_threads=-1"]}, "compute.num_threads is -1; it must be from 1 to 1024."),
    ],
)
def test_a_users_mistake_ends_with_its_remedy(chosen, flags, message, capsys):
    with pytest.raises(typer.Exit) as stopped:
        chosen(data="digits", **flags)
    assert stopped.value.exit_code == 2
    assert message in " ".join(capsys.readouterr().err.split())
