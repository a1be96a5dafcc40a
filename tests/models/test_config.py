import pytest
import timm

from recog.core.errors import ConfigError
from recog.models.config import ModelConfig, check_network, read_timm_names


def test_the_names_that_are_read_include_all_that_timm_registers():
    assert set(timm.list_models()) <= read_timm_names()


@pytest.mark.parametrize("name", ["resnet8", "vit_tiny", "resnet50", "resnet50.a1_in1k", "module:Net", None])
def test_a_known_network_passes(name):
    assert check_network(ModelConfig(name=name)) is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [("vit_b_16", "vit_base_patch16_224"), ("resnet9", "resnet8"), ("ViT-L-16", "vit_large_patch16_224")],
)
def test_an_unknown_network_is_refused_with_what_was_probably_meant(name, meant):
    with pytest.raises(ConfigError, match=f"Did you mean '{meant}'"):
        check_network(ModelConfig(name=name))


def test_a_weights_file_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="weights absent.safetensors not found: expected a file"):
        check_network(ModelConfig(weights="absent.safetensors"))
