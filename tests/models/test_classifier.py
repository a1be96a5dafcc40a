import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms import MaybeToTensor
from torchvision.transforms import Compose, Normalize

from recog.models.build import build_model
from recog.models.classifier import Classifier
from recog.models.config import ModelConfig
from recog.models.networks.resnet import resnet8

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def classifier_of(channels=3, **statistics):
    torch.manual_seed(0)
    return Classifier(resnet8(num_classes=5, in_chans=channels).eval(), **statistics)


def test_normalisation_equals_timms_transform():
    images = random_images(3, 6, 7, 3)
    transform = Compose([MaybeToTensor(), Normalize(**IMAGENET)])  # the end of timm's evaluation transform
    theirs = torch.stack([transform(Image.fromarray(image)) for image in images])
    ours = classifier_of(**IMAGENET).normalise(torch.from_numpy(images))
    assert ours.shape == (3, 3, 6, 7)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_normalisation_by_hand():
    classifier = classifier_of(mean=(0.5, 0.2, 0.0), std=(0.5, 0.1, 1.0))
    image = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    # (0 - 0.5) / 0.5; (0.2 - 0.2) / 0.1; (1 - 0) / 1
    assert classifier.normalise(image).flatten().tolist() == pytest.approx([-1, 0, 1], abs=1e-6)


def test_classifier_is_the_plain_network_behind_the_normalisation():
    classifier = classifier_of(**IMAGENET)
    images = torch.from_numpy(random_images(4, 8, 8, 3))
    mean, std = (torch.tensor(IMAGENET[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = classifier.network((images.permute(0, 3, 1, 2).float() / 255 - mean) / std)
        logits, features = classifier(images)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert features.shape == (4, 64)


def test_logits_are_one_linear_layer_on_the_features():
    classifier = classifier_of(**IMAGENET)
    with torch.no_grad():
        logits, features = classifier(torch.from_numpy(random_images(4, 8, 8, 3)))
        layer = classifier.classifier
        assert torch.allclose(logits, features @ layer.weight.T + layer.bias, atol=1e-5)


def test_features_of_a_timm_network_feed_its_own_last_layer():
    classifier = build_model(ModelConfig(name="test_efficientnet", weights="none"), num_classes=3).classifier
    torch.nn.init.normal_(classifier.classifier.weight)  # timm's first weights are near 0 and would hide a difference
    images = torch.from_numpy(random_images(2, 64, 64, 3))
    with torch.no_grad():
        logits, features = classifier(images)
        assert torch.allclose(logits, torch.nn.functional.linear(features, *classifier.classifier.parameters()))
        assert torch.allclose(logits, classifier.network(classifier.normalise(images)), atol=1e-5)


def test_grey_images_have_one_channel():
    classifier = classifier_of(channels=1, mean=(0.3,), std=(0.4,))
    logits, _ = classifier(torch.from_numpy(random_images(2, 8, 8, 1)))
    assert logits.shape == (2, 5)


def test_statistics_are_not_weights():
    """model.safetensors holds the plain module's weights; mean and std stand in config.json."""
    classifier = classifier_of(**IMAGENET)
    assert {name.split(".")[0] for name in classifier.state_dict()} == {"network"}
    assert not {"mean", "scale"} & {name for name, _ in classifier.named_parameters()}
    assert (classifier.channel_mean, classifier.channel_std) == (IMAGENET["mean"], IMAGENET["std"])
