import pytest
import torch
from torch import nn

from recog.models.networks.headed import HeadedNetwork


class Sums(HeadedNetwork):
    """The features are the sums of the channels; the logits are these and their double."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 2, bias=False)
        self.fc.weight = nn.Parameter(torch.tensor([[1.0], [2.0]]))

    def forward_features(self, images):
        return images.sum(dim=(1, 2, 3))[:, None]


def test_the_head_reads_the_features():
    network, images = Sums(), torch.ones(2, 3, 1, 2)
    assert network(images).tolist() == [[6, 12], [6, 12]]
    assert network.forward_head(torch.tensor([[5.0]]), pre_logits=True).tolist() == [[5]]
    assert network.get_classifier() is network.fc


def test_without_features_there_is_no_network():
    with pytest.raises(NotImplementedError):
        HeadedNetwork().forward_features(torch.ones(1, 3, 1, 1))
