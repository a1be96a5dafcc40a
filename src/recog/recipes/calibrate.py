"""Calibration: held-out predictions, and what is fitted on them for the bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from torch import nn

from recog.core.errors import BadImage, ConfigError
from recog.core.task import Task
from recog.core.text import plural, span
from recog.data.dataset import Targets, choose_reference
from recog.data.store import read_exact, read_images
from recog.evaluation.measures.task import task_of
from recog.evaluation.trust.calibration import Calibration, fit_calibration
from recog.evaluation.trust.thresholds import choose_decision
from recog.evaluation.trust.unknown import FeatureStatistics
from recog.evaluation.trust.unknown_choice import KnownImages, fit_unknown
from recog.models.inner_layers import InnerLayers
from recog.recipes.labelled_images import run_engine
from recog.recipes.plan import Plan
from recog.recipes.prepare import Prepared
from recog.runtime.engine import Engine, Outputs
from recog.training.config import HeadConfig
from recog.training.head import HeadData, LinearHead, stratified_folds
from recog.training.ridge import answer_out_of_fold, fit_as

MAX_BANK_IMAGES = 2000  # of training, the classes in turn: enough to tell classes apart, and a bank of a few MB

CROSS_FIT_BELOW = 2000  # validation images; from here on they are enough, and cross-fitting would take long


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Predictions on images that the weights were not fitted on; `data` describes them."""

    logits: NDArray[np.float32]  # [N, K]
    targets: Targets  # labels [N], or multi-label [N, K]
    uniforms: NDArray[np.float64]  # [N], see image_coins
    data: str
    known: KnownImages | None = None  # what 'unknown' is fitted on


def hold_out_head(  # noqa: PLR0913
    images: HeadData,
    uniforms: NDArray[np.float64],
    head: LinearHead,
    plan: Plan,
    *,
    num_train: int,
    out_of_fold: NDArray[np.float32] | None = None,
) -> HeldOut:
    """Predictions of heads on the features of train and val, in this order; `head` was fitted on train.

    Those `out_of_fold` [N, K] where the head was chosen by them, as it always is without val. Else, if val is small, both are
    cross-fitted: each image is predicted by a head of the same kind and strength, fitted without its fold. The bundle's own head
    was fitted on about as many images, so their confidence is alike.
    """
    num_classes, has_val = len(head.bias), num_train < len(images.targets)
    known = _IF_EXCLUSIVE[task_of(images.targets).task](
        lambda: known_by_head(images, num_train, head, plan.head) if has_val else _known_by_fold(images, head, plan)
    )
    if out_of_fold is None and len(images.targets) - num_train >= CROSS_FIT_BELOW:
        return HeldOut(
            logits=head(images.features[num_train:]),
            targets=images.targets[num_train:],
            uniforms=uniforms[num_train:],
            data=f"val, also used to choose the {head.method} head with L2 {head.l2:g}",
            known=known,
        )
    if out_of_fold is None:
        out_of_fold = answer_out_of_fold(head, images, plan.head, num_classes=num_classes, seed=plan.seed)
    return HeldOut(
        logits=out_of_fold,
        targets=images.targets,
        uniforms=uniforms,
        data=f"{'train and val' if has_val else 'train'}, cross-fitted in {images.num_folds(num_classes)} folds, also used to "
        f"choose the {head.method} head with L2 {head.l2:g}",
        known=known,
    )


def hold_out_val(engine: Engine, prepared: Prepared) -> HeldOut:
    """Predictions of the trained network on the validation split, by the engine of the bundle."""
    if prepared.val is None:
        raise ConfigError("no validation split was prepared.")  # plan gives one to every recipe that needs it
    val, uniforms = run_engine(engine, prepared.val.store.rows())
    val_targets = prepared.val.targets
    return HeldOut(
        logits=val.logits,
        targets=prepared.val.targets,
        uniforms=uniforms,
        data="val, also used for model selection; slightly overconfident",
        known=_IF_EXCLUSIVE[prepared.dataset.task](
            lambda: with_last_layer(
                known_by_network(engine, prepared, val, val_targets), prepared.model.classifier.network
            )
        )
        if prepared.plan.calibration.unknown != "none"
        else None,
    )


_IF_EXCLUSIVE: Mapping[Task, Callable[[Callable[[], KnownImages | None]], KnownImages | None]] = MappingProxyType(
    {"multiclass": lambda known: known(), "multilabel": lambda known: None}  # labels that exclude each other, or not
)


def with_last_layer(known: KnownImages | None, network: nn.Module) -> KnownImages | None:
    """`known` with distances between the square roots of the last layer's values, where features are of several layers.

    Classes that were left out of CIFAR-10 were told apart better by them (benchmarks/unknown.py).
    """
    if known is None or not isinstance(network, InnerLayers):
        return known
    shift, scale = (part[-network.num_last :].numpy() for part in (network.shift, network.scale))
    return replace(
        known, view=FeatureStatistics(view_scale=(1 / scale[None]).astype(np.float32), view_shift=shift[None])
    )


def calibrate(
    held_out: HeldOut, plan: Plan, class_names: Sequence[str]
) -> tuple[Calibration, FeatureStatistics | None]:
    """The calibration that `plan` asks for, fitted on `held_out`, and the feature statistics that it needs to predict."""
    wanted, data = plan.calibration, held_out.data
    calibration = fit_calibration(held_out.logits, held_out.targets, wanted, data=data, coins=held_out.uniforms)
    if wanted.threshold:
        decision = choose_decision(
            calibration.apply(held_out.logits),
            held_out.targets,
            positive=class_names.index(wanted.positive),
            aim=wanted.threshold,
            data=data,
        )
        calibration = replace(calibration, decision=decision)
    if held_out.known is None or wanted.unknown == "none":
        return calibration, None
    rule, statistics = fit_unknown(
        held_out.known,
        method=wanted.unknown,
        false_alarm_rate=wanted.false_alarm_rate,
        may_keep_images=plan.reference == "images",  # else the data are private: no single image's features stay
    )
    return replace(calibration, unknown=rule), statistics


def describe_calibration(calibration: Calibration) -> list[str]:
    """What was fitted, as lines of text."""
    fit, rule = calibration.scaling.fit, calibration.unknown
    if fit is None:
        return ["calibration: none"]
    what = {
        "none": "calibration: probabilities unchanged",
        "temperature": f"calibration: temperature {calibration.scaling.temperature:.3g}",
        "vector": "calibration: a factor and an offset per class",
    }[calibration.method]
    gain = ""
    if calibration.method != "none":
        gain = (
            f"; cross-fitted NLL {fit.nll_before:.3f} -> {fit.nll_after:.3f}, "
            f"ECE {fit.ece_before:.1%} -> {fit.ece_after:.1%}"
        )
    lines = [f"{what} ({fit.reason}), fitted on {plural(fit.num_images, 'image')} ({fit.data}){gain}"]
    if calibration.sets is not None:
        lines.append(
            f"prediction sets: contain the true class for at least {100 - 100 * calibration.sets.alpha:.3g}% of images "
            "like these (--set calibration.alpha=...)"
        )
    lines += _THRESHOLD_LINES[calibration.task](calibration)
    if rule is not None and rule.threshold is None:
        lines.append(f"'unknown': never predicted ({rule.reason})")
    elif rule is not None:
        lines.append(
            f"'unknown' (predict --reject): {rule.method} ({rule.reason}); above its threshold are at most "
            f"{rule.false_alarm_rate:.1%} of {rule.num_images:,} calibration images ({rule.data})"
        )
    return lines


def _describe_thresholds(calibration: Calibration) -> list[str]:
    values = calibration.label_thresholds.values
    return [
        f"thresholds: a label is predicted from a probability of {span(min(values), max(values), '.2f')}, chosen per label by "
        "F1; no prediction sets and no 'unknown' for multi-label images"
    ]


_THRESHOLD_LINES: Mapping[Task, Callable[[Calibration], list[str]]] = MappingProxyType(
    {"multiclass": lambda calibration: [], "multilabel": _describe_thresholds}
)
_NO_RULE: Mapping[Task, str] = MappingProxyType({"multiclass": "there are no images to fit it on", "multilabel": ""})


def calibration_notes(calibration: Calibration, plan: Plan) -> list[str]:
    """What is missing, with the reason: calibrated probabilities, and 'unknown', which multi-label bundles never answer."""
    rule, fit = calibration.unknown, calibration.scaling.fit
    uncalibrated = []
    if fit is not None and calibration.method == "none" and plan.calibration.method != "none":
        uncalibrated = [f"calibration is left out, so the probabilities are the network's own: {fit.reason}"]
    why = rule.reason if rule else _NO_RULE[calibration.task]
    if plan.calibration.unknown == "none" or not why or (rule and rule.threshold is not None):
        return uncalibrated
    return [*uncalibrated, f"'unknown' is not available (predict --reject): {why}"]


def known_by_head(images: HeadData, num_train: int, head: LinearHead, config: HeadConfig) -> KnownImages:
    """From the features of train and val, in this order, and the head that was fitted on train.

    A class that is left out has no part in the heads fitted anew.
    """
    labels = images.targets.astype(np.int64)
    chosen = choose_reference(labels[:num_train].tolist(), MAX_BANK_IMAGES)
    features, train_labels, val_features = images.features[chosen], labels[chosen], images.features[num_train:]
    num_classes = len(head.bias)

    def refit(left_out: int) -> NDArray[np.float32]:
        keep = train_labels != left_out
        moved = train_labels[keep] - (train_labels[keep] > left_out)
        rest = HeadData(features=features[keep], targets=moved, groups=moved)
        return fit_as(head, rest, config, num_classes=num_classes - 1)(val_features)

    return KnownImages(
        train_features=features,
        train_labels=train_labels,
        features=val_features,
        logits=head(val_features),
        labels=labels[num_train:],
        data="val",
        refit=refit if num_classes > 2 else None,
    )


def _known_by_fold(images: HeadData, head: LinearHead, plan: Plan) -> KnownImages:
    """As `known_by_head`, where all images are of train: one fold takes the place of val, for a head fitted on the others."""
    num_classes = len(head.bias)
    num_folds = images.num_folds(num_classes)
    folds = stratified_folds(images.targets, images.groups, num_folds, seed=plan.seed, repeat=0)
    order, num_others = np.argsort(folds == 0, kind="stable"), int((folds != 0).sum())
    apart = replace(images, features=images.features[order], targets=images.targets[order], groups=images.groups[order])
    of_others = fit_as(head, apart.part(slice(num_others)), plan.head, num_classes=num_classes)
    known = known_by_head(apart, num_others, of_others, plan.head)
    return replace(known, data=f"one of {num_folds} folds of train")


def known_by_network(engine: Engine, prepared: Prepared, val: Outputs, targets: Targets) -> KnownImages:
    """From the trained network: its features have seen every class, so a class left out is told apart a little too well."""
    samples = prepared.dataset.subset("train")
    chosen = [samples[i] for i in choose_reference([s.label for s in samples], MAX_BANK_IMAGES)]
    if (exact := prepared.exact) is not None:
        row_of = {name: row for row, name in enumerate(exact.names)}
        read: list[NDArray[np.uint8] | BadImage] = [*exact.store.fetch(np.array([row_of[s.name] for s in chosen]))]
    else:
        read = list(read_images(chosen, read_exact(prepared.model.preprocess)))
    good = [(image, s.label) for s, image in zip(chosen, read, strict=True) if not isinstance(image, BadImage)]
    images, labels = zip(*good, strict=True)
    return KnownImages(
        train_features=run_engine(engine, np.stack(images))[0].features,
        train_labels=np.array(labels, dtype=np.int64),
        features=val.features,
        logits=val.logits,
        labels=targets.astype(np.int64),
        data="val",
    )
