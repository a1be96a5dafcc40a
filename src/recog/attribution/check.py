"""All checks of the methods on one network, how long they take, and the method that is most faithful on it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.attribution.faithfulness import NUM_STEPS, Faithfulness, measure_faithfulness
from recog.attribution.sanity import (
    MAX_CASES,
    MAX_SIMILARITY,
    Pairs,
    Pointing,
    build_pairs,
    play_pointing_game,
    weight_similarity,
    with_random_weights,
)
from recog.attribution.subject import Subject, why_no_layers
from recog.attribution.table import EXPLAINERS, attribute
from recog.core.errors import ConfigError
from recog.deployment.onnx import TorchEngine
from recog.runtime.engine import Engine

MAX_PASSES = 6000  # through the network for the pointing game of one method
MIN_PAIRS = 6
NUM_COMPARED = 4  # images whose maps are compared with those of random weights


@dataclass(frozen=True, kw_only=True)
class MethodCheck:
    """What is known of a method on this network, from `num_images` images."""

    method: str
    num_images: int
    faithfulness: Faithfulness
    weight_similarity: float | None  # rank correlation with maps of random weights; None without layers
    pointing: Pointing | None  # None where all images have one label
    completeness_gap: float | None  # of integrated gradients: median relative gap
    seconds_per_image: float

    @property
    def ignores_weights(self) -> bool:
        """Whether its maps hardly change when the network's weights do: they show the image, not the network."""
        return self.weight_similarity is not None and self.weight_similarity > MAX_SIMILARITY

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "ignores_weights": self.ignores_weights}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The expected seconds of one pass of one image through the network's module, and through the engine."""

    module_s: float
    engine_s: float

    @classmethod
    def measure(cls, subject: Subject, images: NDArray[np.uint8]) -> Pace:
        """From a second pass of some `images` uint8 [B, H, W, C]; the first one allocates."""
        engines: list[Engine] = [subject.engine]
        if not why_no_layers(subject):
            engines.append(TorchEngine(subject.classifier))
        found = []
        for engine in engines:
            engine(images)
            started = time.perf_counter()
            engine(images)
            found.append((time.perf_counter() - started) / len(images))
        return cls(engine_s=found[0], module_s=found[-1])

    def stages(self, method: str, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[float, ...]:
        """Seconds of the four stages of a check: maps, random weights, curves and the pointing game."""
        row, num_cases = EXPLAINERS[method], 2 * len(_pairs(method, images, labels).pictures)
        own = row.num_passes * (self.module_s if row.needs_layers else self.engine_s)
        of_random = row.num_passes * self.module_s * min(NUM_COMPARED, len(images))
        curves = 3 * 2 * (NUM_STEPS + 1) * self.engine_s  # of the method and its two controls, deletion and insertion
        return own * len(images), of_random, curves * len(images), own * num_cases


@dataclass(frozen=True, kw_only=True)
class StageDone:
    """Stage `number`, from 0, of those of Pace.stages is done."""

    method: str
    number: int


def check_methods(
    subject: Subject,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    methods: Sequence[str],
) -> Iterator[StageDone | MethodCheck]:
    """Each method on `images` uint8 [B, H, W, C] for their predicted `labels` [B]; without those that lack a usable layer."""
    shuffled = None if why_no_layers(subject) else with_random_weights(subject, images)
    few = slice(NUM_COMPARED)
    for method in methods:
        started = time.perf_counter()
        try:
            found = attribute(method, subject, images, labels)
        except ConfigError:
            continue
        seconds = (time.perf_counter() - started) / len(images)
        yield StageDone(method=method, number=0)
        similarity = None
        if shuffled is not None:
            of_random = attribute(method, shuffled, images[few], labels[few]).maps
            similarity = weight_similarity(found.maps[few], of_random)
        yield StageDone(method=method, number=1)
        faithfulness = measure_faithfulness(subject, images, labels, found.maps)
        yield StageDone(method=method, number=2)
        pairs = _pairs(method, images, labels)
        pointing = play_pointing_game(method, subject, pairs) if len(pairs.pictures) else None
        yield StageDone(method=method, number=3)
        yield MethodCheck(
            method=method,
            num_images=len(images),
            faithfulness=faithfulness,
            weight_similarity=similarity,
            pointing=pointing,
            completeness_gap=None if found.gaps is None else float(np.median(found.gaps)),
            seconds_per_image=seconds,
        )


def _pairs(method: str, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Pairs:
    """Pictures of the pointing game: fewer for slow methods."""
    num_pairs = max(MIN_PAIRS, min(MAX_CASES // 2, MAX_PASSES // (2 * EXPLAINERS[method].num_passes)))
    return build_pairs(images, labels, num_pairs)


def most_faithful(checks: Sequence[MethodCheck]) -> MethodCheck | None:
    """The method with the largest gain over its better control, among those whose maps depend on the weights; None of none."""
    usable = [check for check in checks if not check.ignores_weights]
    return max(usable, key=lambda check: check.faithfulness.margin, default=None)
