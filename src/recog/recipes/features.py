"""The outputs of a network for all images of a split, by the engine that bundles are answered with."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recog.core.preprocess import Preprocess
from recog.data.store import Rows
from recog.evaluation.trust.conformal import image_coins
from recog.export.onnx import export_onnx
from recog.models.classifier import Classifier
from recog.runtime.engine import Engine, FileEngine, Outputs, images_at_once, open_engine


@contextlib.contextmanager
def exported(
    classifier: Classifier, preprocess: Preprocess, class_names: Sequence[str], *, num_threads: int | None
) -> Iterator[FileEngine]:
    """The engine of `classifier` as it is: the same numbers as torch's, several times faster on a CPU."""
    with tempfile.TemporaryDirectory(prefix="recog-") as folder:
        path = Path(folder) / "network.onnx"
        size, channels = preprocess.image_size, preprocess.channels
        export_onnx(classifier, path, image_size=size, channels=channels, class_names=class_names)
        yield open_engine(path, num_threads=num_threads)


def run_engine(engine: Engine, images: Rows) -> tuple[Outputs, NDArray[np.float64]]:
    """The outputs for images uint8 [N, H, W, C], and their `image_coins` [N]; each image is read once."""
    outputs, uniforms = [], []
    height, width = images[:1].shape[1:3]
    batch_size = images_at_once((height, width))
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        outputs.append(engine(batch))
        uniforms.append(image_coins(batch))
    together = Outputs(
        logits=np.concatenate([output.logits for output in outputs]),
        features=np.concatenate([output.features for output in outputs]),
    )
    return together, np.concatenate(uniforms)
