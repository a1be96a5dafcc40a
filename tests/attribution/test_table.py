"""The table of methods, and every method on five families of networks."""

import numpy as np
import pytest
import torch
from small_subjects import corner_subject, noise, timm_network

from recog.attribution.methods import gradients, masking
from recog.attribution.table import EXPLAINERS, attribute, check_method, usable_methods
from recog.core.errors import ConfigError

FAMILIES = ("test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_mambaout")


@pytest.fixture(scope="module", params=FAMILIES)
def subject(request):
    return timm_network(request.param)


@pytest.mark.parametrize("method", EXPLAINERS)
def test_every_method_explains_every_family_and_returns_the_network_as_found(method, subject, monkeypatch):
    if method == "integrated-gradients":
        pytest.importorskip("captum")
    monkeypatch.setattr(masking, "NUM_MASKS", 32)
    monkeypatch.setattr(gradients, "NUM_NOISY", 2)
    classifier = subject.classifier
    classifier.network.train()  # the caller's mode
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    images, labels = noise(2, 64, 64, 3), np.array([0, 2])
    found = attribute(method, subject, images, labels)
    assert found.maps.shape == (2, 64, 64)
    assert found.maps.dtype == np.float32
    assert np.isfinite(found.maps).all()
    assert all(values.std() > 0 for values in found.maps)
    assert EXPLAINERS[method].is_signed or found.maps.min() >= 0
    np.testing.assert_array_equal(found.maps, attribute(method, subject, images, labels).maps)
    assert all(module.training for module in classifier.network.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in classifier.parameters())
    assert not any(module._forward_hooks for module in classifier.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())


def test_an_unknown_method_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'gradcam'"):
        check_method("grad-cam")


def test_a_method_whose_package_is_not_installed_is_not_tried(monkeypatch):
    monkeypatch.setattr("recog.attribution.table.find_spec", lambda name: None)
    assert "integrated-gradients" not in usable_methods(timm_network("test_vit"))
    assert "gradcam" in usable_methods(timm_network("test_vit"))


def test_without_layers_the_others_remain():
    subject = corner_subject()
    assert usable_methods(subject) == ("occlusion", "rise")
    with pytest.raises(ConfigError, match="gradcam needs the layers of the network.*Without them: occlusion, rise"):
        attribute("gradcam", subject, noise(1, 32, 32, 1), np.array([0]))
