"""The head on few images: cross-validation chooses, says so, and the head is fitted to the training split alone."""

import numpy as np
import pytest
import torch
from small_models import PixelEngine, PixelHead
from small_plans import exhaust, planned

from recog.data.store import ImageStore
from recog.evaluation.results.training_facts import CrossValidation
from recog.models.classifier import Classifier
from recog.recipes.config import TrainConfig
from recog.recipes.events import HeadFitted, HeadLog, describe_cross_validation
from recog.recipes.head import learn_head
from recog.recipes.prepare import LabelledImages
from recog.training.config import HeadConfig


def split_of(count, seed):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    levels = generator.integers(0, 100, (count, 2, 2, 1)) + 150 * labels[:, None, None, None]
    store = ImageStore(list(levels.astype(np.uint8)))
    return LabelledImages(store=store, targets=labels, groups=np.arange(count) + 1000 * seed)


def learn(num_train, num_val, **more):
    classifier = Classifier(PixelHead(), mean=(0.5,), std=(0.5,))
    config = planned(TrainConfig(recipe="finetune", head=HeadConfig(l2=(0.01, 1.0)), **more))
    learning = learn_head(classifier, PixelEngine(), split_of(num_train, 1), split_of(num_val, 2), config)
    events, (held_out, found) = exhaust(learning)
    assert held_out is None  # which the trained network gives, not its first head
    assert found is None or events[-1] is found
    return classifier, events


@pytest.mark.parametrize("balance", ["auto", "weights", "sampler"])
def test_under_twenty_images_per_class_are_cross_validated(balance):
    classifier, events = learn(20, 8, balance=balance)
    *tried, chosen = events
    assert [type(event) for event in tried] == [HeadLog, HeadLog]
    assert isinstance(chosen, CrossValidation)
    assert (chosen.smallest_class, chosen.num_images, chosen.num_folds, chosen.num_repeats) == (14, 28, 5, 4)
    assert chosen.nll == min(log.val_nll for log in tried)
    assert chosen.accuracy > 0.9
    assert "4 x 5-fold stratified cross-validation on all 28 images" in describe_cross_validation(chosen)
    val = split_of(8, 2)
    features = torch.from_numpy(PixelEngine()(val.store.stack()).features)
    assert (classifier.classifier(features).argmax(dim=1).numpy() == val.targets).mean() > 0.8


def test_from_twenty_images_per_class_on_the_validation_split_chooses():
    _, events = learn(40, 8)
    *tried, chosen = events
    assert [type(event) for event in events] == [HeadLog, HeadLog, HeadFitted]
    assert all(event.num_folds == 0 for event in tried)
    assert chosen.l2 == min(tried, key=lambda log: log.val_nll).l2
