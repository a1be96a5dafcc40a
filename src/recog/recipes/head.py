"""Recipe `head`, and the first phase of `finetune`: a linear head on frozen features."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recog.core.errors import TrainingError
from recog.data.balance import class_sizes, loss_weights
from recog.evaluation.results.training_facts import CrossValidation
from recog.export.onnx import export_onnx
from recog.models.classifier import Classifier
from recog.models.inner_layers import InnerLayers
from recog.recipes.calibrate import HeldOut, hold_out_head, run_engine
from recog.recipes.events import FeatureTime, HeadFitted, HeadLog, score_answers
from recog.recipes.plan import Plan
from recog.recipes.prepare import LabelledImages, Prepared
from recog.runtime.engine import Engine, open_engine
from recog.training.head import FEW_IMAGES, HeadData, LinearHead, cross_validate, fit_heads

HeadEvent = FeatureTime | HeadFitted | HeadLog | CrossValidation
NUM_MEASURED = 32  # images of the batch from which the time of all is expected


def learn_frozen(
    classifier: Classifier, prepared: Prepared, train: LabelledImages
) -> Generator[HeadEvent, None, tuple[HeldOut | None, CrossValidation | None]]:
    """Fit the head of `classifier` on its frozen features."""
    preprocess, plan = prepared.model.preprocess, prepared.plan
    with tempfile.TemporaryDirectory(prefix="recog-") as folder:
        # features by the engine of the bundle: the same numbers, several times faster than torch on a CPU
        path = Path(folder) / "features.onnx"
        export_onnx(
            classifier,
            path,
            image_size=preprocess.image_size,
            channels=preprocess.channels,
            class_names=prepared.dataset.class_names,
        )
        engine = open_engine(path, num_threads=plan.compute.num_threads)
        yield _measure_features(engine, train, num_images=len(train.targets) + len(prepared.val.targets))
        return (yield from learn_head(classifier, engine, train, prepared.val, plan))


def _measure_features(engine: Engine, train: LabelledImages, *, num_images: int) -> FeatureTime:
    batch = train.store.rows()[:NUM_MEASURED]
    engine(batch)  # the first call allocates
    started = time.perf_counter()
    engine(batch)
    return FeatureTime(num_images=num_images, seconds=(time.perf_counter() - started) / len(batch) * num_images)


def learn_head(
    classifier: Classifier, engine: Engine, train: LabelledImages, val: LabelledImages, plan: Plan
) -> Generator[HeadEvent, None, tuple[HeldOut | None, CrossValidation | None]]:
    """Fit heads on the frozen features that `engine` gives, on train; the one with the lowest NLL goes into `classifier`.

    The NLL is that of the validation split, or if a class has under 20 images, of repeated cross-validation over both splits.
    Returns predictions to calibrate on, if only the head is learnt, and the result of the cross-validation.
    """
    num_classes = classifier.classifier.out_features
    (of_train, train_uniforms), (of_val, val_uniforms) = (
        run_engine(engine, split.store.rows()) for split in (train, val)
    )
    train_features, val_features = _standardised(classifier, of_train.features, of_val.features)
    is_balanced = plan.balance in ("weights", "sampler")
    together = _pool(train, val, np.concatenate([train_features, val_features]), num_classes if is_balanced else None)
    smallest = int(class_sizes(together.targets, num_classes).min())
    config, found = plan.head, None
    if smallest < FEW_IMAGES:
        found = yield from _choose_by_folds(together, plan, num_classes, smallest)
        config = replace(config, l2=(found.l2,))
    best: tuple[float, LinearHead] | None = None
    weights = loss_weights(train.targets, num_classes) if is_balanced else None
    heads = fit_heads(train_features, train.targets, config, num_classes=num_classes, weights=weights)
    for trial, head in enumerate(heads, start=1):
        scores = score_answers(head(val_features), val.targets)
        if best is None or scores.nll < best[0]:
            best = (scores.nll, head)
        if found is None:
            yield HeadLog(
                trial=trial,
                l2=head.l2,
                val_accuracy=scores.accuracy,
                val_nll=scores.nll,
                val_map=scores.mean_average_precision,
            )
    if best is None:
        raise TrainingError("no L2 strength was tried; head.l2 is empty.")
    if found is None:
        yield HeadFitted(l2=best[1].l2)
    with torch.no_grad():
        classifier.classifier.weight.copy_(torch.from_numpy(best[1].weight))
        classifier.classifier.bias.copy_(torch.from_numpy(best[1].bias))
    if plan.recipe != "head":
        return None, found
    uniforms = np.concatenate([train_uniforms, val_uniforms])
    return hold_out_head(together, uniforms, best[1], plan, num_train=len(train.targets)), found


def _standardised(
    classifier: Classifier, train: NDArray[np.float32], val: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features [N, D] of the splits as `classifier` gives them from here on: of several layers, standardised on train."""
    network = classifier.network
    if not isinstance(network, InnerLayers):
        return train, val
    mean, std = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    network.standardise(torch.from_numpy(mean), torch.from_numpy(std))
    shift, scale = (tensor.numpy() for tensor in (network.shift, network.scale))
    return (train - shift) * scale, (val - shift) * scale


def _pool(
    train: LabelledImages, val: LabelledImages, features: NDArray[np.float32], weigh_classes: int | None
) -> HeadData:
    targets = np.concatenate([train.targets, val.targets])
    weights = None if weigh_classes is None else loss_weights(targets, weigh_classes)
    groups = np.concatenate([train.groups, val.groups])
    return HeadData(features=features, targets=targets, groups=groups, weights=weights)


def _choose_by_folds(
    data: HeadData, plan: Plan, num_classes: int, smallest: int
) -> Generator[HeadEvent, None, CrossValidation]:
    num_folds = data.num_folds(num_classes)
    tried: list[HeadLog] = []
    logits = cross_validate(data, plan.head, num_classes=num_classes, seed=plan.seed)
    for l2, repeats in zip(plan.head.strengths, logits, strict=True):
        scores = [score_answers(rows, data.targets) for rows in repeats]
        accuracies = [score.accuracy for score in scores]
        maps = [score.mean_average_precision for score in scores if score.mean_average_precision is not None]
        tried.append(
            HeadLog(
                trial=len(tried) + 1,
                l2=l2,
                val_accuracy=float(np.mean(accuracies)),
                val_nll=float(np.mean([score.nll for score in scores])),
                num_folds=num_folds,
                num_repeats=len(accuracies),
                accuracy_std=float(np.std(accuracies)),
                val_map=float(np.mean(maps)) if maps else None,
            )
        )
    yield from tried
    chosen = min(tried, key=lambda log: log.val_nll)
    found = CrossValidation(
        smallest_class=smallest,
        num_images=len(data.targets),
        num_folds=num_folds,
        num_repeats=chosen.num_repeats,
        l2=chosen.l2,
        accuracy=chosen.val_accuracy,
        accuracy_std=chosen.accuracy_std,
        nll=chosen.val_nll,
        mean_average_precision=chosen.val_map,
    )
    yield found
    return found
