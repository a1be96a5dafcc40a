"""What is explained, and what an explanation is: one signature for all methods, `explain(subject, images, labels)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recog.bundle.seal import read_network_config
from recog.core.errors import ConfigError, RecogError, missing_extra
from recog.core.task import Task
from recog.evaluation.measures.task import TASK_MEASURES
from recog.runtime.engine import Engine, images_at_once
from recog.runtime.predictor import Predictor

if TYPE_CHECKING:
    from recog.attribution.layers import Layer
    from recog.models.classifier import Classifier

Images = NDArray[np.uint8]  # [B, H, W, C], as Preprocess gives them
Labels = NDArray[np.int64]  # [B], the class that is explained for each image
Maps = NDArray[np.float32]  # [B, H, W]


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribution:
    """How much each pixel of B images contributes to a label of each: the higher, the more.

    `maps` are in units of the method, comparable within an image only. Negative values count against the label.
    """

    maps: Maps
    gaps: NDArray[np.float64] | None = None  # [B], integrated gradients: |sum - change of the logit| / |change|


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A network that is explained: an engine that answers, and the module with its layers where there is one."""

    engine: Engine
    task: Task
    image_size: tuple[int, int]  # (height, width)
    fill: tuple[int, ...]  # level of each channel, 0 to 255, that hidden pixels get: the mean of the training set
    open_classifier: Callable[[], Classifier]  # RecogError where the layers cannot be had

    @cached_property
    def classifier(self) -> Classifier:
        """The module, in evaluation mode."""
        return self.open_classifier()

    @cached_property
    def layer(self) -> Layer:
        """The layer whose maps class-activation methods read."""
        from recog.attribution.layers import choose_layer

        return choose_layer(self.classifier, self.image_size)

    def logits(self, images: Images) -> NDArray[np.float32]:
        """float32 [B, K], in batches of bounded memory."""
        size = images_at_once(self.image_size)
        return np.concatenate([self.engine(images[i : i + size]).logits for i in range(0, len(images), size)])

    def probs_of(self, images: Images, label: int) -> NDArray[np.float64]:
        """The uncalibrated probability of one label for each image: float64 [B]."""
        return TASK_MEASURES[self.task].probs(self.logits(images))[:, label]


def subject_of(predictor: Predictor, bundle: Path) -> Subject:
    """The Subject of a bundle folder that is loaded as `predictor`."""
    mean = read_network_config(bundle).pretrained_cfg.mean

    def open_classifier() -> Classifier:
        import torch

        from recog.models.network_files import load_classifier

        # torch copies the weights of convolutions that lie otherwise for each channels-last image: half of a pass at 64 px
        return load_classifier(bundle).to(memory_format=torch.channels_last)

    return Subject(
        engine=predictor.engine,
        task=predictor.manifest.task,
        image_size=predictor.preprocess.image_size,
        fill=tuple(round(255 * value) for value in mean),
        open_classifier=open_classifier,
    )


def why_no_layers(subject: Subject) -> str:
    """Why the network's layers cannot be read; '' where they can."""
    try:
        _ = subject.classifier
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        return str(missing)
    except RecogError as error:
        return str(error)
    return ""


def check_pairs(images: Images, labels: Labels) -> None:
    """ConfigError unless there is one label for each image."""
    if labels.shape != images.shape[:1]:
        raise ConfigError(f"{len(images)} images were given with labels of shape {labels.shape}; expected one each.")


def nearest_rows(
    bank: NDArray[np.float32], features: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows of `bank` [N, D] by cosine to each of `features` [B, D], the nearest first, and the cosines: both [B, count].

    Both are centred by the mean of the bank, as features that are never negative all point the same way.
    """
    mean = bank.mean(axis=0, dtype=np.float64)
    cosines = _units(features - mean) @ _units(bank - mean).T
    rows = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return rows, np.take_along_axis(cosines, rows, axis=1)


def _units(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found
