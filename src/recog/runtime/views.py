"""Averages over several views of an image, its mirror image and small shifts: more accurate, and slower."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recog.bundle.manifest import Manifest
from recog.bundle.seal import RUN_CONFIG, check_files
from recog.core.errors import ConfigError
from recog.core.task import Task
from recog.evaluation.trust.calibration import Calibration
from recog.runtime.engine import FileEngine, Outputs

Views = Literal["one", "mirror", "shifts", "selective"]
VIEWS: tuple[str, ...] = get_args(Views)
_VIEWS_OF: Mapping[Task, tuple[str, ...]] = MappingProxyType(
    {"multiclass": VIEWS, "multilabel": tuple(name for name in VIEWS if name != "selective")}
)
SHIFT = 1 / 32  # of the image's sides
SURE = 0.9  # calibrated confidence from which 'selective' takes the one view for enough


class ViewsEngine:
    """Runs `engine` on several views of each image and averages logits and features.

    'mirror': the image and its mirror image. 'shifts': these two, at half the weight, and both shifted by a 32nd of the sides to
    the upper left and to the lower right; Jordan (2024), arXiv 2404.00498. 'selective': the six of those images
    whose confidence from the first view, by `probs_of` logits [B, K], is below `SURE`, and one view of the others.
    """

    def __init__(
        self, engine: FileEngine, views: Views, probs_of: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    ) -> None:
        self.class_names, self.num_classes, self.image_shape = (
            engine.class_names,
            engine.num_classes,
            engine.image_shape,
        )
        self._engine, self.views, self._probs_of = engine, views, probs_of
        self.num_images = self.num_passes = 0  # so far

    @property
    def price(self) -> str:
        """What the views have cost, in words."""
        return f"views: {self.num_passes / max(1, self.num_images):.2g} passes per image"

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        first = self._engine(images)
        chosen = np.arange(len(images))
        if self.views == "selective":
            chosen = np.flatnonzero(self._probs_of(first.logits).max(axis=1) < SURE)
        own, others = _weights(self.views)
        self.num_images += len(images)
        self.num_passes += len(images) + len(others) * len(chosen)
        logits, features = first.logits.copy(), first.features.copy()
        if len(chosen):
            logits[chosen] *= own
            features[chosen] *= own
            for weight, view in zip(others, _other_views(images[chosen]), strict=False):
                outputs = self._engine(view)
                logits[chosen] += weight * outputs.logits
                features[chosen] += weight * outputs.features
        return Outputs(logits=logits, features=features)


def _weights(views: Views) -> tuple[float, list[float]]:
    """Of the image itself, and of each of `_other_views` that counts."""
    return (0.5, [0.5]) if views == "mirror" else (0.25, [0.25, 0.125, 0.125, 0.125, 0.125])


def _other_views(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The mirror image of `images` uint8 [B, H, W, C], then both shifted, with the edges reflected."""
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    yield mirrored
    height, width = images.shape[1:3]
    down, right = (max(1, round(SHIFT * side)) for side in (height, width))
    for image in (images, mirrored):
        padded = np.pad(image, ((0, 0), (down, down), (right, right), (0, 0)), mode="reflect")
        for top, left in ((2 * down, 2 * right), (0, 0)):
            yield np.ascontiguousarray(padded[:, top : top + height, left : left + width])


def open_views(
    engine: FileEngine, views: Views, folder: Path, manifest: Manifest, calibration: Calibration
) -> ViewsEngine:
    """For the bundle in `folder`. ConfigError where its network cannot be averaged over `views`."""
    from recog.core.config import load_toml  # only where views are asked for, to start sooner

    if views not in VIEWS:
        raise ConfigError(f"views is {views!r}; expected one of {', '.join(VIEWS)}.")
    if views not in _VIEWS_OF[manifest.task]:
        raise ConfigError(
            "views=selective goes by the confidence in the one class of an image, and this bundle predicts several labels. Use "
            "mirror or shifts."
        )
    check_files(folder, manifest, (RUN_CONFIG,))
    if load_toml(folder / RUN_CONFIG).get("augment", {}).get("mirror") is False:
        raise ConfigError(
            f"views={views} includes mirror images, and this network was trained without (augment.mirror = false), as for digits "
            "or signs. Use one view."
        )
    return ViewsEngine(engine, views, calibration.apply)
