import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recog.core.errors import ConfigError
from recog.models.own_module import OwnModule, channels_of


class Net(nn.Module):
    """Two linear layers, of which the second is the last one used, though not the last one registered."""

    def __init__(self, num_classes=3, softmax=False):
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(5, num_classes))
        self.conv = nn.Conv2d(1, 2, 3)
        self.fc = nn.Linear(2, 5)
        self.softmax = softmax

    def forward(self, images):
        x = self.conv(images).relu().mean(dim=(2, 3))
        x = self.head(self.fc(x).relu())
        return x.softmax(dim=1) if self.softmax else x


class WithoutLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, images):
        return self.conv(images).mean(dim=(2, 3))


def part(module, **changes):
    settings = {"num_classes": 3, "in_chans": 1, "image_size": (8, 8)} | changes
    return OwnModule(module, **settings).eval()


def test_the_last_linear_layer_is_the_classifier_and_its_input_the_features():
    net = Net().eval()
    own, images = part(net), torch.randn(4, 1, 8, 8)
    assert own.last_name == "head.1"
    features = own.forward_head(own.forward_features(images), pre_logits=True)
    assert torch.allclose(features, net.fc(net.conv(images).relu().mean(dim=(2, 3))).relu())
    assert torch.equal(own(images), net(images))
    assert own.get_classifier().weight.shape == (3, 5)
    assert own.num_features == 5


def test_the_users_module_stays_as_it_was():
    net = Net()
    before = copy.deepcopy(net.state_dict())
    own = part(net)
    with torch.no_grad():
        own.fc.weight.zero_()
    assert net.training
    assert isinstance(net.head[1], nn.Linear)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert not net.head[1]._forward_hooks


def test_weights_go_back_into_the_users_module():
    net = Net().eval()
    own = part(Net())
    net.load_state_dict(own.own_state_dict())
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(net(images), own(images))


@pytest.mark.parametrize(
    "module",
    [
        WithoutLinear(),
        nn.Sequential(nn.Conv2d(3, 3, 8), nn.Flatten(), nn.LogSoftmax(dim=1)),
    ],
)
def test_where_no_linear_layer_is_last_the_logits_are_the_features(module):
    own, images = part(module, in_chans=3), torch.randn(2, 3, 8, 8)
    assert own.last_name is None
    logits = module.eval()(images)
    assert torch.equal(own.forward_features(images), logits)
    assert torch.equal(own(images), logits)
    assert not any(parameter.requires_grad for parameter in own.get_classifier().parameters())
    assert set(own.own_state_dict()) == set(module.state_dict())


def test_a_linear_layer_may_be_the_whole_or_be_used_twice():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    assert part(flat).last_name == "1"

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, images):
            return self.fc(F.relu(self.fc(images.mean(dim=(2, 3)).expand(-1, 3))))

    module = Twice().eval()
    own, images = part(module), torch.randn(2, 1, 8, 8)
    assert own.last_name is None
    assert torch.equal(own(images), module(images))


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (Net(num_classes=7), {}, r"Net returned \[2, 7\] for 2 images; expected logits \[2, 3\], one column per class"),
        (Net(softmax=True), {}, "returns probabilities; expected logits. Remove the softmax"),
        (
            Net(),
            {"in_chans": 3},
            r"Net failed on images float32 \[2, 3, 8, 8\]: .*model.image_size and model.channels",
        ),
        (nn.Flatten(0), {}, r"expected logits \[2, 3\]"),
    ],
)
def test_a_module_that_does_not_give_logits_is_refused(module, changes, message):
    with pytest.raises(ConfigError, match=message):
        part(module, **changes)


def test_channels_are_those_of_the_first_convolution():
    assert channels_of(Net()) == 1
    assert channels_of(WithoutLinear()) == 3
    assert channels_of(nn.Linear(3, 3)) is None
    assert channels_of(nn.Conv2d(4, 3, 1)) is None
