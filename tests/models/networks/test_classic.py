import pytest
import torch
import torch.nn.functional as F
import torchvision
from small_models import num_parameters
from torch import nn

from recog.models.networks.classic import (
    PlainNetwork,
    alexnet,
    cnn_6_16,
    cnn_16_32,
    cnn_32_64,
    cnn_64_128,
    lenet5,
    num_positions,
)


def conv(kernel, before, after):
    return after * (before * kernel**2 + 1)


def full(before, after):
    return after * (before + 1)


def test_parameters_of_the_tutorials_networks_by_hand():
    # 32 -> 28 -> 14 -> 10 -> 5 px
    by_hand = conv(5, 3, 6) + conv(5, 6, 16) + full(16 * 5 * 5, 120) + full(120, 84) + full(84, 10)
    assert by_hand == 456 + 2_416 + 48_120 + 10_164 + 850 == 62_006
    assert num_parameters(cnn_6_16(num_classes=10, in_chans=3)) == 62_006
    # 28 -> 14 -> 7 px
    by_hand = conv(4, 1, 16) + conv(4, 16, 32) + full(32 * 7 * 7, 100) + full(100, 10)
    assert by_hand == 272 + 8_224 + 156_900 + 1_010 == 166_406
    assert num_parameters(cnn_16_32(num_classes=10, in_chans=1)) == 166_406
    # 28 -> 26 -> 24 -> 12 px
    by_hand = conv(3, 1, 32) + conv(3, 32, 64) + full(64 * 12 * 12, 128) + full(128, 10)
    assert by_hand == 320 + 18_496 + 1_179_776 + 1_290 == 1_199_882
    assert num_parameters(cnn_32_64(num_classes=10, in_chans=1)) == 1_199_882
    # 32 -> 16 -> 8 px
    by_hand = conv(3, 3, 64) + conv(3, 64, 128) + full(128 * 8 * 8, 1000) + full(1000, 10)
    assert by_hand == 1_792 + 73_856 + 8_193_000 + 10_010 == 8_278_658
    assert num_parameters(cnn_64_128(num_classes=10, in_chans=3)) == 8_278_658


@pytest.mark.parametrize("build", [cnn_6_16, cnn_16_32, cnn_32_64, cnn_64_128])
@pytest.mark.parametrize("size", [(32, 32), (28, 28), (17, 40)])
def test_fully_connected_sizes_follow_the_image(build, size):
    network = build(num_classes=4, in_chans=1, image_size=size).eval()
    images = torch.zeros(2, 1, *size)
    first = next(module for module in network.modules() if isinstance(module, nn.Linear))
    assert network.forward_features(images)[0].numel() == first.in_features
    assert network(images).shape == (2, 4)


def test_dropout_acts_in_training_alone():
    torch.manual_seed(0)
    network = cnn_32_64(num_classes=4, in_chans=1)
    images = torch.randn(2, 1, 28, 28)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.25, 0.5]


# LeNet-5 layer by layer: filters x (window + bias); after 32 -> 28 -> 14 -> 10 -> 5 px, C5 sees 16 maps of 5 x 5
C1 = 6 * (1 * 25 + 1)
C3 = 16 * (6 * 25 + 1)
C5 = 120 * (16 * 25 + 1)
F6 = 84 * (120 + 1)
OUTPUT = 10 * (84 + 1)


@pytest.mark.parametrize("size", [(32, 32), (28, 28)])  # 28 is padded by 2
def test_parameters_of_lenet_by_hand(size):
    assert (C1, C3, C5, F6, OUTPUT) == (156, 2_416, 48_120, 10_164, 850)
    assert C1 + C3 + C5 + F6 + OUTPUT == 61_706
    assert num_parameters(lenet5(num_classes=10, in_chans=1, image_size=size)) == 61_706


def test_a_28_px_image_is_answered_as_the_same_image_with_a_border_of_2():
    torch.manual_seed(0)
    small = lenet5(num_classes=3, in_chans=1, image_size=(28, 28))
    large = lenet5(num_classes=3, in_chans=1)
    large.load_state_dict(small.state_dict())
    images = torch.randn(2, 1, 28, 28)
    assert torch.allclose(small(images), large(F.pad(images, (2, 2, 2, 2))), atol=1e-6)


def test_seven_layers_without_pooling_parameters():
    network = lenet5(num_classes=10, in_chans=3, image_size=(40, 36))
    kinds = [nn.Conv2d, nn.AvgPool2d, nn.Conv2d, nn.AvgPool2d, nn.Linear, nn.Linear, nn.Linear]
    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.AvgPool2d, nn.Linear))]
    assert [type(layer) for layer in layers] == kinds
    assert network(torch.zeros(2, 3, 40, 36)).shape == (2, 10)


def test_alexnet_answers_as_torchvisions_with_the_same_weights():
    torch.manual_seed(0)
    theirs = torchvision.models.alexnet(num_classes=5).eval()
    ours = alexnet(num_classes=5, in_chans=3).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 80, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
        features = ours.forward_head(ours.forward_features(images), pre_logits=True)
        assert features.shape == (2, ours.num_features)
        assert torch.allclose(ours.get_classifier()(features), theirs(images), atol=1e-6)


def test_grey_images_have_filters_of_one_channel():
    network = alexnet(num_classes=2, in_chans=1).eval()
    assert network.features[0].weight.shape == (64, 1, 11, 11)
    assert network(torch.zeros(1, 1, 63, 63)).shape == (1, 2)


def test_the_way_of_an_image_through_body_neck_and_last_layer():
    network = PlainNetwork(body=nn.MaxPool2d(2), neck=nn.Flatten(), fc=nn.Linear(2, 3))
    images = torch.tensor([[[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 1.0, 7.0]]]])
    maps = network.forward_features(images)
    assert torch.equal(maps, torch.tensor([[[[5.0, 7.0]]]]))
    features = network.forward_head(maps, pre_logits=True)
    assert torch.equal(features, torch.tensor([[5.0, 7.0]]))
    expected = features @ network.fc.weight.T + network.fc.bias
    assert torch.allclose(network(images), expected)
    assert torch.allclose(network.forward_head(maps), expected)
    assert network.get_classifier() is network.fc
    assert network.num_features == 2


@pytest.mark.parametrize("image_size", [(32, 32), (28, 31), (9, 17)])
def test_positions_are_those_that_torch_leaves(image_size):
    stages = ((3, 1, 2), (3, 0, 1), (5, 2, 2))
    layers = [layer for k, p, pool in stages for layer in (nn.Conv2d(1, 1, k, padding=p), nn.MaxPool2d(pool))]
    maps = nn.Sequential(*layers)(torch.zeros(1, 1, *image_size))
    assert num_positions(image_size, stages) == maps.numel()


def test_an_image_of_which_nothing_is_left_is_refused():
    assert num_positions((5, 5), ((5, 0, 1),)) == 1
    with pytest.raises(ValueError, match="too small for its convolutions"):
        num_positions((9, 4), ((5, 0, 1),))
