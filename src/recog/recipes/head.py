"""Recipe `head`, and the first phase of `finetune`: a linear head on frozen features."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recog.core.errors import TrainingError
from recog.data.balance import class_sizes, head_weights
from recog.export.onnx import export_onnx
from recog.models.classifier import Classifier
from recog.recipes.calibrate import HeldOut, hold_out_head, run_engine
from recog.recipes.events import CrossValidated, HeadLog, score_answers
from recog.recipes.plan import Plan
from recog.recipes.prepare import LabelledImages, Prepared
from recog.runtime.engine import Engine, OnnxEngine
from recog.training.head import FEW_IMAGES, FewImages, LinearHead, cross_validate, fit_heads


def learn_frozen(classifier: Classifier, prepared: Prepared) -> Iterator[HeadLog | CrossValidated | HeldOut]:
    """Fit the head of `classifier` on its frozen features, where the recipe has one."""
    if prepared.exact is None:
        return
    preprocess, plan = prepared.model.preprocess, prepared.plan
    with tempfile.TemporaryDirectory(prefix="recog-") as folder:
        # features by the engine that will serve them: the same numbers, several times faster than torch on a CPU
        path = Path(folder) / "features.onnx"
        export_onnx(
            classifier,
            path,
            image_size=preprocess.image_size,
            channels=preprocess.channels,
            class_names=prepared.dataset.class_names,
        )
        engine = OnnxEngine(path, num_threads=plan.compute.num_threads)
        yield from learn_head(classifier, engine, prepared.exact, prepared.val, plan)


def learn_head(
    classifier: Classifier,
    engine: Engine,
    train: LabelledImages,
    val: LabelledImages,
    plan: Plan,
) -> Iterator[HeadLog | CrossValidated | HeldOut]:
    """Fit heads on the frozen features that `engine` gives, on train; the one with the lowest NLL goes into `classifier`.

    NLL is that of the validation split, or under 20 images in a class, of repeated cross-validation over both splits.
    Where the head is all that is learnt, the last event is the answers to calibrate on.
    """
    num_classes = classifier.classifier.out_features
    of_train, of_val = (run_engine(engine, split.store.rows()) for split in (train, val))
    features, val_features = of_train.features, of_val.features
    balanced = plan.balance in ("weights", "sampler")
    weights = head_weights(train.targets, num_classes) if balanced else None
    head_config = plan.head
    together = _pool(train, val, np.concatenate([features, val_features]), num_classes if balanced else None)
    smallest = int(class_sizes(together.targets, num_classes).min())
    if smallest < FEW_IMAGES:
        tried = list(_try_by_folds(together, plan, num_classes))
        yield from tried
        chosen = min(tried, key=lambda log: log.val_nll)
        head_config = replace(head_config, l2=(chosen.l2,))
        yield CrossValidated(
            smallest_class=smallest,
            num_images=len(together.targets),
            num_folds=chosen.num_folds,
            num_repeats=chosen.num_repeats,
            l2=chosen.l2,
            accuracy=chosen.val_accuracy,
            accuracy_std=chosen.accuracy_std,
            nll=chosen.val_nll,
            mean_average_precision=chosen.val_map,
        )
    best: tuple[float, LinearHead] | None = None
    heads = fit_heads(features, train.targets, head_config, num_classes=num_classes, weights=weights)
    for trial, head in enumerate(heads, start=1):
        scores = score_answers(head(val_features), val.targets)
        if best is None or scores.nll < best[0]:
            best = (scores.nll, head)
        if head_config is plan.head:
            yield HeadLog(
                trial=trial,
                l2=head.l2,
                val_accuracy=scores.accuracy,
                val_nll=scores.nll,
                val_map=scores.mean_average_precision,
            )
    if best is None:
        raise TrainingError("no L2 strength was tried; head.l2 is empty.")
    with torch.no_grad():
        classifier.classifier.weight.copy_(torch.from_numpy(best[1].weight))
        classifier.classifier.bias.copy_(torch.from_numpy(best[1].bias))
    if plan.recipe == "head":
        coins = np.concatenate([of_train.coins, of_val.coins])
        yield hold_out_head(together, coins, best[1], plan, num_train=len(train.targets))


def _pool(
    train: LabelledImages, val: LabelledImages, features: NDArray[np.float32], weigh_classes: int | None
) -> FewImages:
    targets = np.concatenate([train.targets, val.targets])
    weights = None if weigh_classes is None else head_weights(targets, weigh_classes)
    return FewImages(
        features=features, targets=targets, groups=np.concatenate([train.groups, val.groups]), weights=weights
    )


def _try_by_folds(data: FewImages, plan: Plan, num_classes: int) -> Iterator[HeadLog]:
    results = cross_validate(data, plan.head, num_classes=num_classes, seed=plan.seed)
    for trial, result in enumerate(results, start=1):
        scores = [score_answers(logits, data.targets) for logits in result.logits]
        accuracies = [score.accuracy for score in scores]
        maps = [score.mean_average_precision for score in scores if score.mean_average_precision is not None]
        yield HeadLog(
            trial=trial,
            l2=result.l2,
            val_accuracy=float(np.mean(accuracies)),
            val_nll=float(np.mean([score.nll for score in scores])),
            num_folds=result.num_folds,
            num_repeats=len(accuracies),
            accuracy_std=float(np.std(accuracies)),
            val_map=float(np.mean(maps)) if maps else None,
        )
