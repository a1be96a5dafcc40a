"""Calibration data: answers on images that the model has not learnt from, and what is fitted on them for the bundle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recog.data.dataset import Targets
from recog.data.store import Rows
from recog.evaluation.calibration import Calibration, fit_calibration
from recog.evaluation.conformal import image_coins
from recog.evaluation.multilabel_calibration import fit_multilabel_calibration
from recog.recipes.plan import TrainConfig
from recog.recipes.prepare import LabelledImages
from recog.runtime.engine import Engine
from recog.training.crossval import FewImages, cross_validate
from recog.training.head import HeadConfig

CROSS_FIT_BELOW = 2000  # validation images; from here on they are enough, and cross-fitting would take long


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Answers to images that the answering weights had not seen; `data` says in words which."""

    logits: NDArray[np.float32]  # [N, K]
    targets: Targets  # labels [N], or multi-label [N, K]
    coins: NDArray[np.float64]  # [N], see image_coins
    data: str


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


def cross_fit_head(
    images: FewImages, coins: NDArray[np.float64], config: HeadConfig, *, num_classes: int, seed: int
) -> HeldOut:
    """Each of the train and val `images` answered by a head of the strength in `config`, fitted without its fold.

    The bundle's own head was fitted on train, about as many images as such a head, so their confidence is alike.
    """
    (result,) = cross_validate(images, config, num_classes=num_classes, seed=seed, num_repeats=1)
    return HeldOut(
        logits=result.logits[0],
        targets=images.targets,
        coins=coins,
        data=f"train and val, cross-fitted in {result.num_folds} folds; they also chose the head's L2",
    )


def calibrate(engine: Engine, held_out: HeldOut | None, val: LabelledImages, config: TrainConfig) -> Calibration:
    """Fit on `held_out` if the recipe gave it, else on the answers of `engine` to the validation split."""
    if held_out is None:
        answers = run_engine(engine, val.store.rows())
        chose = "head's L2" if config.recipe == "head" else "epoch"
        held_out = HeldOut(
            logits=answers.logits,
            targets=val.targets,
            coins=answers.coins,
            data=f"val; it also chose the {chose}, so the fit leans slightly to the sure side",
        )
    if held_out.targets.ndim == 2:
        return fit_multilabel_calibration(held_out.logits, held_out.targets, config.calibration, data=held_out.data)
    return fit_calibration(
        held_out.logits, held_out.targets.astype(np.int64), config.calibration, data=held_out.data, coins=held_out.coins
    )


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
