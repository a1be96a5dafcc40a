"""Fine-tuning from a head on inner layers, and of the plain network."""

import json

import numpy as np
import pytest
import timm
import torch
from containers import labelled_pngs, write_folder
from safetensors.torch import save_file

import recog
from recog.models.network_files import load_classifier
from recog.verbs.python.embedded import train

NAME = "test_efficientnet"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(timm.create_model(NAME).state_dict(), path)
    return path


@pytest.mark.parametrize("layers", ["multi", "last"])
def test_the_bundle_has_the_network_that_was_trained(layers, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder(labelled_pngs(30, classes=("ant", "bee")), tmp_path / "photos")
    settings = {"model.image_size": (32, 32), "head.layers": layers, "optim.lr": 1e-4}
    run = train(
        "photos", recipe="finetune", model=NAME, weights=str(weights), epochs=2, batch_size=8, threads=1, settings=settings,
        verbose=False,
    )  # fmt: skip
    config = json.loads((run.bundle / "config.json").read_text())
    assert (config.get("library"), config.get("head_layers")) == (
        ("recog", "multi") if layers == "multi" else (None, None)
    )
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        logits, _ = load_classifier(run.bundle)(torch.from_numpy(images))
    np.testing.assert_allclose(recog.load(run.bundle).engine(images).logits, logits.numpy(), atol=1e-4)
    records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert sum(record["kind"] == "epoch" for record in records) == 2
