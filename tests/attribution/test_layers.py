import pytest
import torch
from small_subjects import linear_network, subject_of_classifier, timm_network

from recog.attribution.layers import choose_layer, frozen, layout_of
from recog.core.errors import ConfigError
from recog.models.build import build_model
from recog.models.config import ModelConfig


@pytest.mark.parametrize(
    ("name", "layer", "kind", "grid"),
    [
        ("test_resnet", "layer4", "channels-first", (4, 4)),
        ("test_efficientnet", "bn2", "channels-first", (4, 4)),
        ("test_convnext", "stages", "channels-first", (4, 4)),
        # a class token reads the patches for the last time in the last block's attention
        ("test_vit", "blocks.5.norm1", "tokens", (8, 8)),
        ("test_mambaout", "stages", "channels-last", (4, 4)),
    ],
)
def test_the_layer_of_five_families(name, layer, kind, grid):
    chosen = timm_network(name, size=128).layer
    assert (chosen.name, chosen.layout.kind, chosen.layout.grid) == (layer, kind, grid)


def test_small_images_take_an_earlier_layer_with_places():
    assert timm_network("test_resnet", size=32).layer.layout.num_positions >= 16


def test_a_network_of_the_table():
    model = build_model(ModelConfig(name="lenet5", weights="none"), num_classes=3)
    layer = subject_of_classifier(model.classifier, model.preprocess.image_size).layer
    assert (layer.name, layer.layout.grid) == ("body", (5, 5))


def test_a_network_without_places_lists_what_it_has():
    with pytest.raises(ConfigError, match="it consists of Flatten, Identity, Linear. Use occlusion, rise"):
        choose_layer(linear_network([[[1.0, 2.0]], [[0.0, 1.0]]]).classifier, (1, 2))


def test_layouts():
    network = torch.nn.Identity()
    cases = {
        (1, 8, 6, 4): ("channels-first", (6, 4), 0),
        (1, 6, 4, 8): ("channels-last", (6, 4), 0),
        (1, 24, 8): ("tokens", (6, 4), 0),
        (1, 25, 8): ("tokens", (6, 4), 1),  # a class token first
        (1, 29, 8): ("tokens", (6, 4), 5),  # and registers
    }
    for shape, expected in cases.items():
        layout = layout_of(torch.zeros(shape), network, (96, 64))
        assert (layout.kind, layout.grid, layout.num_prefix) == expected
    assert layout_of(torch.zeros(1, 8, 1, 1), network, (96, 64)) is None
    assert layout_of(torch.zeros(1, 3, 197, 64), network, (224, 224)) is None  # heads of an attention


def test_tokens_as_maps_leave_the_class_token_out():
    layout = layout_of(torch.zeros(1, 25, 2), torch.nn.Identity(), (96, 64))
    tokens = torch.arange(50.0).reshape(1, 25, 2)
    maps = layout.as_maps(tokens)
    assert maps.shape == (1, 2, 6, 4)
    assert maps[0, 0, 0].tolist() == [2, 4, 6, 8]  # the first row, after the class token's 0


def test_a_frozen_network_is_returned_as_found():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    network[0].bias.requires_grad_(False)

    def fail():
        with frozen(network):
            assert not network.training
            assert not network[0].weight.requires_grad
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert network.training
    assert (network[0].weight.requires_grad, network[0].bias.requires_grad) == (True, False)
