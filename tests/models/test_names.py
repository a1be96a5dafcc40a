import pytest
import timm

from recog.core.errors import ConfigError
from recog.models.names import OTHER_NAMES, known_network, read_timm_names
from recog.models.table import MODELS, timm_name


def test_the_names_that_are_read_include_all_that_timm_registers():
    assert set(timm.list_models()) <= read_timm_names()


@pytest.mark.parametrize("name", OTHER_NAMES.values())
def test_other_names_mean_networks_that_exist(name):
    assert name in MODELS or timm.is_model(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnet8", "resnet8"),
        ("resnet18", "resnet18"),
        ("resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("timm/resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("hf-hub:timm/resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("hf_hub:timm/resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("https://huggingface.co/timm/resnet18.a1_in1k", "resnet18.a1_in1k"),
        ("ResNet18", "resnet18"),
        ("ResNet-18", "resnet18"),
        ("resnet-18", "resnet18"),
        ("ResNet-18.a1_in1k", "resnet18.a1_in1k"),
        ("EfficientNet-B0", "efficientnet_b0"),
        ("MobileNetV2", "mobilenet_v2"),
        ("ConvNeXt Tiny", "convnext_tiny"),
        ("ConvNeXt-Tiny.fb_in22k", "convnext_tiny.fb_in22k"),
        ("vit_b_16", "vit_base_patch16_224"),
        ("ViT-B/16", "vit_base_patch16_224"),
        ("vit-tiny.augreg_in21k", "vit_tiny_patch16_224.augreg_in21k"),
        ("vit", "vit_tiny"),
        ("dinov2", "dinov2_small"),
        ("dinov2_small", "dinov2_small"),
        ("DINOv2-base", "dinov2_base"),
        ("dinov2_large", "vit_large_patch14_dinov2"),
        ("dinov2_vits14", "dinov2_small"),
        ("resnet-50d", "resnet50d"),
    ],
)
def test_names_as_people_write_them(name, meant):
    assert known_network(name) == meant
    assert meant in MODELS or timm.is_model(timm_name(meant))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet9", r"Unknown network 'resnet9': neither in recog nor in timm\. Did you mean 'resnet8'\?"),
        ("hf-hub:facebook/dinov2-small", "is a repository on the hub; of these only timm's can be named"),
        ("facebook/dinov2-small", "is a repository on the hub; of these only timm's can be named"),
        ("hf-hub:timm/absent", "Unknown network 'hf-hub:timm/absent'"),
        ("", "Unknown network ''"),
        ("r\x1b[31m", r"Unknown network 'r\\x1b\[31m'"),
    ],
)
def test_a_name_that_means_no_network_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        known_network(name)


def test_without_timm_any_name_may_be_one(monkeypatch):
    monkeypatch.setattr("recog.models.names.read_timm_names", frozenset)
    assert known_network("timm/anything") == "anything"
