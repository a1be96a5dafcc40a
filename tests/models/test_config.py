import json
import shutil
from pathlib import Path

import pytest

from recog.core.errors import ConfigError
from recog.models.config import ModelConfig, check_network, with_bundle

GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1"


@pytest.mark.parametrize(
    "name", ["resnet8", "vit_tiny", "resnet50", "resnet50.a1_in1k", "module:Net", None, "ResNet-50"]
)
def test_a_known_network_passes(name):
    assert check_network(ModelConfig(name=name)) is None


def test_a_weights_file_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="weights absent.safetensors not found: expected a file"):
        check_network(ModelConfig(weights="absent.safetensors"))


def test_a_bundle_as_weights_brings_its_network_and_statistics():
    """The golden bundle is a resnet8 of scikit-learn's digits, grey and 8 x 8."""
    config = with_bundle(ModelConfig(weights=str(GOLDEN)))
    table = json.loads((GOLDEN / "config.json").read_bytes())["pretrained_cfg"]
    assert (config.name, config.channels, config.image_size) == ("resnet8", 1, (8, 8))
    assert (config.mean, config.std) == (tuple(table["mean"]), tuple(table["std"]))
    assert Path(config.weights) == GOLDEN / "model.safetensors"
    assert with_bundle(config) == config
    wider = with_bundle(ModelConfig(weights=str(GOLDEN), channels=3, image_size=(16, 16)))
    assert (wider.channels, wider.mean, wider.image_size) == (3, None, (16, 16))


def test_a_bundle_of_another_network_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is a bundle of resnet8, but model.name is resnet20; leave --model out"):
        with_bundle(ModelConfig(name="resnet20", weights=str(GOLDEN)))
    shutil.copytree(GOLDEN, tmp_path / "b")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ConfigError, match="is not the file that was sealed"):
        with_bundle(ModelConfig(weights=str(tmp_path / "b")))
