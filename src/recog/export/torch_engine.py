"""The torch network as an Engine: the second opinion of the parity gate."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from recog.models.classifier import Classifier
from recog.runtime.engine import Outputs
from recog.training.fit import collect_logits

BATCH_SIZE = 16  # images at once: the maps of 128 images of 288 px would take gigabytes


class TorchEngine:
    """Runs a Classifier in fp32 and evaluation mode."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode():
            evaluation = collect_logits(self._classifier, images, precision="float32", batch_size=BATCH_SIZE)
        return Outputs(logits=evaluation.logits, features=evaluation.features)
