"""What all tests share: one torch thread, one small run on `digits`, and the real data where they are at hand."""

from __future__ import annotations

import hashlib
import json
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
    from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
    from recog.training.config import OptimConfig
    from recog.verbs.run import Run
    from recog.verbs.train import train_events

    config = TrainConfig(
        data=DataConfig(source="digits"), optim=OptimConfig(epochs=2), compute=ComputeConfig(num_threads=1)
    )
    runs = tmp_path_factory.mktemp("runs")
    *_, last = train_events(config, name="digits", runs=runs)
    assert isinstance(last, Run)
    return last


@pytest.fixture
def run_folder(digits_run, tmp_path):
    """A copy of the folder of `digits_run`, free to write into."""
    return shutil.copytree(digits_run.folder, tmp_path / "digits-run")


@pytest.fixture
def bundle(digits_run, tmp_path):
    """A copy of the bundle of `digits_run`, free to tamper with."""
    return shutil.copytree(digits_run.bundle, tmp_path / "bundle")


@pytest.fixture(scope="session")
def mapped_bundle(tmp_path_factory):
    """The golden bundle of digits with a feature map in its ONNX file. Never change its files: copy them."""
    from mapped_bundles import write_mapped_bundle

    return write_mapped_bundle("digits-format-1", tmp_path_factory.mktemp("mapped") / "bundle")


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


@pytest.fixture
def reseal():
    """Write recog.json anew over what now stands in a bundle, with fields changed: what a careful forger would do."""

    def write(folder, **changes):
        path = folder / "recog.json"
        table = json.loads(path.read_bytes())
        names = {entry.name for entry in folder.iterdir() if entry.is_file()} - {"recog.json"}
        table["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(names)}
        table |= changes
        del table["digest"]
        # canonical JSON as RFC 8785 has it for such values: sorted keys, no spaces, UTF-8
        canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        table["digest"] = hashlib.sha256(canonical.encode()).hexdigest()
        path.write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")

    return write
