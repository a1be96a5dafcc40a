import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_models import CLASSES, build, images_for, logits_of, save_bundle_files

from recog.bundle.manifest import Manifest, TrainingData, write_manifest
from recog.core.errors import ConfigError
from recog.models.build import build_from_parent, build_own_module
from recog.models.config import ModelConfig, with_parent
from recog.models.network_files import load_classifier
from recog.models.table import MODELS, own_network


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"Unknown network 'resnett20': neither in recog nor in timm. Did you mean 'resnet20'\?"
    ):
        build("resnett20")
    with pytest.raises(ConfigError, match=r"Did you mean 'tf_efficientnet_lite0'\?"):
        build("tf_eficientnet_lite0")


def test_a_name_that_is_not_set_is_refused():
    with pytest.raises(ConfigError, match=r"model\.name is not set"):
        build(None)


@pytest.mark.parametrize("name", [name for name in MODELS if own_network(name)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_network_of_ours_keeps_the_contract(name, channels):
    size = (64, 80) if name == "alexnet" else (16, 20)
    model = build(name, channels=channels, image_size=size, weights="none")
    network, images = model.classifier.network, images_for(model)
    logits, features = model.classifier(images)
    assert (logits.shape, features.shape) == ((2, 3), (2, network.get_classifier().in_features))
    assert torch.allclose(logits, network(model.classifier.normalise(images)), atol=1e-6)
    assert not network.training
    assert model.preprocess.image_size == size
    assert model.preprocess.channels == channels
    assert "random" in model.origin.source


def test_networks_are_built_from_torchs_generator():
    first, again = build("resnet8").classifier.state_dict(), build("resnet8").classifier.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 2}, "must be 1 .grey. or 3"),
        ({"image_size": (0, 4)}, "1 px or more"),
        ({"mean": (0.5,)}, r"model\.mean is \(0\.5,\); it must be one number per channel, 3 here"),
        ({"std": (0.5, 0.5, 0.5, 0.5)}, "one number per channel"),
        ({"channels": 1, "mean": (0.5, 0.5, 0.5)}, "one number per channel, 1 here"),
        ({"std": (0.5, 0.0, 0.5)}, "every value must be above 0"),
        ({"mean": (float("nan"), 0.5, 0.5)}, "one number per channel"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(name="resnet8", **settings)


def test_preprocess_and_statistics_follow_timms_config():
    model = build("test_resnet", weights="none")
    cfg = model.classifier.network.pretrained_cfg
    assert model.preprocess.image_size == tuple(cfg["input_size"][1:])
    assert (model.preprocess.interpolation, model.preprocess.crop_pct) == (cfg["interpolation"], cfg["crop_pct"])
    assert model.classifier.channel_mean == tuple(cfg["mean"])


def test_grey_images_take_the_mean_of_the_colour_statistics():
    model = build("test_resnet", weights="none", channels=1)
    mean = model.classifier.network.pretrained_cfg["mean"]
    assert model.classifier.channel_mean == (pytest.approx(sum(mean) / 3),)
    assert logits_of(model.classifier, images_for(model)).shape == (2, 3)


@pytest.mark.parametrize("name", ["resnet8", "test_resnet"])
def test_statistics_that_are_set_win(name):
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    model = build(name, weights="none", mean=mean, std=std)
    assert (model.classifier.channel_mean, model.classifier.channel_std) == (mean, std)


def test_a_network_that_was_trained_on_squashed_images_gets_them():
    model = build("tf_efficientnetv2_b3", weights="none", image_size=(64, 64))
    assert model.classifier.network.pretrained_cfg["crop_mode"] == model.preprocess.crop_mode == "squash"


def test_the_border_is_filled_with_the_mean_colour():
    model = build("test_resnet", weights="none", mean=(0.0, 0.5, 1.0))
    assert model.preprocess.fill == (0, 128, 255)


def test_random_weights_are_never_silent():
    for name in ("resnet8", "test_vit"):
        assert build(name, weights="none").origin.source == "random, from the seed"


def test_weights_for_a_network_of_ours_must_fit_wholly(tmp_path):
    state = build("resnet20").classifier.network.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        ConfigError, match=r"the weights in w\.safetensors do not fit resnet8: [\d.]+% of its parameters"
    ):
        build("resnet8", weights=str(tmp_path / "w.safetensors"))
    loaded = build("resnet20", weights=str(tmp_path / "w.safetensors"))
    assert loaded.origin.source == f"file w.safetensors, {len(state)} tensors matched"
    assert all(torch.equal(state[key], value) for key, value in loaded.classifier.network.state_dict().items())


BROKEN = {  # value, tensor of a BatchNorm, in words
    "NaN": (float("nan"), "weight", "holds nan in 1 of its"),
    "infinity": (float("-inf"), "bias", "holds -inf in 1 of its"),
    "an infinite variance": (float("inf"), "running_var", "holds inf in 1 of its"),
    "a negative variance": (-0.5, "running_var", "holds -0.5 in 1 of its"),
}


@pytest.mark.parametrize(("value", "tensor", "message"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("name", ["resnet8", "test_resnet"])
def test_weights_that_no_network_can_use_are_named(name, value, tensor, message, tmp_path):
    """An infinite variance makes a channel constant, without any NaN in what the network answers."""
    network = build(name, weights="none").classifier.network
    norm = next(key for key, module in network.named_modules() if isinstance(module, torch.nn.BatchNorm2d))
    state = {key: value.clone() for key, value in network.state_dict().items()}
    state[f"{norm}.{tensor}"].view(-1)[3] = value
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        ConfigError,
        match=rf"\(file w\.safetensors, \d+ tensors matched\) are damaged: {norm}\.{tensor} {message} \d+ values",
    ):
        build(name, weights=str(tmp_path / "w.safetensors"))


def test_a_users_module_may_have_infinite_masks_and_no_infinite_weights():
    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.full((2,), float("-inf")))
            self.fc = torch.nn.Linear(12, 2)

        def forward(self, images):
            return self.fc(images.flatten(1))

    module, config = Masked(), ModelConfig(image_size=(2, 2))
    build_own_module(module, config, num_classes=2)
    module.fc.weight.data[1, 5] = float("inf")
    with pytest.raises(
        ConfigError, match=r"\(as passed by the caller\) are damaged: fc.weight holds inf in 1 of its 24"
    ):
        build_own_module(module, config, num_classes=2)


def test_a_field_name_leads_to_timms_architecture():
    model = build("mobilenet_v3_small", weights="none", image_size=(32, 32))
    assert (model.name, model.library) == ("mobilenetv3_small_100", "timm")
    assert build("resnet8").library == "recog"


def test_a_network_of_ours_has_its_own_channels_unless_told():
    assert build("lenet5").preprocess.channels == 1
    assert build("lenet5", channels=3).preprocess.channels == 3
    assert build("cnn_6_16").preprocess.channels == 3


def test_a_size_that_is_too_small_for_a_network_of_ours_is_refused():
    message = (
        "cnn_6_16 does not support images of 15 x 40 px: the image is too small for its convolutions; "
        "the smallest supported size is 16 x 16 px, the next larger one 40 x 40 px."
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        build("cnn_6_16", image_size=(40, 15))


def test_weights_for_other_classes_leave_the_last_layer_fresh(tmp_path):
    state = build("cnn_6_16", num_classes=7).classifier.network.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    loaded = build("cnn_6_16", num_classes=3, weights=str(tmp_path / "w.safetensors")).classifier.network.state_dict()
    assert loaded["fc.weight"].shape == (3, 84)
    assert all(torch.equal(state[key], loaded[key]) for key in state if not key.startswith("fc."))
    # its fully connected layers have another size
    with pytest.raises(ConfigError, match=r"Other shapes: \S+ \(120, 400\) in the file"):
        build("cnn_6_16", image_size=(40, 40), weights=str(tmp_path / "w.safetensors"))


def test_colour_weights_answer_grey_images_as_colour_ones_of_three_equal_channels(tmp_path):
    colour = build("resnet8")
    save_file(colour.classifier.network.state_dict(), tmp_path / "w.safetensors")
    grey = build("resnet8", channels=1, weights=str(tmp_path / "w.safetensors"))
    images = images_for(grey)
    assert torch.allclose(
        logits_of(grey.classifier, images), logits_of(colour.classifier, images.expand(-1, -1, -1, 3)), atol=1e-5
    )


@pytest.mark.parametrize("name", ["resnet8", "test_resnet"])
def test_the_crop_mode_is_the_networks_unless_set(name):
    assert build(name, weights="none").preprocess.crop_mode == "center"
    for mode in ("squash", "border"):
        assert build(name, weights="none", crop_mode=mode).preprocess.crop_mode == mode


GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1"  # a resnet8 of the digits 0 to 9, grey and 8 x 8


def continued(class_names, *, task="multiclass", with_head=True, **settings):
    config = with_parent(ModelConfig(parent=str(GOLDEN), **settings))
    return build_from_parent(config, class_names, task=task, with_head=with_head)


def test_a_continued_network_answers_as_its_parent_with_the_classes_in_the_new_order():
    order = [3, 0, 7]
    model = continued([str(digit) for digit in order])
    images = images_for(model)
    expected = logits_of(load_classifier(GOLDEN), images)[:, order]
    assert torch.allclose(logits_of(model.classifier, images), expected, atol=1e-5)
    assert (model.name, model.library, model.has_head) == ("resnet8", "recog", True)
    assert len(model.origin.parent) == 64
    assert model.origin.source.endswith("its last layer has 3 of 3 classes")


def test_a_new_class_begins_with_the_mean_of_the_kept_rows():
    """Its logit is the mean of theirs, as the layer is linear."""
    model = continued(["3", "letter", "0"])
    logits = logits_of(model.classifier, images_for(model))
    assert torch.allclose(logits[:, 1], logits[:, [0, 2]].mean(dim=1), atol=1e-5)
    assert model.origin.source.endswith("its last layer has 2 of 3 classes, new: 'letter'")


@pytest.mark.parametrize(
    ("class_names", "changes"),
    [(["a", "b"], {}), (["3", "0"], {"task": "multilabel"}), (["3", "0"], {"with_head": False})],
)
def test_without_rows_to_keep_the_last_layer_is_to_be_fitted(class_names, changes):
    model = continued(class_names, **changes)
    assert (model.has_head, model.classifier.classifier.out_features) == (False, 2)
    assert model.origin.source.endswith("last layer new")


def test_a_parent_continues_at_another_size_where_its_layers_allow():
    assert continued(["3", "0"], image_size=(12, 16)).preprocess.image_size == (12, 16)


def saved_parent(model, folder):
    """The settings of a run that continues `model`, which knows CLASSES."""
    save_bundle_files(model, folder)
    data = TrainingData(name="d", fingerprint="sha256:0", num_images={})
    manifest = Manifest(
        task="multiclass",
        architecture=model.name,
        class_names=tuple(CLASSES),
        preprocess=model.preprocess,
        data=data,
        seed=0,
        files={},
    )
    write_manifest(folder, manifest)
    return {"parent": str(folder)}


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_a_parent_of_timm_continues_for_other_classes_and_another_size(name, tmp_path):
    before = build(name, weights="none", image_size=(64, 64))
    torch.nn.init.normal_(before.classifier.classifier.weight)
    parent = saved_parent(before, tmp_path)
    model = build_from_parent(ModelConfig(**parent), [*CLASSES[::-1], "new"], task="multiclass", with_head=True)
    images = images_for(model)
    expected = logits_of(before.classifier, images).flip(1)
    assert torch.allclose(logits_of(model.classifier, images)[:, :3], expected, atol=1e-4)
    larger = ModelConfig(**parent, image_size=(96, 96), drop_rate=0.25)
    assert build_from_parent(larger, CLASSES, task="multiclass", with_head=True).preprocess.image_size == (96, 96)


def test_a_parent_whose_layers_depend_on_the_size_continues_at_its_own(tmp_path):
    parent = saved_parent(build("lenet5"), tmp_path)
    assert build_from_parent(ModelConfig(**parent), CLASSES, task="multiclass", with_head=True).has_head
    message = "layers of .* depend on the image size, so it continues at its own size only; leave model.image_size out"
    with pytest.raises(ConfigError, match=message):
        build_from_parent(ModelConfig(**parent, image_size=(64, 64)), CLASSES, task="multiclass", with_head=True)
