"""`recog verify`: every hash of a bundle, and its reference images answered again on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recog.bundle.locate import find_bundle
from recog.bundle.verify import Verification, verify_bundle
from recog.runtime.predictor import load


def verify(bundle: str | Path) -> Verification:
    """Check a bundle, run folder or run's name. Raises BundleError with what differs and by how much."""
    folder = find_bundle(bundle)
    predictor = load(folder)

    def predict_probs(files: Sequence[bytes]) -> NDArray[np.float64]:
        return np.stack([prediction.probs for prediction in predictor.predict(list(files))])

    return verify_bundle(folder, predict_probs)
