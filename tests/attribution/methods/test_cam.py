import numpy as np
import pytest
import torch
from small_subjects import noise, pooled_network, subject_of_classifier, timm_network

from recog.attribution.methods.cam import gradcam, layercam
from recog.models.build import build_model
from recog.models.config import ModelConfig
from recog.models.inner_layers import with_layers


@pytest.mark.parametrize("method", [gradcam, layercam])
def test_of_a_pooled_linear_network_the_map_is_the_weighted_image(method):
    """logit 0 = 3 * mean of x over 64 positions, so its slope is 3 / 64 and the map 3 / 64 * x; logit 1 counts against."""
    images = noise(2, 8, 8, 1)
    maps = method(pooled_network([3.0, -2.0]), images, np.array([0, 1])).maps
    np.testing.assert_allclose(maps[0], 3 / 64 * images[0, :, :, 0] / 255, rtol=1e-5)
    assert not maps[1].any()


def test_maps_of_several_stages_add_up_to_what_the_features_give():
    """Of a head on the stages' means the map sums, per unit of area, the slope of each mean times the mean: compared with
    autograd on the means themselves, where no stage's map is negative in sum."""
    torch.manual_seed(0)
    plain = build_model(ModelConfig(name="test_resnet", weights="none", image_size=(64, 64)), num_classes=3)
    model, _, _ = with_layers(plain, "multi")
    subject = subject_of_classifier(model.classifier, (64, 64))
    image = noise(1, 64, 64, 3)
    network = model.classifier.network
    with torch.no_grad():
        stages = network.stage_maps(model.classifier.normalise(torch.as_tensor(image)))
    leaves = [stage.clone().requires_grad_() for stage in stages]
    logit = network.fc(network.features_of(leaves, ()))[0, 1]
    slopes = torch.autograd.grad(logit, leaves)
    summed = np.zeros((64, 64))
    for leaf, slope in zip(leaves, slopes, strict=True):
        part = (leaf * slope).detach().sum(dim=1, keepdim=True) * leaf.shape[2] * leaf.shape[3]
        summed += torch.nn.functional.interpolate(part, (64, 64), mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(gradcam(subject, image, np.array([1])).maps[0], np.maximum(summed, 0), atol=1e-4)


def test_with_the_mirror_image_a_mirrored_image_gives_the_mirrored_map():
    torch.manual_seed(0)
    plain = build_model(ModelConfig(name="test_resnet", weights="none", image_size=(64, 64)), num_classes=3)
    model, _, _ = with_layers(plain, "multi", mirror=True)
    subject = subject_of_classifier(model.classifier, (64, 64))
    image = noise(1, 64, 64, 3)
    one = gradcam(subject, image, np.array([0])).maps
    other = gradcam(subject, np.ascontiguousarray(image[:, :, ::-1]), np.array([0])).maps
    np.testing.assert_allclose(one, other[:, :, ::-1], atol=1e-4)


def test_the_map_does_not_depend_on_the_other_images_of_a_batch():
    subject = timm_network("test_convnext")
    images = noise(5, 64, 64, 3)
    maps = gradcam(subject, images, np.array([0, 1, 2, 0, 1])).maps
    np.testing.assert_allclose(maps[3:4], gradcam(subject, images[3:4], np.array([0])).maps, atol=1e-6)
