"""`--set export.feature_map=true` from training to maps without torch."""

from __future__ import annotations

import numpy as np
import pytest
from mapped_bundles import class_map
from sklearn.datasets import load_digits

from recog.core.errors import ConfigError
from recog.models.config import ModelConfig
from recog.recipes.config import ComputeConfig, DataConfig, ExportConfig, TrainConfig
from recog.runtime.predictor import load
from recog.training.config import OptimConfig
from recog.verbs.run import Run
from recog.verbs.train import train_events

CONFIG = TrainConfig(
    data=DataConfig(source="digits"),
    optim=OptimConfig(epochs=1),
    compute=ComputeConfig(num_threads=1),
    export=ExportConfig(feature_map=True),
)


def test_a_network_whose_last_map_is_too_small_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match=r"export.feature_map is true, but the last map has 2 x 2 positions"):
        list(train_events(CONFIG, name="d", runs=tmp_path))
    assert not (tmp_path / "d" / "bundle").exists()


@pytest.mark.slow
def test_a_trained_bundle_draws_the_maps_of_torch(tmp_path):
    from dataclasses import replace

    config = replace(CONFIG, model=ModelConfig(image_size=(32, 32)))
    *_, run = train_events(config, name="d", runs=tmp_path)
    assert isinstance(run, Run)
    assert "`feature_map`" in (run.bundle / "README.md").read_text()
    predictor = load(run.bundle)
    image = (load_digits().images[5] * 255 / 16).astype(np.uint8)
    found = predictor.predict(image, explain=True)
    expected = class_map(run.bundle, found.seen[None], found.class_names.index(found.label))
    assert expected.shape == (1, 8, 8)
    np.testing.assert_allclose(found.maps, expected, atol=1e-4 * expected.max())
