import pytest
import timm
import torch
from torch import nn

from recog.core.errors import ConfigError
from recog.models.resnet import resnet8
from recog.training.optim import OptimConfig, build_optimizer


def groups_by_name(network, head, **settings):
    """Parameter name -> the group that it is in."""
    optimizer = build_optimizer(network, head, OptimConfig(lr=0.1, **settings))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}


def networks():
    ours = resnet8(num_classes=3, in_chans=1)
    vit = timm.create_model("test_vit", num_classes=3)
    return [(ours, ours.fc), (vit, vit.head)]


@pytest.mark.parametrize(("network", "head"), networks(), ids=["resnet8", "test_vit"])
def test_every_parameter_is_in_one_group(network, head):
    optimizer = build_optimizer(network, head, OptimConfig())
    ids = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(ids) == sorted(id(parameter) for parameter in network.parameters())


@pytest.mark.parametrize(("network", "head"), networks(), ids=["resnet8", "test_vit"])
def test_norms_and_biases_are_not_decayed(network, head):
    groups = groups_by_name(network, head, weight_decay=0.01)
    norms = {
        f"{name}.{kind}"
        for name, module in network.named_modules()
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm))
        for kind in ("weight", "bias")
    }
    assert norms
    for name, group in groups.items():
        decays = not (name in norms or name.endswith(".bias"))
        assert group["weight_decay"] == (0.01 if decays else 0), name


def test_the_head_has_its_own_rate():
    network, head = networks()[0]
    groups = groups_by_name(network, head, head_lr_factor=10.0)
    assert {name for name, group in groups.items() if group["lr_factor"] == 10} == {"fc.weight", "fc.bias"}
    assert {group["lr_factor"] for name, group in groups.items() if not name.startswith("fc.")} == {1}
    assert groups["fc.bias"]["weight_decay"] == 0


def test_frozen_parameters_are_left_out():
    network, head = networks()[0]
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for parameter in head.parameters():
        parameter.requires_grad_(True)
    assert set(groups_by_name(network, head)) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_is_nesterovs(momentum):
    network, head = networks()[0]
    optimizer = build_optimizer(network, head, OptimConfig(momentum=momentum))
    assert isinstance(optimizer, torch.optim.SGD)
    assert all((g["momentum"], g["nesterov"]) == (momentum, momentum > 0) for g in optimizer.param_groups)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("epochs", [0, -1]),
        ("lr", [0.0, -0.1, NAN, INF]),
        ("momentum", [-0.1, 1.0, NAN]),
        ("warmup_fraction", [-0.1, 1.0]),
        ("weight_decay", [-1e-4, NAN, INF]),
        ("head_lr_factor", [-1.0, NAN, INF]),
    ],
)
def test_impossible_settings_are_refused(name, values):
    for value in values:
        with pytest.raises(ConfigError, match=rf"optim\.{name} is {value}; it must be"):
            OptimConfig(**{name: value})
