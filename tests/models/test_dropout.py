"""Rates reach the layers that heed them, in training only; a rate that would do nothing is refused."""

import pytest
import torch

from recog.core.errors import ConfigError
from recog.models.build import build_model
from recog.models.config import ModelConfig
from recog.training.fit import eval_mode


def built(name, **rates):
    torch.manual_seed(0)
    return build_model(ModelConfig(name=name, weights="none", **rates), num_classes=3)


def spread(model):
    """How far two training-mode answers to the same images are apart: 0 without chance in the network."""
    height, width = model.preprocess.image_size
    images = torch.randint(0, 256, (4, height, width, model.preprocess.channels), dtype=torch.uint8)
    classifier = model.classifier
    with torch.no_grad(), eval_mode(classifier):
        for module in classifier.modules():
            is_norm = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
            module.train(not is_norm)
            if is_norm:
                module.weight.fill_(1)  # timm's residual networks begin with branches that give zero
        first, second = classifier(images)[0], classifier(images)[0]
    return float((first - second).abs().max())


TAKING = [
    *((name, "drop_rate") for name in ("test_vit", "test_convnext", "test_efficientnet", "test_resnet")),
    # the tiny efficientnet has no shortcut beside which a branch could be left out, the tiny ViT one block, whose rate is 0
    *((name, "drop_path_rate") for name in ("test_vit2", "test_convnext", "tf_efficientnet_lite0", "test_resnet")),
]


@pytest.mark.parametrize(("name", "rate"), TAKING)
def test_a_rate_of_timms_networks_makes_training_differ_by_chance(name, rate):
    assert spread(built(name)) == 0
    model = built(name, **{rate: 0.6})
    assert spread(model) > 0
    images = torch.zeros((1, *model.preprocess.image_size, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(model.classifier(images)[0], model.classifier(images)[0])  # as it is built: evaluation


def test_our_own_dropout_takes_the_rate():
    model = built("cnn_32_64", drop_rate=0.1)
    assert {m.p for m in model.classifier.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}
    assert spread(built("cnn_32_64", drop_rate=0.0)) == 0
    assert spread(built("cnn_32_64")) > 0  # the tutorial's own rates


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("resnet8", "drop_rate"),
        ("resnet8", "drop_path_rate"),
        ("cnn_32_64", "drop_path_rate"),
        ("vgg11", "drop_path_rate"),
    ],
)
def test_a_rate_that_no_layer_uses_is_refused(name, rate):
    with pytest.raises(ConfigError, match=f"model.{rate} is set, but {name} has no drop"):
        built(name, **{rate: 0.2})


def test_a_rate_of_zero_asks_for_nothing():
    assert spread(built("resnet8", drop_rate=0.0, drop_path_rate=0.0)) == 0


@pytest.mark.parametrize("name", ["drop_rate", "drop_path_rate"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_impossible_rates_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"model.{name} is {value}; it must be"):
        ModelConfig(**{name: value})
