"""The same images through every container: equal fingerprint, equal splits, and a network that answers equally."""

import json

import numpy as np
import pytest
from containers import CONTAINERS, labelled_pngs

from recog.core.files import sha256_bytes
from recog.recipes.plan import ComputeConfig, DataConfig, TrainConfig
from recog.recipes.train import Run, train_events
from recog.runtime.predictor import load
from recog.training.optim import OptimConfig


def train(source, runs):
    config = TrainConfig(
        recipe="scratch",
        data=DataConfig(source=str(source)),
        optim=OptimConfig(epochs=2),
        compute=ComputeConfig(num_threads=1),
    )
    *_, run = train_events(config, name="run", runs=runs)
    assert isinstance(run, Run)
    return run


@pytest.mark.slow
def test_the_container_cannot_be_seen_in_the_model(tmp_path):
    pytest.importorskip("pyarrow")
    images = labelled_pngs()
    sources = {kind: write(images, tmp_path / kind) for kind, write in CONTAINERS.items()}
    reference = None
    for kind, source in sources.items():
        run = train(source, tmp_path / f"runs-{kind}")
        manifest = json.loads((run.bundle / "recog.json").read_text())
        table = json.loads((run.folder / "splits.json").read_text())
        splits = {split: sorted(row["sha256"] for row in rows) for split, rows in table["splits"].items()}
        probs = np.stack([p.probs for p in load(run.bundle, num_threads=1).predict(list(images.values()))])
        weights = sha256_bytes((run.bundle / "model.safetensors").read_bytes())
        found = (manifest["data"]["fingerprint"], manifest["class_names"], splits, weights)
        print(f"{kind}: fingerprint {found[0][:20]}, weights {weights[:12]}, accuracy {run.report.accuracy:.3f}")
        if reference is None:
            reference = found, probs
        assert found == reference[0], kind
        assert np.array_equal(probs, reference[1]), kind
    assert {len(hashes) for hashes in splits.values()} == {42, 9}  # 70/15/15 of 20 in each of three classes
