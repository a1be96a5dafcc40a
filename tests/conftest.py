"""What all tests share: one thread for torch, and one small run on `digits` that is trained once and copied before it is harmed."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _one_torch_thread():
    """Small networks are faster on one thread, and tests share the machine. Only where a test has imported torch."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """A finished Run on scikit-learn's digits: ResNet-8, 2 epochs, some seconds. Never change its files: copy them."""
    from recog.recipes.plan import ComputeConfig, DataConfig, TrainConfig
    from recog.recipes.train import Run, train_events
    from recog.training.optim import OptimConfig

    config = TrainConfig(
        data=DataConfig(source="digits"), optim=OptimConfig(epochs=2), compute=ComputeConfig(num_threads=1)
    )
    runs = tmp_path_factory.mktemp("runs")
    *_, last = train_events(config, name="digits", runs=runs)
    assert isinstance(last, Run)
    return last


@pytest.fixture
def bundle(digits_run, tmp_path):
    """A copy of the bundle of `digits_run`, free to tamper with."""
    return shutil.copytree(digits_run.bundle, tmp_path / "bundle")


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data beside the project; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("RECOG_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "flowers.zip").is_file():
        pytest.skip(f"no real data: set RECOG_DATA to the folder with flowers.zip (looked in {folder})")
    return folder


@pytest.fixture(scope="session")
def flowers(shared_data, tmp_path_factory):
    """600 train and 200 test photos of five kinds of flowers."""
    folder = tmp_path_factory.mktemp("flowers")
    with zipfile.ZipFile(shared_data / "flowers.zip") as archive:
        archive.extractall(folder)
    return folder / "flowers"
