import pytest
import torch
from torch import nn

from recog.models.plain import PlainNetwork, num_positions


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
    with pytest.raises(ValueError, match="leave nothing of so small an image"):
        num_positions((9, 4), ((5, 0, 1),))
