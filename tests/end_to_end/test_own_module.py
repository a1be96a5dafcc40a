"""A user's own nn.Module through the Python API, from training to what the bundle answers."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import recog
from recog.core.errors import BundleError, ConfigError
from recog.models.config import ModelConfig
from recog.models.network_files import load_classifier
from recog.recipes.config import ComputeConfig, TrainConfig
from recog.training.config import OptimConfig


class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.hidden = nn.Linear(16 * 4 * 4, 32)
        self.last = nn.Linear(32, num_classes)

    def forward(self, images):
        x = nn.functional.max_pool2d(self.norm(self.conv(images)).relu(), 2)
        return self.last(self.hidden(x.flatten(1)).relu())


CONFIG = TrainConfig(optim=OptimConfig(epochs=3), compute=ComputeConfig(num_threads=1))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        yield recog.train("digits", CONFIG, network=Net(), name="own")


def test_it_learns_and_its_bundle_verifies(run):
    assert run.report.accuracy > 0.9  # by chance 0.1
    verification = recog.verify(run.bundle)
    assert verification.max_prob_difference is not None
    assert verification.max_prob_difference < 1e-4


def test_the_bundle_says_that_onnx_alone_serves_it(run):
    config = json.loads((run.bundle / "config.json").read_text())
    assert (config["architecture"], config["library"], config["served_by"]) == ("Net", "own", "model.onnx")
    assert config["pretrained_cfg"]["input_size"] == [1, 8, 8]
    assert config["num_features"] == 32
    with pytest.raises(BundleError, match=r"made from a custom module \(Net\).*only model\.onnx can be run"):
        load_classifier(run.bundle)
    assert "local-dir:" not in (run.bundle / "README.md").read_text()


def test_the_weights_go_back_into_the_module_and_answer_as_the_bundle(run):
    net = Net()
    net.load_state_dict(load_file(run.bundle / "model.safetensors"))
    net.eval()
    config = json.loads((run.bundle / "config.json").read_text())["pretrained_cfg"]
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    predictor = recog.load(run.bundle)
    ours = predictor.predict_batch(images).logits
    with torch.no_grad():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        theirs = net((pixels - config["mean"][0]) / config["std"][0])
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-4)


def test_it_evaluates_and_predicts(run):
    evaluated = recog.evaluate(run.bundle, "digits")
    assert evaluated.report.accuracy == pytest.approx(run.report.accuracy)
    image = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    assert recog.load(run.bundle).predict(image).label in {str(digit) for digit in range(10)}


def test_a_run_of_it_is_not_repeated_without_it(run, monkeypatch):
    from recog.runs.folder import load_run_config

    with pytest.raises(ConfigError, match="Net is your own module.*recog.train.*network=module"):
        recog.train(None, load_run_config(run.folder / "run.toml"))


def test_what_is_missing_or_twofold_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="model.name is resnet8, but a module was passed as well"):
        recog.train("digits", TrainConfig(model=ModelConfig(name="resnet8")), network=Net())
    with pytest.raises(ConfigError, match=r"returned \[2, 4\] for 2 images; expected logits \[2, 10\]"):
        recog.train("digits", CONFIG, network=Net(num_classes=4))
    assert not (tmp_path / "runs").exists()
