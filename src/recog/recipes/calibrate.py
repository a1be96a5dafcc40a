"""Calibration data: answers on images that the model has not learnt from, and what is fitted on them for the bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BadImage
from recog.data.dataset import Targets, choose_reference
from recog.data.store import Rows, read_exact, read_images
from recog.evaluation.trust.calibration import Calibration, fit_calibration
from recog.evaluation.trust.conformal import image_coins
from recog.evaluation.trust.multilabel_calibration import fit_multilabel_calibration
from recog.evaluation.trust.thresholds import LabelThresholds
from recog.evaluation.trust.unknown import FeatureStatistics
from recog.evaluation.trust.unknown_choice import KnownImages, fit_unknown
from recog.recipes.plan import Plan
from recog.recipes.prepare import Prepared
from recog.runtime.engine import Engine
from recog.training.head import FewImages, HeadConfig, LinearHead, cross_validate, fit_heads

MAX_BANK_IMAGES = 2000  # of training, the classes in turn: enough to tell classes apart, and a bank of a few MB

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
    images: FewImages, coins: NDArray[np.float64], head: LinearHead, plan: Plan, *, num_train: int
) -> HeldOut:
    """Answers of heads on the features of train and val, in this order: cross-fitted, or where val is large, its own."""
    known = known_by_head(images, num_train, head, plan.head)
    if len(images.targets) - num_train < CROSS_FIT_BELOW:
        chosen = replace(plan.head, l2=(head.l2,))
        answers = cross_fit_head(images, coins, chosen, num_classes=len(head.bias), seed=plan.seed)
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
        known=known_by_network(engine, prepared, answers) if prepared.plan.calibration.unknown != "none" else None,
    )


def calibrate(held_out: HeldOut, plan: Plan) -> tuple[Calibration, FeatureStatistics | None]:
    """The calibration that `plan` asks for, fitted on `held_out`, and the feature statistics that it needs to predict."""
    wanted, data = plan.calibration, held_out.data
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
        may_keep_images=plan.reference == "images",  # else the data are private: no single image's features stay
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


def known_by_head(images: FewImages, num_train: int, head: LinearHead, config: HeadConfig) -> KnownImages | None:
    """From the features of train and val, in this order, and the head that was fitted on train.

    A class that is left out has no part in the heads fitted anew. None for labels that do not exclude each other.
    """
    if images.targets.ndim == 2:
        return None
    labels = images.targets.astype(np.int64)
    chosen = choose_reference(labels[:num_train].tolist(), MAX_BANK_IMAGES)
    features, train_labels, val_features = images.features[chosen], labels[chosen], images.features[num_train:]
    num_classes = len(head.bias)

    def refit(left_out: int) -> NDArray[np.float32]:
        keep = train_labels != left_out
        moved = train_labels[keep] - (train_labels[keep] > left_out)
        (without,) = fit_heads(features[keep], moved, replace(config, l2=(head.l2,)), num_classes=num_classes - 1)
        return without(val_features)

    return KnownImages(
        train_features=features,
        train_labels=train_labels,
        features=val_features,
        logits=head(val_features),
        labels=labels[num_train:],
        data="val",
        refit=refit if num_classes > 2 else None,
    )


def known_by_network(engine: Engine, prepared: Prepared, val: Collected) -> KnownImages | None:
    """From the trained network: its features have seen every class, so a class left out is told apart a little too well."""
    if prepared.val.targets.ndim == 2:
        return None
    samples = prepared.dataset.subset("train")
    chosen = [samples[i] for i in choose_reference([s.label for s in samples], MAX_BANK_IMAGES)]
    read = list(read_images(chosen, read_exact(prepared.model.preprocess)))
    images = np.stack([image for image in read if not isinstance(image, BadImage)])
    labels = [s.label for s, image in zip(chosen, read, strict=True) if not isinstance(image, BadImage)]
    return KnownImages(
        train_features=run_engine(engine, images).features,
        train_labels=np.array(labels, dtype=np.int64),
        features=val.features,
        logits=val.logits,
        labels=prepared.val.targets.astype(np.int64),
        data="val",
    )
