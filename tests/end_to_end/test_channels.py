"""`--channels 1`: images stay grey from the file to the answer, with a pretrained network's weights too."""

import io

import numpy as np
import pytest
import torch
from containers import write_folder
from PIL import Image
from typer.testing import CliRunner

from recog.cli import build_app
from recog.core.images.decode import decode
from recog.models.build import build_model
from recog.models.config import ModelConfig
from recog.models.network_files import load_classifier
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
from recog.runtime.predictor import load
from recog.training.config import OptimConfig
from recog.verbs.run import Run
from recog.verbs.train import train_events

LITE = "tf_efficientnet_lite0"
SIZE = (64, 64)


def grey_and_colour(count):
    """{(class, i): PNG}: grey levels 40 or 200 with noise, every other file as a colour photo that looks the same."""
    generator = np.random.default_rng(0)
    images = {}
    for name, level in (("dark", 40), ("light", 200)):
        for i in range(count):
            pixels = (level + generator.integers(-30, 30, (70, 66))).astype(np.uint8)
            picture = Image.fromarray(pixels)
            file = io.BytesIO()
            (picture if i % 2 else picture.convert("RGB")).save(file, "PNG")
            images[name, i] = file.getvalue()
    return images


def test_the_first_layer_of_the_grey_network_is_the_sum_over_the_colours():
    """So that a grey image has the features that it has as a colour image, whose three channels are equal."""
    grey = build_model(ModelConfig(name=LITE, channels=1, image_size=SIZE), num_classes=2).classifier
    colour = build_model(ModelConfig(name=LITE, image_size=SIZE), num_classes=2).classifier
    summed = colour.network.conv_stem.weight.sum(dim=1, keepdim=True)
    torch.testing.assert_close(grey.network.conv_stem.weight, summed, rtol=0, atol=1e-6)
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, *SIZE, 1), dtype=np.uint8))
    with torch.no_grad():
        features, same = grey(images)[1], colour(images.expand(-1, -1, -1, 3))[1]
    torch.testing.assert_close(features, same, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["head", "scratch"])
def test_grey_reaches_the_bundle(recipe, tmp_path):
    images = grey_and_colour(24)
    config = TrainConfig(
        recipe=recipe,
        data=DataConfig(source=str(write_folder(images, tmp_path / "data"))),
        model=ModelConfig(channels=1, image_size=SIZE if recipe == "head" else (16, 16)),
        optim=OptimConfig() if recipe == "head" else OptimConfig(epochs=2),
        compute=ComputeConfig(num_threads=1),
    )
    *_, run = train_events(config, runs=tmp_path / "runs")
    assert isinstance(run, Run)
    predictor = load(run.bundle, num_threads=1)
    assert predictor.preprocess.channels == 1
    assert predictor.preprocess.read(images["dark", 0]).shape[-1] == 1  # a colour file is made grey
    assert len(load_classifier(run.bundle).channel_mean) == 1
    # a colour file whose channels are equal is the same picture as the grey one, and has the same answer
    pixels = decode(images["light", 1], channels=1)[:, :, 0]
    first, second = predictor.predict([pixels, np.stack([pixels] * 3, axis=-1)])
    np.testing.assert_array_equal(first.probs, second.probs)
    if recipe == "head":
        assert run.report.accuracy == 1.0


def test_the_flag_sets_the_networks_channels(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("recog.verbs.train.train_events", lambda config, **_: seen.append(config) or iter(()))
    done = CliRunner().invoke(build_app(("train",)), ["train", "digits", "--channels", "1"])
    assert done.exit_code == 0, done.output
    assert seen[0].model.channels == 1
    refused = CliRunner().invoke(build_app(("train",)), ["train", "digits", "--channels", "2"])
    assert refused.exit_code == 2
    assert "must be 1 (grey) or 3 (colour)" in refused.output
