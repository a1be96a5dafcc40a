import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recog.models.networks.resnet import ResidualBlock, SmallResNet, resnet8, resnet20


def conv(in_channels, out_channels):
    return 9 * in_channels * out_channels  # 3 x 3, no bias


def norm(channels):
    return 2 * channels  # scale and shift


def block(in_channels, out_channels):
    """Option A: the shortcut has no parameters."""
    return conv(in_channels, out_channels) + norm(out_channels) + conv(out_channels, out_channels) + norm(out_channels)


def num_parameters_by_hand(blocks_per_stage, in_chans, num_classes):
    n = blocks_per_stage
    stem = conv(in_chans, 16) + norm(16)
    stages = n * block(16, 16) + block(16, 32) + (n - 1) * block(32, 32) + block(32, 64) + (n - 1) * block(64, 64)
    return stem + stages + 64 * num_classes + num_classes


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_resnet20_has_the_parameters_of_the_paper():
    # stem 432 + 32; 3 x 4,672; 13,952 + 2 x 18,560; 55,552 + 2 x 73,984; last layer 650: "0.27M" in the paper's table 6
    assert num_parameters_by_hand(3, 3, 10) == 464 + 14_016 + 51_072 + 203_520 + 650 == 269_722
    assert num_parameters(resnet20(num_classes=10, in_chans=3)) == 269_722


def test_resnet8_has_the_parameters_counted_by_hand():
    assert num_parameters_by_hand(1, 3, 10) == 464 + 4_672 + 13_952 + 55_552 + 650 == 75_290
    assert num_parameters(resnet8(num_classes=10, in_chans=3)) == 75_290


@pytest.mark.parametrize(("blocks", "in_chans", "num_classes"), [(1, 1, 2), (2, 3, 7), (5, 1, 100)])
def test_parameters_of_other_depths_channels_and_classes(blocks, in_chans, num_classes):
    network = SmallResNet(blocks_per_stage=blocks, in_chans=in_chans, num_classes=num_classes)
    assert num_parameters(network) == num_parameters_by_hand(blocks, in_chans, num_classes)


@pytest.mark.parametrize("blocks", [1, 3])
def test_depth_is_6n_plus_2(blocks):
    network = SmallResNet(blocks_per_stage=blocks, in_chans=3, num_classes=10)
    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 6 * blocks + 2


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (7, 9), (5, 31), (1, 1), (64, 28)])
def test_shapes_for_even_odd_and_tiny_images(size):
    network = resnet8(num_classes=4, in_chans=1).eval()
    images = torch.zeros(2, 1, *size)
    maps = network.forward_features(images)
    # two strides of 2, each rounding up
    assert maps.shape == (2, 64, -(-size[0] // 4), -(-size[1] // 4))
    assert network.forward_head(maps, pre_logits=True).shape == (2, 64)
    assert network(images).shape == (2, 4)


def test_the_last_layer_reads_the_mean_over_positions():
    network = resnet8(num_classes=4, in_chans=1).eval()
    maps = torch.arange(2 * 64 * 6, dtype=torch.float32).reshape(2, 64, 2, 3)
    by_hand = maps.reshape(2, 64, 6).sum(dim=2) / 6
    assert torch.allclose(network.forward_head(maps, pre_logits=True), by_hand)
    expected = by_hand @ network.fc.weight.T + network.fc.bias
    assert torch.allclose(network.forward_head(maps), expected, rtol=1e-5, atol=1e-4)
    assert network.get_classifier() is network.fc


def test_shortcut_strides_and_pads_with_zero_channels():
    block = ResidualBlock(2, 6, stride=2).eval()
    nn.init.zeros_(block.conv2.weight)  # the block then gives relu(shortcut)
    x = torch.arange(1, 2 * 5 * 5 + 1, dtype=torch.float32).reshape(1, 2, 5, 5)
    y = block(x)
    assert y.shape == (1, 6, 3, 3)
    assert torch.equal(y[:, 2:4], x[:, :, [0, 2, 4]][:, :, :, [0, 2, 4]])  # (6 - 2) / 2 zero channels on each side
    assert not y[:, :2].any()
    assert not y[:, 4:].any()


def test_a_block_that_keeps_its_shape_adds_its_input():
    block = ResidualBlock(3, 3, stride=1).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), F.relu(x))


def test_first_convolutions_have_the_spread_of_he_initialisation():
    torch.manual_seed(0)
    network = resnet20(num_classes=10, in_chans=3)
    weight = network.blocks[6].conv1.weight  # 32 -> 64, "fan out": std = sqrt(2 / (9 x 64)), 18,432 draws
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=0.002)
