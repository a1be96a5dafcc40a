"""The names of settings and values, and what is suggested for those of other tools."""

import dataclasses
import json
import typing
from dataclasses import replace
from pathlib import Path

import pytest

from recog.bundle.manifest import read_manifest
from recog.cli import FLAGS
from recog.core.config import SETTINGS_ELSEWHERE, VALUES_ELSEWHERE, build_config, override, suggest_settings
from recog.core.errors import BundleError, ConfigError
from recog.models.config import ModelConfig
from recog.recipes.config import DataConfig, TrainConfig, with_options, with_parent
from recog.recipes.events import HeadChoice
from recog.training.config import OptimConfig


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
        ("loss.name=ce", "must be one of cross-entropy, focal, gce, bce, mse. Did you mean 'cross-entropy'?"),
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


GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1"  # a resnet8 by recipe scratch, grey and 8 x 8
DIGEST = json.loads((GOLDEN / "recog.json").read_bytes())["digest"]


def config(recipe=None, optim=None, **model):
    return TrainConfig(
        recipe=recipe, optim=optim or OptimConfig(), model=ModelConfig(**{"parent": str(GOLDEN), **model})
    )


def test_a_run_without_a_parent_is_unchanged():
    assert with_parent(TrainConfig()) == (TrainConfig(), [])


def test_the_parent_brings_network_preprocessing_and_recipe():
    continued, reasons = with_parent(config())
    model = continued.model
    assert (continued.recipe, model.name, model.image_size, model.channels) == ("finetune", "resnet8", (8, 8), 1)
    assert (model.mean, model.std, model.parent_digest) == ((0.304402,), (0.375538,), DIGEST)
    assert reasons == [
        "recipe finetune, as the parent was trained by scratch; it starts from the parent's whole network"
    ]
    assert with_parent(continued) == (continued, [])  # as a resumed run reads it


@pytest.mark.parametrize(
    ("recipe", "optim", "expected"),
    [
        ("head", None, "recipe head: the parent was trained by it"),
        ("head", OptimConfig(epochs=3), "recipe finetune, as head does not use optim.epochs;"),
        ("finetune", None, "recipe finetune, as the parent was trained by finetune"),
        (None, None, "recipe finetune, as the parent was trained by another program"),
    ],
)
def test_the_recipe_is_the_parents_unless_a_setting_needs_steps(recipe, optim, expected, monkeypatch):
    monkeypatch.setattr("recog.recipes.config._recipe_of", lambda _: recipe)
    assert with_parent(config(optim=optim))[1][0].startswith(expected)


def test_what_is_set_wins():
    model = with_parent(config(image_size=(16, 16), mean=(0.5,), std=(0.5,), channels=1))[0].model
    assert (model.image_size, model.mean, model.std) == ((16, 16), (0.5,), (0.5,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "resnet20"}, "is a bundle of resnet8, but model.name is resnet20; leave --model out"),
        ({"weights": "other.pth"}, "brings its own weights, but model.weights is other.pth; leave one of them out"),
        ({"weights": "none"}, "brings its own weights, but model.weights is none; leave one of them out"),
        ({"channels": 3}, "takes grey images, so --channels 3 is not possible"),
        ({"parent_digest": "0" * 64}, "is another bundle than this config was planned for"),
        ({"parent": "", "parent_digest": DIGEST}, f"no parent is named; give the bundle .* --from BUNDLE: {DIGEST}"),
    ],
)
def test_what_contradicts_the_parent_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        with_parent(config(**changes))


def test_a_parent_that_does_not_exist_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="there is no bundle or run 'absent'"):
        with_parent(config(parent="absent"))


def test_a_new_parent_replaces_the_one_of_the_config_file():
    planned = with_parent(config())[0]
    assert with_options(planned, {"parent": "other"}, {}).model.parent_digest == ""
    assert with_options(planned, {}, {}).model.parent_digest == DIGEST


def test_the_level_that_is_white_in_16_bit_images_is_the_parents(monkeypatch):
    preprocess = replace(read_manifest(GOLDEN).preprocess, grey16_max=4095)
    manifest = replace(read_manifest(GOLDEN), preprocess=preprocess)
    monkeypatch.setattr("recog.recipes.config.read_manifest", lambda _: manifest)
    assert with_parent(config())[0].data.grey16_max == 4095
    own = replace(config(), data=DataConfig(grey16_max=255))
    assert with_parent(own)[0].data.grey16_max == 255


@pytest.mark.parametrize(
    ("keeps_parent", "parent_score", "fitted_score", "text"),
    [
        (True, 0.9, 0.8, "the parent's last layer: val 90.0%; a new one has 80.0%"),
        (False, 0.8, 0.9, "a new last layer: val 90.0%; the parent's one has 80.0%"),
        (False, 0.9, 0.9, "a new last layer: the parent's one has val 90.0% too, but no lower NLL"),
    ],
)
def test_the_choice_of_the_last_layer_is_stated(keeps_parent, parent_score, fitted_score, text):
    choice = HeadChoice(keeps_parent=keeps_parent, parent_score=parent_score, fitted_score=fitted_score)
    assert str(choice) == f"training begins with {text}"
