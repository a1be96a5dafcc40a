"""Calibration data: answers on images that the model has not learnt from, and what is fitted on them for the bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recog.data.dataset import Targets
from recog.evaluation.calibration import Calibration, fit_calibration
from recog.evaluation.multilabel_calibration import fit_multilabel_calibration
from recog.evaluation.thresholds import LabelThresholds
from recog.evaluation.unknown import FeatureStatistics
from recog.evaluation.unknown_choice import KnownImages, fit_unknown
from recog.recipes.collect import run_engine
from recog.recipes.known import known_by_head, known_by_network
from recog.recipes.plan import TrainConfig
from recog.recipes.prepare import Prepared
from recog.runtime.engine import Engine
from recog.training.crossval import FewImages, cross_validate
from recog.training.head import HeadConfig, LinearHead

CROSS_FIT_BELOW = 2000  # validation images; from here on they are enough, and cross-fitting would take long


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Answers to images that the answering weights had not seen; `data` says in words which."""

    logits: NDArray[np.float32]  # [N, K]
    targets: Targets  # labels [N], or multi-label [N, K]
    coins: NDArray[np.float64]  # [N], see image_coins
    data: str
    known: KnownImages | None = None  # what 'unknown' is fitted on


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


def hold_out_head(
    images: FewImages, coins: NDArray[np.float64], head: LinearHead, config: TrainConfig, *, num_train: int
) -> HeldOut:
    """Answers of heads on the features of train and val, in this order: cross-fitted, or where val is large, its own."""
    known = known_by_head(images, num_train, head, config.head)
    if len(images.targets) - num_train < CROSS_FIT_BELOW:
        chosen = replace(config.head, l2=(head.l2,))
        answers = cross_fit_head(images, coins, chosen, num_classes=len(head.bias), seed=config.seed)
        return replace(answers, known=known)
    return HeldOut(
        logits=head(images.features[num_train:]),
        targets=images.targets[num_train:],
        coins=coins[num_train:],
        data="val; it also chose the head's L2",
        known=known,
    )


def hold_out_val(engine: Engine, prepared: Prepared) -> HeldOut:
    """The trained network's answers to the validation split, by the engine that will serve it."""
    answers = run_engine(engine, prepared.val.store.rows())
    return HeldOut(
        logits=answers.logits,
        targets=prepared.val.targets,
        coins=answers.coins,
        data="val; it also chose the epoch, so the fit leans slightly to the sure side",
        known=known_by_network(engine, prepared, answers) if prepared.config.calibration.unknown != "none" else None,
    )


def calibrate(held_out: HeldOut, config: TrainConfig) -> tuple[Calibration, FeatureStatistics | None]:
    """What `config` asks for, fitted on `held_out`, and what of the training images' features it needs to answer."""
    wanted, data = config.calibration, held_out.data
    if held_out.targets.ndim == 2:
        return fit_multilabel_calibration(held_out.logits, held_out.targets, wanted, data=data), None
    labels = held_out.targets.astype(np.int64)
    calibration = fit_calibration(held_out.logits, labels, wanted, data=data, coins=held_out.coins)
    if held_out.known is None or wanted.unknown == "none":
        return calibration, None
    rule, statistics = fit_unknown(
        held_out.known,
        method=wanted.unknown,
        false_alarm_rate=wanted.false_alarm_rate,
        may_keep_images=config.reference == "images",  # else the data are private: no single image's features stay
    )
    return replace(calibration, unknown=rule), statistics


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
    if calibration.thresholds is not None:
        text = f"{_describe_thresholds(calibration.thresholds)}; {text}"
    if calibration.method == "none":
        return text
    return (
        f"{text}; cross-validated, NLL {fit.nll_before:.3f} becomes {fit.nll_after:.3f} and "
        f"ECE {fit.ece_before:.1%} becomes {fit.ece_after:.1%}"
    )


def describe_unknown(calibration: Calibration) -> str:
    """One sentence for the person who waits, empty where nothing was fitted."""
    rule = calibration.unknown
    if rule is None:
        return ""
    if rule.threshold is None:
        return f"'unknown' is never answered: {rule.reason}"
    return (
        f"'unknown' (predict --reject) goes by {rule.method}: {rule.reason}; of {rule.num_images:,} calibration images "
        f"({rule.data}) at most {rule.false_alarm_rate:.1%} are above its threshold"
    )


def _describe_thresholds(thresholds: LabelThresholds) -> str:
    low, high = min(thresholds.values), max(thresholds.values)
    return (
        f"a label is said from a probability of {low:.2f} to {high:.2f} on, chosen for each by its F1; prediction sets and "
        "'unknown' are for one class an image and are not made"
    )
