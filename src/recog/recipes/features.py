"""The outputs of a network for all images of a split, by the engine that bundles are answered with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recog.data.store import Rows
from recog.evaluation.trust.conformal import image_coins
from recog.runtime.engine import Engine, Outputs, images_at_once


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
