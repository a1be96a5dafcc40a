"""Calibration data: answers on images that the model has not learnt from, and what is fitted on them for the bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recog.data.store import Rows
from recog.evaluation.calibration import Calibration, CalibrationConfig, fit_calibration
from recog.recipes.prepare import LabelledImages
from recog.runtime.engine import Engine, Outputs
from recog.training.crossval import FewImages, cross_validate
from recog.training.head import HeadConfig

CROSS_FIT_BELOW = 2000  # validation images; from here on they are enough, and cross-fitting would take long


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Logits float [N, K] and labels int64 [N] of images that the answering weights had not seen; `data` says which."""

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    data: str


def run_engine(engine: Engine, images: Rows, batch_size: int = 32) -> Outputs:
    """Logits float32 [N, K] and features float32 [N, D] of images uint8 [N, H, W, C]."""
    outputs = [engine(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    return Outputs(
        logits=np.concatenate([output.logits for output in outputs]),
        features=np.concatenate([output.features for output in outputs]),
    )


def cross_fit_head(images: FewImages, config: HeadConfig, l2: float, *, num_classes: int, seed: int) -> HeldOut:
    """Each of the train and val `images` answered by a head of the chosen strength that was fitted without its fold.

    The bundle's own head was fitted on train, about as many images as such a head, so their confidence is alike.
    """
    (result,) = cross_validate(images, replace(config, l2=(l2,)), num_classes=num_classes, seed=seed, num_repeats=1)
    return HeldOut(
        logits=result.logits[0],
        labels=images.labels,
        data=f"train and val, cross-fitted in {result.num_folds} folds; they also chose the head's L2",
    )


def calibrate(engine: Engine, held_out: HeldOut | None, val: LabelledImages, config: CalibrationConfig) -> Calibration:
    """Fit on `held_out` if the recipe gave it, else on the answers of `engine` to the validation split."""
    if held_out is None:
        held_out = HeldOut(
            logits=run_engine(engine, val.store.rows()).logits,
            labels=val.labels,
            data="val; it also chose the epoch, so the fit leans slightly to the sure side",
        )
    return fit_calibration(held_out.logits, held_out.labels, config, data=held_out.data)


def describe_calibration(calibration: Calibration) -> str:
    """One sentence for the person who waits."""
    fit = calibration.scaling.fit
    if fit is None:
        return "probabilities are not calibrated"
    what = {
        "none": "probabilities stay as they are",
        "temperature": f"probabilities are calibrated by a temperature of {calibration.scaling.temperature:.3g}",
        "vector": "probabilities are calibrated by a factor and an offset for each class",
    }[calibration.method]
    text = f"{what}: {fit.reason}; fitted on {fit.num_images:,} images ({fit.data})"
    if calibration.method == "none":
        return text
    return (
        f"{text}; cross-validated, NLL {fit.nll_before:.3f} becomes {fit.nll_after:.3f} and "
        f"ECE {fit.ece_before:.1%} becomes {fit.ece_after:.1%}"
    )
