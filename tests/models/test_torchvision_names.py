"""torchvision's weights in timm's networks: both libraries' networks must give the same logits for the same image."""

import pytest
import timm
import torch
import torchvision

from recog.core.errors import ConfigError
from recog.models.build import build_model
from recog.models.config import ModelConfig
from recog.models.torchvision_names import from_torchvision


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def trained_like(name, *, num_classes):
    """torchvision's network with random values everywhere, also where it starts at 0 or 1."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return network.eval()


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("resnet18", "resnet18"),
        ("mobilenet_v2", "mobilenet_v2"),
        ("efficientnet_b0", "efficientnet_b0"),
        pytest.param("convnext_tiny", "convnext_tiny", marks=pytest.mark.slow),
        pytest.param("vit_b_16", "vit_base", marks=pytest.mark.slow),
        pytest.param("vgg11", "vgg11", marks=pytest.mark.slow),
    ],
)
def test_the_network_answers_as_torchvisions(theirs, name, tmp_path):
    network = trained_like(theirs, num_classes=5)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    model = build_model(ModelConfig(name=name, weights=str(tmp_path / "w.pth")), num_classes=5)
    height, width = model.preprocess.image_size
    images = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8)
    with torch.no_grad():
        logits = model.classifier(images)[0]
        expected = network(model.classifier.normalise(images))
    assert torch.allclose(logits, expected, atol=1e-4 * float(expected.abs().max()))


def test_networks_that_differ_in_more_than_names_are_refused():
    """torchvision's MobileNet-v3 has an epsilon of 0.001 in BatchNorm, timm's 1e-5."""
    network = trained_like("mobilenet_v3_small", num_classes=5)
    with pytest.raises(
        ConfigError, match=r"equal tensors but not equal layers: with these weights the logits differ by"
    ):
        from_torchvision(network.state_dict(), "mobilenetv3_small_100")


def test_other_weights_are_none_of_torchvisions():
    state = timm.create_model("mobilenetv2_100").state_dict()
    assert from_torchvision(state, "mobilenetv2_100") is None
    assert from_torchvision({"a": torch.ones(2)}, "resnet18") is None
