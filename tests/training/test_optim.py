import json

import pytest
import timm
import torch
from safetensors.torch import load, save
from timm.optim import param_groups_layer_decay
from torch import nn

from recog.core.errors import ConfigError
from recog.models.inner_layers import InnerLayers
from recog.models.networks.resnet import resnet8
from recog.training.checkpoint import flatten_state, unflatten_state
from recog.training.config import DEFAULTS, OptimConfig
from recog.training.optim import OPTIMIZERS, build_optimizer, layer_numbers


def groups_by_name(network, head, **settings):
    """Parameter name -> the group that it is in."""
    optimizer = build_optimizer(network, head, OptimConfig(lr=0.1, **settings).filled(epochs=1))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}


def networks():
    ours = resnet8(num_classes=3, in_chans=1)
    vit = timm.create_model("test_vit", num_classes=3)
    return [(ours, ours.fc), (vit, vit.head)]


@pytest.mark.parametrize(("network", "head"), networks(), ids=["resnet8", "test_vit"])
def test_every_parameter_is_in_one_group(network, head):
    optimizer = build_optimizer(network, head, OptimConfig().filled(epochs=1))
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
        decays = not (name in norms or name.endswith(".bias") or name in ("cls_token", "pos_embed"))
        assert group["weight_decay"] == (0.01 if decays else 0), name


def test_the_head_has_its_own_rate():
    network, head = networks()[0]
    groups = groups_by_name(network, head, head_lr_factor=10.0)
    assert {name for name, group in groups.items() if group["lr_factor"] == 10} == {"fc.weight", "fc.bias"}
    assert {group["lr_factor"] for name, group in groups.items() if not name.startswith("fc.")} == {1}
    assert groups["fc.bias"]["weight_decay"] == 0


def test_biases_before_the_head_have_their_own_rate():
    network, head = networks()[0]
    groups = groups_by_name(network, head, head_lr_factor=10.0, bias_lr_factor=64.0)
    norms = {name for name, group in groups.items() if group["lr_factor"] == 64}
    assert norms == {name for name, _ in network.named_parameters() if "bn" in name and name.endswith(".bias")}
    assert groups["fc.bias"]["lr_factor"] == 10
    assert groups["bn1.weight"]["lr_factor"] == groups["conv1.weight"]["lr_factor"] == 1


def test_normalised_filters_turn_by_the_rate_whatever_the_scale_of_their_gradient():
    """16 filters begin each step with norm 4 together; the update's singular values are those of three steps by Newton-Schulz.

    Second method: the polynomial of Jordan (2024), "Muon", on the singular values themselves, in float64 (the optimiser's is
    bfloat16).
    """
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.Flatten(), nn.Linear(16, 2))
    config = OptimConfig(name="muon", lr=0.25, momentum=0.0, weight_decay=0.0, normalise_filters=True)
    optimizer = build_optimizer(network, network[2], config.filled(epochs=1))
    bank, last = network[0].weight, network[2].weight
    for scale in (1e-3, 1e3):
        bank.grad, last.grad = scale * torch.randn_like(bank), torch.zeros_like(last)
        before, last_before = bank.detach().clone(), last.detach().clone()
        optimizer.step()
        update = (bank.detach() - before * 4 / before.norm()) / 0.25
        expected = torch.linalg.svdvals(bank.grad.reshape(16, -1).double())
        expected /= expected.square().sum().sqrt()
        for _ in range(3):
            expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
        singular = torch.linalg.svdvals(update.reshape(16, -1)).double()
        torch.testing.assert_close(singular, expected.abs().sort(descending=True).values, rtol=0.03, atol=0.03)
        assert torch.equal(last, last_before)


def test_normalised_filters_are_for_muon():
    with pytest.raises(ConfigError, match="only muon has, and the optimiser is sgd"):
        OptimConfig(normalise_filters=True).filled(epochs=1)


def test_frozen_parameters_are_left_out():
    network, head = networks()[0]
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for parameter in head.parameters():
        parameter.requires_grad_(True)
    assert set(groups_by_name(network, head)) == {"fc.weight", "fc.bias"}


def test_what_timm_does_not_decay_is_not_decayed():
    network, head = networks()[1]
    groups = groups_by_name(network, head, weight_decay=0.01)
    assert network.no_weight_decay() >= {"pos_embed"}
    assert groups["pos_embed"]["weight_decay"] == 0
    assert groups["patch_embed.proj.weight"]["weight_decay"] == 0.01


@pytest.mark.parametrize("name", ["test_vit", "resnet18", "test_convnext"])
def test_layer_wise_rates_and_decay_are_timms(name):
    """Each parameter's factor and decay against timm's own grouping."""
    network = timm.create_model(name, num_classes=3)
    groups = groups_by_name(network, network.get_classifier(), layer_decay=0.7, weight_decay=0.02)
    exempt = network.no_weight_decay() if hasattr(network, "no_weight_decay") else ()
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    theirs = param_groups_layer_decay(network, 0.02, no_weight_decay_list=exempt, layer_decay=0.7)
    for group in theirs:
        for parameter in group["params"]:
            ours = groups[names[id(parameter)]]
            assert (ours["lr_factor"], ours["weight_decay"]) == (group["lr_scale"], group["weight_decay"])
    assert len({group["lr_factor"] for group in groups.values()}) > 2


def test_layers_of_a_head_on_inner_layers_are_those_of_the_network_below_it():
    plain = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True)
    expected = layer_numbers(plain)
    network = InnerLayers(plain, num_classes=3, in_chans=3, image_size=(64, 64))
    numbers = layer_numbers(network)
    assert {name: numbers.pop(f"fc.{name}") for name in ("weight", "bias")} == dict.fromkeys(
        ("weight", "bias"), max(expected.values()) + 1
    )
    assert numbers == {f"body.{name}": number for name, number in expected.items()}
    assert network.no_weight_decay() == {f"body.{name}" for name in plain.no_weight_decay()} != set()


def test_layer_wise_rates_of_our_own_network():
    network, head = networks()[0]
    groups = groups_by_name(network, head, layer_decay=0.5, head_lr_factor=3.0)
    factors = {name: group["lr_factor"] for name, group in groups.items() if name.endswith("weight")}
    assert factors["fc.weight"] == 3
    assert (factors["blocks.2.conv1.weight"], factors["blocks.0.bn1.weight"]) == (1 / 2, 1 / 8)
    assert factors["conv1.weight"] == factors["bn1.weight"] == 1 / 16


# the optimisers by name


def steps_of(optimizer_of, num_steps=4):
    """The weights of one small network after some steps along the same gradients."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 4))
    optimizer = optimizer_of(network)
    generator = torch.Generator().manual_seed(1)
    for _ in range(num_steps):
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = 0.01
        optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


def two_groups(network, decay):
    """Matrices decayed, the rest not, by hand."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


THEIRS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01, betas=(0.9, 0.999)),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.999)),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.01, alpha=0.9),
}


@pytest.mark.parametrize("name", THEIRS)
def test_a_named_optimiser_is_torchs_with_its_customary_numbers(name):
    decay = DEFAULTS[name].weight_decay
    ours = steps_of(lambda network: build_optimizer(network, network[2], OptimConfig(name=name).filled(epochs=1)))
    theirs = steps_of(lambda network: THEIRS[name](two_groups(network, decay)))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_muon_is_timms_on_the_body_and_adamw_elsewhere():
    def build(network, fallback=True):
        return timm.optim.create_optimizer_v2(
            network,
            "nmuon",
            lr=0.01,
            weight_decay=0.01,
            momentum=0.95,
            betas=(0.9, 0.95),
            fallback_list=("2.*",) if fallback else (),
        )

    ours = steps_of(lambda network: build_optimizer(network, network[2], OptimConfig(name="muon").filled(epochs=1)))
    theirs, other = steps_of(build), steps_of(lambda network: build(network, fallback=False))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    assert not torch.equal(theirs[4], other[4])  # the head is AdamW's, not orthogonalised


def test_muons_step_is_orthogonal_also_for_convolutions():
    """After one step from zero momentum, the change of a flattened kernel has nearly equal singular values."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8, 4))
    before = network[0].weight.detach().clone()
    optimizer = build_optimizer(
        network, network[2], OptimConfig(name="muon", lr=0.1, weight_decay=0.0).filled(epochs=1)
    )
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    change = (network[0].weight.detach() - before).flatten(1)  # 8 x 36
    singular = torch.linalg.svdvals(change)
    assert singular.min() > 0.6 * singular.max()  # Newton-Schulz stops near 1, not at it
    # scaled as AdamW's: 0.2 * sqrt(36) times the rate, of singular values about 1
    assert singular.mean().item() == pytest.approx(0.1 * 0.2 * 6, rel=0.2)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_learns_a_line(name):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    inputs = torch.randn(64, 8)
    targets = inputs @ torch.randn(8, 8)
    optimizer = build_optimizer(network, network[1], OptimConfig(name=name, weight_decay=0.0).filled(epochs=1))
    losses = []
    for _ in range(60):
        loss = (network(inputs) - targets).square().mean()
        losses.append(loss.item())
        for group in optimizer.param_groups:
            group["lr"] = 0.02
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_goes_on_from_what_a_checkpoint_holds(name):
    """Six steps at once, and three, through tensors and JSON, in a network and an optimiser made anew."""

    def made():
        torch.manual_seed(0)
        network = resnet8(num_classes=3, in_chans=1).to(memory_format=torch.channels_last)
        return network, build_optimizer(network, network.fc, OptimConfig(name=name).filled(epochs=1))

    def step(network, optimizer, count, seed):
        for number in range(count):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * group["lr_factor"]
            inputs = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed + number))
            optimizer.zero_grad()
            network(inputs).square().sum().backward()
            optimizer.step()

    straight = made()
    step(*straight, 6, seed=0)
    first = made()
    step(*first, 3, seed=0)
    tensors, values = flatten_state({"weights": first[0].state_dict(), "optimizer": first[1].state_dict()})
    saved = unflatten_state(load(save(tensors)), json.loads(json.dumps(values)))
    network, optimizer = made()
    network.load_state_dict(saved["weights"])
    optimizer.load_state_dict(saved["optimizer"])
    step(network, optimizer, 3, seed=3)
    for (key, ours), theirs in zip(network.state_dict().items(), straight[0].state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), key


def test_what_is_filled_in():
    filled = OptimConfig().filled(epochs=1)
    assert (filled.name, filled.lr, filled.momentum, filled.weight_decay) == ("sgd", 0.1, 0.9, 5e-4)
    assert OptimConfig().filled(epochs=1, fine_tuning=True).lr == 0.003
    assert OptimConfig(name="adamw", lr=0.5).filled(epochs=1).lr == 0.5
    zero = OptimConfig(name="muon", momentum=0.0, weight_decay=0.0).filled(epochs=1)
    assert (zero.momentum, zero.weight_decay) == (0, 0)
    assert filled.filled(epochs=1) == filled
    assert set(DEFAULTS) == set(OPTIMIZERS)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_is_nesterovs(momentum):
    network, head = networks()[0]
    optimizer = build_optimizer(network, head, OptimConfig(momentum=momentum).filled(epochs=1))
    assert isinstance(optimizer, torch.optim.SGD)
    assert all((g["momentum"], g["nesterov"]) == (momentum, momentum > 0) for g in optimizer.param_groups)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("epochs", [0, -1]),
        ("lr", [0.0, -0.1, NAN, INF]),
        ("momentum", [-0.1, 1.0, NAN]),
        ("beta2", [-0.1, 1.0, NAN]),
        ("ema_decay", [-0.1, 1.0, NAN]),
        ("layer_decay", [0.0, 1.1, NAN]),
        ("max_grad_norm", [-1.0, NAN, INF]),
        ("accumulation", [0, -1]),
        ("freeze_layers", [-1]),
        ("freeze_epochs", [-1]),
        ("weight_decay", [-1e-4, NAN, INF]),
        ("head_lr_factor", [-1.0, NAN, INF]),
    ],
)
def test_impossible_settings_are_refused(name, values):
    for value in values:
        with pytest.raises(ConfigError, match=rf"optim\.{name} is {value}; it must be"):
            OptimConfig(**{name: value})
