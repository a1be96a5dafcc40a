import pytest
import timm
from timm.models._manipulate import group_parameters
from torch import nn

from recog.core.errors import ConfigError
from recog.models.networks.resnet import resnet8
from recog.training.optim import freeze_layers, layer_numbers


def test_our_own_network_counts_its_children_and_the_parts_of_its_sequences():
    numbers = layer_numbers(resnet8(num_classes=3, in_chans=1))
    assert numbers == {
        "conv1.weight": 0,
        "bn1.weight": 0,  # a norm belongs to what it follows
        "bn1.bias": 0,
        **{f"blocks.{i}.conv{j}.weight": i + 1 for i in range(3) for j in (1, 2)},
        **{f"blocks.{i}.bn{j}.{kind}": i + 1 for i in range(3) for j in (1, 2) for kind in ("weight", "bias")},
        "fc.weight": 4,
        "fc.bias": 4,
    }


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "resnet18", "test_efficientnet"])
def test_timms_networks_are_grouped_by_timm(name):
    network = timm.create_model(name, num_classes=3)
    numbers = layer_numbers(network)
    theirs = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    assert numbers == dict(theirs)
    assert set(numbers) == {parameter_name for parameter_name, _ in network.named_parameters()}
    head = {id(parameter) for parameter in network.get_classifier().parameters()}
    last = max(numbers.values())
    assert all(numbers[key] == last for key, parameter in network.named_parameters() if id(parameter) in head)


def test_a_weight_beside_the_layers_belongs_to_the_first():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(nn.init.ones_(nn.Linear(1, 1).weight.data))
            self.norm = nn.BatchNorm2d(1)
            self.fc = nn.Linear(2, 2)

    numbers = layer_numbers(Odd())
    assert (numbers["scale"], numbers["norm.weight"], numbers["fc.weight"]) == (0, 0, 1)


def test_the_first_layers_are_frozen():
    network = resnet8(num_classes=3, in_chans=1)
    freeze_layers(network, 2)
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"conv1", "bn1", "blocks"}
    assert all(name.startswith(("conv1", "bn1", "blocks.0.")) for name in frozen)
    assert len(frozen) == 3 + 6


def test_none_is_frozen_by_default():
    network = resnet8(num_classes=3, in_chans=1)
    freeze_layers(network, 0)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("count", [5, 9])
def test_the_head_must_be_left(count):
    with pytest.raises(
        ConfigError, match=f"optim.freeze_layers is {count}, and the network has 5 layers.*--recipe head"
    ):
        freeze_layers(resnet8(num_classes=3, in_chans=1), count)
