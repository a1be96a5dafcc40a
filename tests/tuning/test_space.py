from dataclasses import replace

import pytest

from recog.core.errors import ConfigError
from recog.recipes.config import TrainConfig, with_options
from recog.tuning.space import DEFAULT, Dimension, active, read_space, suited


def space_of(text, tmp_path, config=None):
    path = tmp_path / "space.toml"
    path.write_text(text)
    return read_space(path, config or TrainConfig())


def test_every_row_of_the_table_is_valid():
    space = read_space(None, TrainConfig())
    assert space.dimensions == DEFAULT.dimensions
    assert {each.setting for each in space.of("head")} >= {"model.name", "model.image_size", "head.layers", "head.l2"}
    for recipe in ("finetune", "scratch"):
        assert {each.setting for each in space.of(recipe)} >= {
            *("optim.lr", "optim.weight_decay", "optim.name", "augment.policy", "optim.epochs"),
            *("loader.batch_size", "loss.label_smoothing", "model.name"),
        }


def test_a_file_narrows_extends_and_removes(tmp_path):
    text = """
    recipe = ["scratch"]
    [scratch]
    "model.name" = ["resnet8"]
    "optim.lr" = {low = 0.01, high = 1, log = true, when = "optim.name=sgd"}
    "optim.momentum" = {low = 0.5, high = 0.99}
    "loader.batch_size" = {low = 16, high = 64}
    "augment.policy" = false
    optim.ema_decay = [0.0, 0.9]
    """
    space = space_of(text, tmp_path)
    found = {each.setting: each for each in space.of("scratch")}
    assert space.recipes == ("scratch",)
    assert found["model.name"].choices == ("resnet8",)
    assert (found["optim.lr"].low, found["optim.lr"].high, found["optim.lr"].when) == (0.01, 1, ("optim.name", "sgd"))
    assert found["loader.batch_size"].is_whole
    assert not found["optim.momentum"].is_whole
    assert found["optim.ema_decay"].choices == (0.0, 0.9)
    assert "augment.policy" not in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('recipe = ["heads"]', "it must list some of head, finetune, scratch"),
        ("[scrach]", "unknown recipe 'scrach'.* Did you mean 'scratch'"),
        ("scratch = 3", "it must be a section"),
        ('[scratch]\n"optim.lrr" = [1.0]', "is no setting. Did you mean 'optim.lr'"),
        ('[scratch]\n"data.source" = ["x"]', "is not tuned"),
        ('[scratch]\n"seed" = [1]', "is not tuned"),
        ('[scratch]\n"optim.lr" = []', "has no choices"),
        ('[scratch]\n"optim.lr" = [0.1, 0.1]', "must be different"),
        ('[scratch]\n"optim.lr" = 0.1', "give a list of values"),
        ('[scratch]\n"optim.lr" = {low = 1}', "high is None"),
        ('[scratch]\n"optim.lr" = {low = 1, hight = 2}', "a table with hight"),
        ('[scratch]\n"optim.lr" = {low = 0.1, high = 0.1}', "an empty interval: low is 0.1 and high is 0.1"),
        ('[scratch]\n"optim.lr" = {low = 0, high = 0.1, log = true}', "must be above 0"),
        ('[scratch]\n"optim.lr" = {low = -1, high = 0.1}', "optim.lr is -1"),
        ('[scratch]\n"optim.nesterov" = {choices = [true], times_default = true}', "it takes factors"),
        ('[scratch]\n"model.name" = ["resnet9"]', "resnet9"),
        (
            '[scratch]\n"optim.lr" = {low = 0.1, high = 1, when = "optim.name"}',
            "expected another setting and its value",
        ),
        ('[scratch]\n"optim.lr" = {low = 0.1, high = 1, when = "optim.name=lion"}', "which is not in the space"),
        ('[head]\n"optim.lr" = [0.1]', "recipe head does not use optim.lr"),
    ],
)
def test_what_is_wrong_is_one_sentence(text, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        space_of(text, tmp_path)


def test_settings_of_the_command_are_not_searched():
    config = with_options(TrainConfig(), {"recipe": "head"}, {"head.method": "ridge", "model.image_size": 224})
    settings = {each.setting: each for each in read_space(None, config).of("head")}
    assert not {"head.method", "model.image_size", "head.l2"} & settings.keys()  # head.l2 is of logistic heads
    assert settings["head.ridge_l2"].when is None


def test_another_recipe_than_that_of_the_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--recipe is head, but .*space.toml searches recipes scratch"):
        space_of('recipe = "scratch"', tmp_path, with_options(TrainConfig(), {"recipe": "head"}, {}))


def test_a_space_suits_the_data():
    labels = suited(DEFAULT, recipes=("head", "scratch"), task="multilabel", networks=("resnet8",))
    settings = {each.name: each for each in labels.dimensions}
    assert not {"head/head.method", "head/head.ridge_l2", "scratch/loss.label_smoothing"} & settings.keys()
    assert settings["head/head.l2"].when is None
    assert "scratch/model.name" not in settings  # there is no choice
    several = suited(DEFAULT, recipes=("scratch",), task="multiclass", networks=("resnet8", "fastnet32"))
    (names,) = (each.choices for each in several.dimensions if each.setting == "model.name")
    assert names == ("resnet8", "fastnet32")
    assert {each.recipe for each in labels.dimensions} == {"head", "scratch"}
    named = replace(DEFAULT, recipes=("finetune",))
    assert suited(named, recipes=("scratch",), task="multiclass", networks=()).recipes == ("finetune",)


def test_conditions_decide_what_is_sampled():
    rows = (
        Dimension(recipe="head", setting="head.l2", low=0.1, high=1.0, when=("head.method", "logistic")),
        Dimension(recipe="head", setting="head.method", choices=("logistic", "ridge")),
        Dimension(
            recipe="head", setting="head.mirror", choices=(True,), when=("head.layers", "multi")
        ),  # not in the space
    )
    assert list(active(rows, lambda each: "ridge" if each.choices == ("logistic", "ridge") else 1)) == [
        "head/head.method",
        "head/head.mirror",
    ]
    assert "head/head.l2" in active(rows, lambda each: "logistic")


def test_values_in_words():
    row = Dimension(recipe="scratch", setting="optim.lr", low=0.1, high=10.0, log=True, times_default=True)
    assert str(row) == "0.1 to 10, log x default"
    assert row.contains(1.0)
    assert not row.contains(True)
    assert not Dimension(recipe="head", setting="head.mirror", choices=(False, True)).contains(0)
