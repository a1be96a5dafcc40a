"""Hosts of pretrained weights that answer, refuse, hang or do not exist, without any network but this machine's own."""

import hashlib
import time

import pytest
import timm
from huggingface_hub import constants
from safetensors.torch import save
from small_models import build

from recog.core.errors import ConfigError
from recog.models import hub
from recog.models.config import ModelConfig
from recog.models.hub import PACKAGED, check_download, is_cached, quiet_hub
from recog.models.weights import PACKAGED_WEIGHTS


@pytest.fixture
def no_caches(tmp_path, monkeypatch):
    """Empty caches of the hub and of torch."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.mark.parametrize(
    ("model", "host"),
    [
        (ModelConfig(name="resnet18"), "hub.example"),
        (ModelConfig(name="vit_base_patch16_224.augreg_in21k"), "hub.example"),
        (ModelConfig(name="alexnet"), "download.pytorch.org"),
    ],
)
def test_weights_to_download_are_refused_without_their_host(model, host, no_caches, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    asked = []
    monkeypatch.setattr(hub, "why_unreachable", lambda url: asked.append(url) or "no route")
    with pytest.raises(ConfigError, match=r"Could not download pretrained weights for .* \(no route\)\. Offline, pass"):
        check_download(model)
    assert asked == [f"https://{host}"]
    (no_caches / "hub" / "models--timm--resnet50.a1_in1k").mkdir(parents=True)  # another network's
    with pytest.raises(ConfigError):
        check_download(model)


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(),  # recog's default, an installed package
        ModelConfig(name="efficientnet_lite0"),
        ModelConfig(name="resnet8"),  # without published weights
        ModelConfig(name="module:Net"),
        ModelConfig(name="resnet18", weights="none"),
        ModelConfig(name="resnet18", weights="mine.safetensors"),
    ],
)
def test_what_needs_no_download_asks_no_host(model, no_caches, monkeypatch):
    monkeypatch.setattr(hub, "why_unreachable", lambda url: pytest.fail(f"asked {url}"))
    check_download(model)


def test_packages_are_those_of_the_weights_table():
    assert set(PACKAGED_WEIGHTS) == PACKAGED


def keep(cache, file):
    path = cache / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18", "hub/models--timm--resnet18.a1_in1k/snapshots/abc/model.safetensors"),
        ("resnet18.a1_in1k", "hub/models--timm--resnet18.a1_in1k/snapshots/abc/pytorch_model.bin"),
        ("fastvit_mci0", "hub/models--apple--mobileclip_s0_timm/snapshots/abc/model.safetensors"),  # of another owner
        (
            "vit_base_patch16_clip_quickgelu_224",
            "hub/models--timm--vit_base_patch16_clip_224.metaclip_2pt5b/snapshots/abc/model.safetensors",
        ),
        ("alexnet", "torch/hub/checkpoints/alexnet-owt-7be5be79.pth"),
        ("legacy_seresnet18", "torch/hub/checkpoints/seresnet18-4bb0ce65.pth"),
    ],
)
def test_what_may_be_downloaded_is_left_to_timm(name, file, no_caches, monkeypatch):
    keep(no_caches, file)
    monkeypatch.setattr(hub, "why_unreachable", lambda url: pytest.fail(f"asked {url}"))
    check_download(ModelConfig(name=name))


@pytest.mark.parametrize(
    "file",
    [
        "hub/models--timm--resnet18d.ra2_in1k/snapshots/abc/model.safetensors",
        "hub/models--timm--resnet18.a1_in1k/snapshots/abc/config.json",  # without weights
        "hub/models--facebook--dinov2-small/snapshots/abc/model.safetensors",
        "torch/hub/checkpoints/other-0676ba61.pth",
    ],
)
def test_other_downloads_do_not_delay_the_refusal(file, no_caches, monkeypatch):
    keep(no_caches, file)
    monkeypatch.setattr(hub, "why_unreachable", lambda url: "no route")
    with pytest.raises(ConfigError, match="no route"):
        check_download(ModelConfig(name="resnet18"))


@pytest.fixture
def downloaded(no_caches):
    """resnet18 as the hub's client keeps it: a file under its sha256 and a link to it."""
    published = timm.get_pretrained_cfg("resnet18")
    assert not is_cached(published)
    root = no_caches / "hub" / f"models--{published.hf_hub_id.replace('/', '--')}"
    for folder in ("snapshots/abc", "refs", "blobs"):
        (root / folder).mkdir(parents=True)
    (root / "refs" / "main").write_text("abc")
    donor = timm.create_model("resnet18")
    data = save(donor.state_dict())
    blob = root / "blobs" / hashlib.sha256(data).hexdigest()
    blob.write_bytes(data)
    (root / "snapshots" / "abc" / "model.safetensors").symlink_to(blob)
    assert is_cached(published)
    return donor, blob


def test_downloaded_weights_are_used_without_asking_a_host(downloaded, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("recog.models.timm_bridge.why_unreachable", lambda url: pytest.fail(f"asked {url}"))
    donor, _ = downloaded
    begun = time.perf_counter()
    model = build("resnet18")
    assert time.perf_counter() - begun < 15  # the client's own retries alone take 24 s
    assert model.origin.source == "hub timm/resnet18.a1_in1k"
    assert model.classifier.network.conv1.weight.equal(donor.conv1.weight)
    assert constants.HF_HUB_OFFLINE is False


def test_one_flipped_bit_in_downloaded_weights_is_noticed(downloaded, monkeypatch, caplog):
    _, blob = downloaded
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    monkeypatch.setattr("recog.models.timm_bridge.why_unreachable", lambda url: "no route")
    with pytest.raises(ConfigError, match=r"Could not download pretrained weights for resnet18 \(no route\)"):
        build("resnet18")
    assert "model.safetensors are damaged" in caplog.text
    assert not blob.exists()


def test_the_clients_settings_are_restored(monkeypatch):
    from huggingface_hub import logging

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    before = logging.get_verbosity()
    with quiet_hub(offline=True):
        assert (logging.get_verbosity(), constants.HF_HUB_OFFLINE) == (40, True)  # logging.ERROR
    assert (logging.get_verbosity(), constants.HF_HUB_OFFLINE) == (before, False)
