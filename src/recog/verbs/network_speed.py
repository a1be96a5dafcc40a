"""How long networks take for an image on this machine, with the engine that predicts; their weights make no difference."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from recog.core.errors import ConfigError
from recog.deployment.onnx import export_onnx
from recog.models.build import build_model
from recog.models.config import ModelConfig
from recog.models.listing import MAX_COUNTED, NetworkFacts
from recog.runtime.engine import Engine, open_engine

NUM_CALLS = 15  # of one image each; the fastest counts, as other programs only slow it down


def measured(networks: Iterable[NetworkFacts], *, num_threads: int) -> Iterator[NetworkFacts]:
    """Each of `networks` with its milliseconds per image at its input size; None where it cannot be exported to ONNX.

    ConfigError for more than 50 networks, as each takes seconds.
    """
    chosen = list(networks)
    if len(chosen) > MAX_COUNTED:
        raise ConfigError(
            f"--measure takes up to {MAX_COUNTED} networks; the pattern matches {len(chosen):,}. Narrow it."
        )
    for facts in chosen:
        yield replace(facts, ms=_measure(facts, num_threads=num_threads))


def _measure(facts: NetworkFacts, *, num_threads: int) -> float | None:
    try:
        model = build_model(ModelConfig(name=facts.name, weights="none"), num_classes=2)
    except ConfigError:
        return None  # recog cannot train it either
    size, channels = model.preprocess.image_size, model.preprocess.channels
    with tempfile.TemporaryDirectory(prefix="recog-") as folder:
        path = Path(folder) / "network.onnx"
        try:
            export_onnx(model.classifier, path, image_size=size, channels=channels, class_names=("a", "b"))
        except RuntimeError:
            return None
        engine = open_engine(path, num_threads=num_threads)
        image = np.full((1, *size, channels), 127, dtype=np.uint8)
        engine(image)  # the first call allocates
        return min(_time(engine, image) for _ in range(NUM_CALLS))


def _time(engine: Engine, image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    started = time.perf_counter()
    engine(image)
    return 1000 * (time.perf_counter() - started)
