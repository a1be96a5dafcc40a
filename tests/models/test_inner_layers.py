"""Features of several layers: the means of a network's own stages, and a bundle that loads them again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import CLASSES, build, images_for, logits_of, save_bundle_files

from recog.bundle.manifest import Manifest, TrainingData, write_manifest
from recog.core.errors import BundleError, ConfigError
from recog.models.build import build_from_parent
from recog.models.config import ModelConfig
from recog.models.inner_layers import InnerLayers, with_layers
from recog.models.network_files import load_classifier


def multi(name="test_efficientnet", *, mirror=False, **settings):
    model, layers, notes = with_layers(build(name, weights="none", **settings), "multi", mirror=mirror)
    assert layers == "multi"
    return model, notes


@pytest.mark.parametrize(
    ("name", "settings", "options"),
    [
        ("test_efficientnet", {"image_size": (40, 48)}, {"extra_blocks": True}),
        ("test_resnet", {"channels": 1, "image_size": (48, 64)}, {}),  # its last stage is what its last layer pools
        ("test_convnext", {}, {}),
        ("test_vit", {"image_size": (64, 96)}, {}),  # its maps are patches
    ],
)
def test_the_features_are_signed_roots_of_the_means_of_every_stage(name, settings, options):
    plain = build(name, weights="none", **settings)
    images = images_for(plain)
    with torch.no_grad():
        pixels = plain.classifier.normalise(images)
        maps, stages = plain.classifier.network.forward_intermediates(pixels, **options)
        last = plain.classifier(images)[1]
        means = [stage.mean(dim=(2, 3)) for stage in stages if stage is not maps]
        expected = torch.cat([*means, last], dim=1)
        model, layers, _ = with_layers(plain, "multi")
        features = model.classifier(images)[1]
    assert (model.library, layers) == ("recog", "multi")
    assert torch.allclose(features * features.abs(), expected, atol=1e-5)
    assert model.classifier.network.num_stages == len(means) >= 3


def test_they_can_be_standardised_and_a_constant_feature_stays_finite():
    model, _ = multi()
    images = images_for(model, num_images=6)
    network = model.classifier.network
    with torch.no_grad():
        before = model.classifier(images)[1]
        before[:, 0] = 3.0
        std = before.std(dim=0, correction=0)
        network.standardise(before.mean(dim=0), std)
        after = model.classifier(images)[1]
    assert torch.allclose(after[:, 1:].mean(dim=0), torch.zeros(len(std) - 1), atol=1e-4)
    assert torch.allclose(after[:, 1:].std(dim=0, correction=0)[std[1:] > 1e-6], torch.tensor(1.0), atol=1e-3)
    assert network.scale[0] == 1
    assert network.shift[0] == 3


@pytest.mark.parametrize(("name", "settings"), [("test_efficientnet", {}), ("test_vit", {"image_size": (64, 96)})])
def test_the_network_comes_back_from_its_two_files(name, settings, tmp_path):
    model, _ = multi(name, **settings)
    network = model.classifier.network
    torch.nn.init.normal_(network.fc.weight)
    generator = torch.Generator().manual_seed(0)
    network.standardise(
        torch.rand(network.num_features, generator=generator), torch.rand(network.num_features, generator=generator)
    )
    save_bundle_files(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["library"], config["head_layers"]) == ("recog", "multi")
    rebuilt = load_classifier(tmp_path)
    assert isinstance(rebuilt.network, InnerLayers)
    images = images_for(model)
    assert torch.equal(logits_of(rebuilt, images), logits_of(model.classifier, images))


def test_mirrored_features_are_the_mean_of_the_two_images_features(tmp_path):
    plain, _ = multi()
    images = images_for(plain)
    mirrored, _ = multi(mirror=True)
    mirrored.classifier.network.load_state_dict(plain.classifier.network.state_dict())
    with torch.no_grad():
        expected = (plain.classifier(images)[1] + plain.classifier(images.flip(2))[1]) / 2
        assert torch.allclose(mirrored.classifier(images)[1], expected, atol=1e-6)
    save_bundle_files(mirrored, tmp_path)
    assert torch.equal(logits_of(load_classifier(tmp_path), images), logits_of(mirrored.classifier, images))


def test_features_of_zero_have_a_gradient():
    model, _ = multi()
    network = model.classifier.network
    for parameter in network.body.parameters():
        torch.nn.init.zeros_(parameter)
    network(torch.ones(2, 3, *model.preprocess.image_size)).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_a_mirrored_view_needs_the_inner_layers():
    with pytest.raises(ConfigError, match=r"head.mirror is true, which needs head.layers=multi"):
        with_layers(build("test_efficientnet", weights="none"), "last", mirror=True)
    with pytest.raises(ConfigError, match=r"head.mirror is true, but resnet8"):
        with_layers(build("resnet8"), None, mirror=True)


def test_a_damaged_config_is_a_bundle_error(tmp_path):
    model, _ = multi()
    save_bundle_files(model, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"test_efficientnet"', '"resnet8"'))
    with pytest.raises(BundleError, match="do not form a network"):
        load_classifier(tmp_path)


def test_its_weights_start_the_plain_network_too(tmp_path):
    """As `--weights BUNDLE --recipe finetune` does."""
    model, _ = multi()
    save_bundle_files(model, tmp_path)
    plain = build("test_efficientnet", weights=str(tmp_path / "model.safetensors"))
    ours, theirs = model.classifier.network.body.state_dict(), plain.classifier.network.state_dict()
    assert all(np.array_equal(theirs[name], tensor) for name, tensor in ours.items())


def test_its_network_can_be_continued(tmp_path):
    """As `--from BUNDLE` does; the head read other features than the last layer, so a new one is fitted."""
    model, _ = multi()
    save_bundle_files(model, tmp_path)
    preprocess = replace(model.preprocess, image_size=(96, 96))
    data = TrainingData(name="d", fingerprint="sha256:", num_images={})
    manifest = Manifest(
        task="multiclass",
        architecture=model.name,
        class_names=tuple(CLASSES),
        preprocess=preprocess,
        data=data,
        seed=0,
        files={},
    )
    write_manifest(tmp_path, manifest)
    config = ModelConfig(parent=str(tmp_path), parent_digest="ab")
    built = build_from_parent(config, CLASSES, task="multiclass", with_head=True)
    ours, theirs = model.classifier.network.body.state_dict(), built.classifier.network.state_dict()
    assert all(np.array_equal(theirs[name], tensor) for name, tensor in ours.items())
    assert not built.has_head
    assert built.library == "timm"


def test_a_network_without_inner_layers_has_a_head_on_the_last_one():
    plain = build("resnet8")
    model, layers, (note,) = with_layers(plain, None)
    assert model is plain
    assert layers == "last"
    assert "resnet8 does not give those of its inner layers" in note
    with pytest.raises(ConfigError, match=r"head.layers is multi, but resnet8"):
        with_layers(plain, "multi")
    assert with_layers(plain, "last") == (plain, "last", [])
