import pytest
import torch
from small_models import num_parameters
from torch import nn

from recog.models.small_cnns import cnn_6_16, cnn_32_64, cnn_64_128


def conv(kernel, before, after):
    return after * (before * kernel**2 + 1)


def full(before, after):
    return after * (before + 1)


def test_parameters_by_hand():
    # 32 -> 28 -> 14 -> 10 -> 5 px
    by_hand = conv(5, 3, 6) + conv(5, 6, 16) + full(16 * 5 * 5, 120) + full(120, 84) + full(84, 10)
    assert by_hand == 456 + 2_416 + 48_120 + 10_164 + 850 == 62_006
    assert num_parameters(cnn_6_16(num_classes=10, in_chans=3)) == 62_006
    # 28 -> 26 -> 24 -> 12 px
    by_hand = conv(3, 1, 32) + conv(3, 32, 64) + full(64 * 12 * 12, 128) + full(128, 10)
    assert by_hand == 320 + 18_496 + 1_179_776 + 1_290 == 1_199_882
    assert num_parameters(cnn_32_64(num_classes=10, in_chans=1)) == 1_199_882
    # 32 -> 16 -> 8 px
    by_hand = conv(3, 3, 64) + conv(3, 64, 128) + full(128 * 8 * 8, 1000) + full(1000, 10)
    assert by_hand == 1_792 + 73_856 + 8_193_000 + 10_010 == 8_278_658
    assert num_parameters(cnn_64_128(num_classes=10, in_chans=3)) == 8_278_658


@pytest.mark.parametrize("build", [cnn_6_16, cnn_32_64, cnn_64_128])
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
