"""The names of settings and values, and what is suggested for those of other tools."""

import dataclasses
import typing

import pytest

from recog.cli import FLAGS
from recog.core.config import SETTINGS_ELSEWHERE, VALUES_ELSEWHERE, build_config, override, suggest_settings
from recog.core.errors import ConfigError
from recog.recipes.config import TrainConfig


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("epochs", "optim.epochs"),
        ("epoch", "optim.epochs"),
        ("img_size", "model.image_size"),
        ("imgsz", "model.image_size"),
        ("image_size", "model.image_size"),
        ("learning_rate", "optim.lr"),
        ("optim.lrr", "optim.lr"),
        ("batch_size", "loader.batch_size"),
        ("device", "compute.device"),
        ("optimizer", "optim.name"),
        ("patience", "stop.patience"),
        ("dropout", "model.drop_rate"),
        ("label_smooting", "loss.label_smoothing"),
    ],
)
def test_a_setting_is_suggested_by_its_whole_key(name, meant):
    assert suggest_settings(name, TrainConfig) == [meant]


def test_every_setting_and_value_that_is_suggested_exists():
    def leaves(cls, prefix=""):
        for name, hint in typing.get_type_hints(cls).items():
            if dataclasses.is_dataclass(hint):
                yield from leaves(hint, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", hint

    def choices(hint):
        if typing.get_origin(hint) is typing.Literal:
            return set(typing.get_args(hint))
        return set().union(*map(choices, typing.get_args(hint)))

    settings = dict(leaves(TrainConfig))
    assert set(SETTINGS_ELSEWHERE.values()) <= settings.keys()
    assert set(FLAGS) <= settings.keys()
    assert set(VALUES_ELSEWHERE.values()) <= set().union(*map(choices, settings.values()))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("loss.name=ce", "must be one of cross-entropy, focal, bce, mse. Did you mean 'cross-entropy'?"),
        ("loss.name=Cross_Entropy", "Did you mean 'cross-entropy'?"),
        ("compute.device=gpu", "must be one of auto, cpu, cuda. Did you mean 'cuda'?"),
        ("compute.precision=fp16", "Did you mean 'float16'?"),
        ("recipe=fine-tune", "Did you mean 'finetune'?"),
    ],
)
def test_a_value_is_suggested_by_what_it_means_and_the_choices_are_listed_once(setting, message):
    with pytest.raises(ConfigError) as caught:
        build_config(TrainConfig, override({}, [setting]))
    assert message in str(caught.value)
    assert "Known:" not in str(caught.value)
