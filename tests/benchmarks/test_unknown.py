"""The experiment on 'unknown': its AUROC with interval on made-up scores, and one run on a few coloured squares."""

import numpy as np
import pytest

from recog.evaluation.trust.calibration import CalibrationConfig
from recog.recipes.config import ComputeConfig, TrainConfig
from recog.training.config import OptimConfig


@pytest.fixture
def experiment(load_benchmark):
    return load_benchmark("unknown")


def test_auroc_of_two_normals_with_its_interval(experiment):
    """Means 0 and 1, deviation 1: the AUROC is Phi(1 / sqrt(2)) = 0.7602."""
    rng = np.random.default_rng(0)
    value, low, high = experiment.auroc_with_interval(rng.normal(0, 1, 600), rng.normal(1, 1, 400))
    assert low < 0.7602 < high
    assert low < value < high
    assert 0.04 < high - low < 0.08  # Hanley and McNeil (1982): 3.92 standard errors of 0.0153


@pytest.mark.slow
def test_a_class_never_shown_is_told_apart(experiment, monkeypatch, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    colours = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200), "grey": (128, 128, 128)}
    for split in ("train", "test"):
        for name, colour in colours.items():
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(30):
                pixels = np.clip(np.array(colour) + rng.normal(0, 25, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{i}.png")
    scratch = TrainConfig(
        recipe="scratch",
        optim=OptimConfig(epochs=2),
        compute=ComputeConfig(num_threads=1),
        calibration=CalibrationConfig(false_alarm_rate=0.2),  # validation images are few
    )
    monkeypatch.setattr(experiment, "CONFIG", scratch)
    monkeypatch.setattr(experiment, "NUM_TEST", 10)
    monkeypatch.chdir(tmp_path)
    strange = sorted((tmp_path / "data" / "test" / "grey").iterdir())
    outcome = experiment.try_data("grey", tmp_path / "data", ("blue", "green", "red"), strange, tmp_path)
    assert (outcome.num_known, outcome.num_strange) == (30, 30)
    assert 0 <= outcome.auroc[1] <= outcome.auroc[0] <= outcome.auroc[2] <= 1
    assert outcome.row().startswith("| grey | ")
