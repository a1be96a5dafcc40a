"""The torch network as an Engine: the second opinion of the parity gate."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from recog.models.classifier import Classifier
from recog.runtime.engine import Outputs, images_at_once
from recog.training.fit import collect_logits


class TorchEngine:
    """Runs a Classifier in fp32 and evaluation mode."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        batch_size = images_at_once((images.shape[1], images.shape[2]))
        with torch.inference_mode():
            evaluation = collect_logits(self._classifier, images, precision="float32", batch_size=batch_size)
        return Outputs(logits=evaluation.logits, features=evaluation.features)
