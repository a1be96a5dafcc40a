"""An engine's answers to many images that are at hand already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recog.data.store import Rows
from recog.evaluation.conformal import image_coins
from recog.runtime.engine import Engine


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What an engine gives for N images, and their coins, so that each is read once."""

    logits: NDArray[np.float32]  # [N, K]
    features: NDArray[np.float32]  # [N, D]
    coins: NDArray[np.float64]  # [N]


def run_engine(engine: Engine, images: Rows, batch_size: int = 32) -> Collected:
    """From images uint8 [N, H, W, C]."""
    outputs, coins = [], []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        outputs.append(engine(batch))
        coins.append(image_coins(batch))
    return Collected(
        logits=np.concatenate([output.logits for output in outputs]),
        features=np.concatenate([output.features for output in outputs]),
        coins=np.concatenate(coins),
    )
