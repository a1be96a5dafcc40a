"""The map behind the features: means of it are the features, and weighted by the last layer it is the class-activation map."""

import numpy as np
import pytest
import torch
from small_subjects import noise, timm_network

from recog.attribution.methods.cam import gradcam
from recog.core.errors import ConfigError
from recog.deployment.feature_map import class_weights_name, with_feature_map
from recog.deployment.onnx import export_onnx
from recog.models.build import build_model
from recog.models.config import ModelConfig
from recog.models.inner_layers import LEAST_ROOTED, with_layers
from recog.runtime.engine import open_engine
from recog.training.device import eval_mode


def outputs(classifier, image, size):
    with torch.no_grad(), eval_mode(classifier):
        return [value.numpy() for value in with_feature_map(classifier, size)(torch.as_tensor(image))]


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_weighted_by_the_last_layer_it_is_grad_cam_of_the_last_map(name):
    """Of a linear head on means the gradient of a logit is weight / (h * w) everywhere (Selvaraju et al., 2017, appendix A)."""
    subject = timm_network(name, size=160)
    image = noise(1, 160, 160, 3)
    _, features, feature_map = outputs(subject.classifier, image, (160, 160))
    assert feature_map.shape[2:] == (5, 5)
    np.testing.assert_allclose(feature_map.mean(axis=(2, 3)), features, rtol=1e-4, atol=1e-6)
    weights = subject.classifier.state_dict()[f"network.{class_weights_name(subject.classifier)}"].numpy()
    shares = torch.as_tensor(np.tensordot(weights[1], feature_map[0], axes=1) / 25)
    large = torch.nn.functional.interpolate(shares[None, None], (160, 160), mode="bilinear")[0, 0].relu().numpy()
    expected = gradcam(subject, image, np.array([1])).maps[0]
    np.testing.assert_allclose(large, expected, atol=1e-4 * expected.max())


@pytest.mark.parametrize("mirror", [False, True])
def test_of_several_stages_it_adds_up_what_they_give_to_a_logit(mirror, monkeypatch):
    """Second method: autograd on the stages' maps, whose products are averaged over the last stage's grid."""
    monkeypatch.setattr("recog.models.inner_layers.LEAST_STEEP", LEAST_ROOTED)  # as steep as autograd finds it
    torch.manual_seed(0)
    plain = build_model(ModelConfig(name="test_resnet", weights="none", image_size=(128, 128)), num_classes=3)
    model, _, _ = with_layers(plain, "multi", mirror=mirror)
    classifier, image = model.classifier, noise(1, 128, 128, 3)
    network = classifier.network
    network.standardise(torch.linspace(0, 1, network.num_features), torch.linspace(1, 2, network.num_features))
    inputs = classifier.normalise(torch.as_tensor(image))
    sides = [network.stage_maps(side) for side in ([inputs, inputs.flip(3)] if mirror else [inputs])]
    leaves = [[stage.detach().requires_grad_() for stage in side] for side in sides]
    logit = network.fc(network.features_of(leaves[0], leaves[-1]))[0, 2]
    expected = torch.zeros(4, 4)
    for number, side in enumerate(leaves):
        for leaf, slope in zip(side, torch.autograd.grad(logit, side, retain_graph=True), strict=True):
            part = torch.nn.functional.adaptive_avg_pool2d((leaf * slope).sum(dim=1), (4, 4))[0] * leaf[0, 0].numel()
            expected += part.flip(1) if number else part
    logits, features, feature_map = outputs(classifier, image, (128, 128))
    with torch.no_grad():
        np.testing.assert_allclose(logits, classifier(torch.as_tensor(image))[0], atol=1e-5)
    found = np.tensordot(network.fc.weight.detach().numpy()[2], feature_map[0], axes=1)
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-4 * np.abs(found).max())
    assert features.shape[1] == feature_map.shape[1]


@pytest.mark.parametrize(
    ("name", "size", "text"),
    [
        ("test_convnext", 160, "features of ConvNeXt are not the means of its last map"),
        ("test_vit", 160, "features of VisionTransformer are not the means"),
        ("test_resnet", 64, "the last map has 2 x 2 positions"),
    ],
)
def test_where_it_is_not_defined_it_is_refused(name, size, text):
    with pytest.raises(ConfigError, match=f"export.feature_map is true, but .*{text}"):
        with_feature_map(timm_network(name, size=size).classifier, (size, size))


def test_the_file_gives_what_torch_gives_to_both_engines(tmp_path):
    pytest.importorskip("openvino")
    mapped = with_feature_map(timm_network("test_resnet", size=160).classifier, (160, 160))
    path, images = tmp_path / "m.onnx", noise(3, 160, 160, 3)
    export_onnx(mapped, path, image_size=(160, 160), channels=3, class_names=["a", "b", "c"])
    with torch.no_grad(), eval_mode(mapped):
        expected = [value.numpy() for value in mapped(torch.as_tensor(images))]
    for name in ("onnxruntime", "openvino"):
        engine = open_engine(path, name, num_threads=1)
        assert (engine.map_size, engine.class_weights) == ((5, 5), class_weights_name(mapped))
        found = engine(images, feature_map=True)
        for one, other in zip((found.logits, found.features, found.feature_map), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


def test_the_classifier_stays_as_it_was():
    classifier = timm_network("test_resnet", size=160).classifier.train()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    mapped = with_feature_map(classifier, (160, 160))
    assert all(module.training for module in classifier.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
    assert mapped.network is classifier.network
    assert len(classifier(torch.zeros(2, 160, 160, 3, dtype=torch.uint8))) == 2
