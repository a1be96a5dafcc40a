"""Heads for several labels an image: chosen on val, or by cross-validation where a label is rare."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from small_models import PixelEngine, PixelHead
from small_plans import exhaust, planned

from recog.data.store import ImageStore
from recog.evaluation.measures.multilabel import bce
from recog.evaluation.trust.scaling import fit_temperature
from recog.models.classifier import Classifier
from recog.recipes.calibrate import HeldOut, calibrate
from recog.recipes.config import TrainConfig
from recog.recipes.events import HeadLog, describe_cross_validation
from recog.recipes.head import learn_head
from recog.recipes.labelled_images import LabelledImages
from recog.training.config import HeadConfig


def split_of(count, seed):
    """Label 0 is told by the first pixel, label 1 by the last; each stands on about half of the images, by itself."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((count, 2)) < 0.5).astype(np.float32)
    images = rng.integers(0, 100, (count, 2, 2, 1))
    images[:, 0, 0, 0] += (120 * targets[:, 0]).astype(int)
    images[:, 1, 1, 0] += (120 * targets[:, 1]).astype(int)
    store = ImageStore(list(images.astype(np.uint8)))
    return LabelledImages(store=store, targets=targets, groups=np.arange(count) + 1000 * seed)


def learn(num_train, num_val, **more):
    classifier = Classifier(PixelHead(), mean=(0.5,), std=(0.5,))
    config = planned(TrainConfig(recipe="head", head=HeadConfig(l2=(0.01, 1.0)), **more), task="multilabel")
    learning = learn_head(classifier, PixelEngine(), split_of(num_train, 1), split_of(num_val, 2), config)
    events, (held_out, found) = exhaust(learning)
    return classifier, events, held_out, found, config


def answers(classifier, split):
    features = torch.from_numpy(PixelEngine()(split.store.stack()).features)
    return classifier.classifier(features).detach().numpy()


def test_the_strength_with_the_best_answers_out_of_fold_is_taken():
    classifier, (*tried, _), held_out, _, config = learn(200, 80)
    assert [(type(event), event.method) for event in tried] == [(HeadLog, "logistic")] * 2
    (best,) = [log for log in tried if log.is_best]
    assert isinstance(held_out, HeldOut)
    assert best.val_map == pytest.approx(metrics.average_precision_score(held_out.targets, held_out.logits))
    assert best.val_accuracy == metrics.accuracy_score(held_out.targets, held_out.logits >= 0)
    temperature = fit_temperature(held_out.logits, held_out.targets).temperature
    assert best.val_nll == pytest.approx(bce(held_out.logits / temperature, held_out.targets == 1))
    val = split_of(80, 2)
    assert metrics.average_precision_score(val.targets, answers(classifier, val)) > 0.95
    assert held_out.targets.shape == (280, 2)
    assert "cross-fitted in 5 folds" in held_out.data
    calibration, statistics = calibrate(held_out, config, ("a", "b", "c"))
    assert statistics is None
    assert calibration.thresholds.num_images == 280
    assert (calibration.sets, calibration.unknown) == (None, None)


@pytest.mark.parametrize("balance", ["auto", "weights"])
def test_a_rare_label_is_cross_validated(balance):
    _, events, _, chosen, _ = learn(20, 10, balance=balance)
    tried = [event for event in events if isinstance(event, HeadLog)]
    assert chosen.smallest_class < 20
    assert chosen.nll == next(log.val_nll for log in tried if log.is_best)
    assert chosen.mean_average_precision > 0.9
    assert describe_cross_validation(chosen).startswith(
        f"the rarest label has only {chosen.smallest_class} images to train and validate with"
    )
    assert ": mAP " in describe_cross_validation(chosen)
