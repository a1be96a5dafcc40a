import pytest
import torch
from small_models import build, images_for

from recog.core.errors import ConfigError


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_mambaout", "test_nfnet", "test_maxvit"])
def test_logits_are_those_of_timms_own_forward(name):
    model = build(name, weights="none")
    network, images = model.classifier.network, images_for(model)
    torch.nn.init.normal_(network.get_classifier().weight)
    ours, features = model.classifier(images)
    assert features.ndim == 2
    assert torch.allclose(ours, network(model.classifier.normalise(images)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "dla46_c",  # a convolution
        "levit_128s",  # two heads, averaged
        "efficientvit_m0",  # a norm between features and the linear layer
        "repvit_m0_9",
    ],
)
def test_a_network_that_ends_otherwise_is_refused_before_training(name):
    with pytest.raises(ConfigError, match=f"{name} does not end in one linear layer"):
        build(name, weights="none")
