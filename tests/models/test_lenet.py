import pytest
import torch
import torch.nn.functional as F
from small_models import num_parameters
from torch import nn

from recog.models.lenet import lenet5

# LeNet-5 layer by layer: filters x (window + bias); after 32 -> 28 -> 14 -> 10 -> 5 px, C5 sees 16 maps of 5 x 5
C1 = 6 * (1 * 25 + 1)
C3 = 16 * (6 * 25 + 1)
C5 = 120 * (16 * 25 + 1)
F6 = 84 * (120 + 1)
OUTPUT = 10 * (84 + 1)


@pytest.mark.parametrize("size", [(32, 32), (28, 28)])  # 28 is padded by 2
def test_parameters_by_hand(size):
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
