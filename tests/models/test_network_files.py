import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_models import CLASSES, build, images_for, logits_of, save_bundle_files

from recog.core.errors import BundleError
from recog.models.network_files import load_classifier, save_network_config

LITE0 = "tf_efficientnet_lite0"


def test_a_tag_of_weights_is_not_part_of_the_architecture(tmp_path):
    """config.json and recog.json must agree on the architecture, or the bundle cannot be sealed."""
    model = build("resnet18.a1_in1k", weights="none")
    save_network_config(model, tmp_path / "config.json", class_names=CLASSES)
    assert model.name == json.loads((tmp_path / "config.json").read_text())["architecture"] == "resnet18"


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


def test_config_json_of_a_timm_network_describes_this_network_and_not_the_weights_it_started_from(tmp_path):
    """transformers passes num_classes beside model_args; `resolve_data_config(use_test_size=True)` prefers the test size."""
    model = build("resnet10t", weights="none", image_size=(32, 32))
    save_network_config(model, tmp_path / "config.json", class_names=CLASSES)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert "num_classes" not in config["model_args"]
    assert not [key for key in config["pretrained_cfg"] if key.startswith("test_")]
    assert "problem_type" not in config


@pytest.mark.slow  # imports torch, timm and transformers again
@pytest.mark.parametrize(
    ("name", "size", "task", "scale"),
    [("test_efficientnet", (40, 48), "multiclass", 50), ("test_vit", (64, 64), "multilabel", 0.1)],
)
def test_transformers_answers_as_the_network_does(name, size, task, scale, tmp_path):
    """Its pipeline reads, scales and crops the photo, and takes the softmax or, of several labels, the sigmoid."""
    pytest.importorskip("transformers")
    model = build(name, weights="none", image_size=size)
    torch.nn.init.normal_(model.classifier.classifier.weight, std=scale)
    save_bundle_files(model, tmp_path, task)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((100, 80), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    script = """
        import json, sys
        from transformers import pipeline
        answers = pipeline("image-classification", model=sys.argv[1])(f"{sys.argv[1]}/photo.png", top_k=None)
        print(json.dumps({answer["label"]: answer["score"] for answer in answers}))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    theirs = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120, env=environment).stdout)
    images = torch.from_numpy(model.preprocess.read(tmp_path / "photo.png"))[None]
    logits = logits_of(model.classifier, images)[0]
    ours = logits.softmax(0) if task == "multiclass" else logits.sigmoid()
    assert list(theirs) == [CLASSES[i] for i in ours.argsort(descending=True)]
    np.testing.assert_allclose([theirs[label] for label in CLASSES], ours.numpy(), rtol=1e-4, atol=1e-5)
    assert ours.std() > 0.05  # not all alike


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


def test_equal_weights_make_equal_files_whatever_their_layout_in_memory(tmp_path):
    model = build("resnet8")
    save_bundle_files(model, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    model.classifier.to(memory_format=torch.channels_last)
    save_bundle_files(model, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_layers_that_share_weights_are_saved_under_both_names(tmp_path):
    model = build("resnet8")
    blocks = model.classifier.network.blocks
    blocks[0].conv2.weight = blocks[0].conv1.weight
    save_bundle_files(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert torch.equal(state["blocks.0.conv1.weight"], state["blocks.0.conv2.weight"])
