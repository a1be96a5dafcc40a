"""Recipe `head`, and the first phase of `finetune`: a linear head on frozen features."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from recog.data.balance import class_sizes, training_weights
from recog.doctor.label_errors import judge_features, prunable
from recog.evaluation.results.facts import CrossValidation
from recog.models.classifier import Classifier
from recog.models.inner_layers import InnerLayers
from recog.recipes.calibrate import HeldOut, hold_out_head, with_last_layer
from recog.recipes.choose_head import MAX_CROSS_FITTED, Candidate, choose, try_on_val, try_out_of_fold
from recog.recipes.config import TrainConfig
from recog.recipes.events import FeatureTime, HeadFitted, HeadLog, PrunedLabels, Suspect
from recog.recipes.labelled_images import FrozenFeatures, LabelledImages, frozen_features, run_engine
from recog.recipes.plan import Plan
from recog.recipes.prepare import Prepared
from recog.recipes.resume import ResumePoint
from recog.runtime.engine import Engine
from recog.training.distributed import World, broadcast
from recog.training.head import FEW_IMAGES, NUM_REPEATS, HeadData
from recog.training.ridge import fit_as, floored

HeadEvent = FeatureTime | HeadFitted | HeadLog | CrossValidation
NUM_MEASURED = 32  # images of the batch from which the time of all is expected


def learn_frozen(
    classifier: Classifier, prepared: Prepared, train: LabelledImages
) -> Generator[HeadEvent, None, tuple[HeldOut | None, CrossValidation | None]]:
    """Fit the head of `classifier` on its frozen features."""
    val, plan, fits_val = prepared.val, prepared.plan, prepared.fits_val
    found = prepared.features or (yield from compute_features(prepared, train))
    return (yield from learn_on_features(classifier, found, train, val, plan, fits_val=fits_val))


def compute_features(prepared: Prepared, train: LabelledImages) -> Generator[FeatureTime, None, FrozenFeatures]:
    """Of train and val, by the engine that will be shipped; first the time that it is expected to take."""
    engine, splits = prepared.frozen.engine, [train] if prepared.val is None else [train, prepared.val]
    yield _measure_features(engine, train, num_images=sum(len(split.targets) for split in splits))
    return frozen_features(engine, splits)


def without_suspects(
    prepared: Prepared, resume: ResumePoint, world: World
) -> Generator[FeatureTime | PrunedLabels, None, tuple[Prepared, tuple[str, ...]]]:
    """For --noisy-labels, `prepared` without the training images whose label the frozen features contradict, and their names.

    A run that is resumed leaves out the same ones as before.
    """
    names = resume.pruned
    if resume.state is None and prepared.exact is not None:
        train = prepared.exact
        found = yield from compute_features(prepared, train)
        event = find_suspects(found, train, prepared.dataset.class_names, seed=prepared.plan.seed)
        yield event
        names = tuple(suspect.name for suspect in event.suspects)
        is_kept = np.ones(len(found.coins), bool)  # val follows train
        is_kept[: len(train.names)] = ~np.isin(train.names, names)
        found = FrozenFeatures(features=found.features[is_kept], coins=found.coins[is_kept])
        prepared = replace(prepared, measured=prepared.frozen, features=found, exact=train.without(frozenset(names)))
    names = tuple(broadcast(world, list(names)))
    larger = prepared.larger
    return replace(prepared, larger=None if larger is None else larger.without(frozenset(names))), names


def find_suspects(
    found: FrozenFeatures, train: LabelledImages, class_names: Sequence[str], *, seed: int
) -> PrunedLabels:
    """The images of `train` to leave out, by the ranking of `recog scan --deep`. `found` are the features of train first."""
    labels, groups = train.targets.astype(np.int64), train.groups
    features = found.features[: len(labels)]
    evidence = judge_features(features, labels, groups, num_classes=len(class_names), seed=seed)
    if evidence is None:
        return PrunedLabels(num_images=len(labels), suspects=(), is_judged=False)
    rows = np.flatnonzero(prunable(evidence, labels, groups))
    return PrunedLabels(
        num_images=len(labels),
        suspects=tuple(
            Suspect(
                name=train.names[i],
                label=class_names[labels[i]],
                looks_like=class_names[evidence.suggested[i]],
                suspicion=float(evidence.suspicion[i]),
            )
            for i in rows[np.argsort(-evidence.suspicion[rows], kind="stable")].tolist()
        ),
    )


def _measure_features(engine: Engine, train: LabelledImages, *, num_images: int) -> FeatureTime:
    batch = train.store.rows()[:NUM_MEASURED]
    run_engine(engine, batch[:1])  # the first call allocates
    started = time.perf_counter()
    run_engine(engine, batch)
    return FeatureTime(num_images=num_images, seconds=(time.perf_counter() - started) / len(batch) * num_images)


def learn_head(  # noqa: PLR0913  two splits, and what they are fitted by
    classifier: Classifier,
    engine: Engine,
    train: LabelledImages,
    val: LabelledImages | None,
    plan: Plan,
    *,
    fits_val: bool = False,
) -> Generator[HeadEvent, None, tuple[HeldOut | None, CrossValidation | None]]:
    """As `learn_on_features`, on the features that `engine` gives."""
    found = frozen_features(engine, [train] if val is None else [train, val])
    return (yield from learn_on_features(classifier, found, train, val, plan, fits_val=fits_val))


def learn_on_features(  # noqa: PLR0913  two splits, and what they are fitted by
    classifier: Classifier,
    found: FrozenFeatures,
    train: LabelledImages,
    val: LabelledImages | None,
    plan: Plan,
    *,
    fits_val: bool = False,
) -> Generator[HeadEvent, None, tuple[HeldOut | None, CrossValidation | None]]:
    """Choose a head for the frozen features `found`, and put it into `classifier`, fitted on train.

    It is chosen by answers out of fold to the images of both splits, or where these are many, by its answers to val, if any.
    `fits_val` fits the chosen head on both splits in the end. Returns predictions to calibrate on, if only the head is trained,
    and the result of the cross-validation where a class has under 20 images or there is no val.
    """
    num_classes, num_train = classifier.classifier.out_features, len(train.targets)
    together = head_data(classifier, found, train, val, plan)
    for_train = together.part(slice(num_train))
    smallest = int(class_sizes(together.targets, num_classes).min())
    has_few = smallest < FEW_IMAGES
    tried = try_heads(
        together, num_train, plan, num_classes, out_of_fold=is_cross_fitted(together, num_train, num_classes)
    )
    best = choose(tried)
    for candidate in tried:
        yield replace(candidate.log, is_best=candidate is best)
    few = _cross_validation(best.log, len(together.targets), smallest) if has_few or val is None else None
    yield few or HeadFitted(method=best.spec.method, l2=best.spec.l2)
    head = fit_as(best.spec, for_train, plan.head, num_classes=num_classes)
    finished = fit_as(best.spec, together, plan.head, num_classes=num_classes) if fits_val else head
    with torch.no_grad():
        classifier.classifier.weight.copy_(torch.from_numpy(finished.weight))
        classifier.classifier.bias.copy_(torch.from_numpy(finished.bias))
    if plan.recipe != "head":
        return None, few
    logits = best.logits[0] if best.log.num_folds else None
    held_out = hold_out_head(together, found.coins, head, plan, num_train=num_train, out_of_fold=logits)
    return replace(held_out, known=with_last_layer(held_out.known, classifier.network)), few


def head_data(
    classifier: Classifier, found: FrozenFeatures, train: LabelledImages, val: LabelledImages | None, plan: Plan
) -> HeadData:
    """Of train, then val: the features as `classifier` gives them from here on, with targets, groups and class weights."""
    features = _standardised(classifier, found.features, len(train.targets))
    splits, num_classes = [train] if val is None else [train, val], classifier.classifier.out_features
    return _pool(splits, features, num_classes, is_balanced=plan.balance in ("weights", "sampler"))


def is_cross_fitted(together: HeadData, num_train: int, num_classes: int) -> bool:
    """Whether heads are compared by answers out of fold: where images are few enough, or there is no validation split."""
    num_images = len(together.targets)
    has_few = int(class_sizes(together.targets, num_classes).min()) < FEW_IMAGES
    is_quick = num_images <= MAX_CROSS_FITTED and together.fewest_groups(num_classes) > 1
    return has_few or is_quick or num_train == num_images


def try_heads(
    together: HeadData, num_train: int, plan: TrainConfig, num_classes: int, *, out_of_fold: bool
) -> list[Candidate]:
    """The heads of `plan`, by their answers out of fold to all images of `together`, or else to those after `num_train`."""
    if out_of_fold:
        has_few = int(class_sizes(together.targets, num_classes).min()) < FEW_IMAGES
        repeats = NUM_REPEATS if has_few else 1
        return try_out_of_fold(together, plan, num_classes=num_classes, num_repeats=repeats)
    train, val = together.part(slice(num_train)), together.part(slice(num_train, None))
    return try_on_val(train, val, plan, num_classes=num_classes)


def _cross_validation(log: HeadLog, num_images: int, smallest: int) -> CrossValidation:
    return CrossValidation(
        smallest_class=smallest,
        num_images=num_images,
        num_folds=log.num_folds,
        num_repeats=log.num_repeats,
        method=log.method,
        l2=log.l2,
        accuracy=log.val_accuracy,
        accuracy_std=log.accuracy_std,
        nll=log.val_nll,
        mean_average_precision=log.val_map,
    )


def _standardised(classifier: Classifier, features: NDArray[np.float32], num_train: int) -> NDArray[np.float32]:
    """Features [N, D] as `classifier` gives them from here on: of several layers, standardised on the first `num_train`."""
    network = classifier.network
    if not isinstance(network, InnerLayers):
        return features
    train = features[:num_train]
    mean, std = train.mean(axis=0, dtype=np.float64), floored(train.std(axis=0, dtype=np.float64))
    network.standardise(torch.from_numpy(mean), torch.from_numpy(std))
    standard: NDArray[np.float32] = (features - network.shift.numpy()) * network.scale.numpy()
    return standard


def _pool(
    splits: Sequence[LabelledImages], features: NDArray[np.float32], num_classes: int, *, is_balanced: bool
) -> HeadData:
    """Of train first."""
    targets = np.concatenate([split.targets for split in splits])
    weights = training_weights(targets, num_classes, is_balanced=is_balanced, factors=splits[0].class_factors)
    groups = np.concatenate([split.groups for split in splits])
    return HeadData(features=features, targets=targets, groups=groups, weights=weights)
