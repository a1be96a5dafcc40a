"""Choosing a head by answers out of fold, repeatedly where images are few, and what the finished head is fitted on."""

import numpy as np
import pytest
import torch
from small_models import PixelEngine, PixelHead
from small_plans import exhaust, planned

from recog.data.store import ImageStore
from recog.evaluation.results.facts import CrossValidation
from recog.models.classifier import Classifier
from recog.recipes.config import TrainConfig
from recog.recipes.events import HeadFitted, HeadLog, describe_cross_validation
from recog.recipes.head import learn_head
from recog.recipes.labelled_images import LabelledImages
from recog.training.config import HeadConfig
from recog.training.head import HeadData, HeadSpec
from recog.training.ridge import fit_as


def split_of(count, seed):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    levels = generator.integers(0, 100, (count, 2, 2, 1)) + 150 * labels[:, None, None, None]
    store = ImageStore(list(levels.astype(np.uint8)))
    return LabelledImages(store=store, targets=labels, groups=np.arange(count) + 1000 * seed)


def learn(num_train, num_val, recipe="finetune", fits_val=False, method="logistic", **more):
    classifier = Classifier(PixelHead(), mean=(0.5,), std=(0.5,))
    head = HeadConfig(l2=(0.01, 1.0), ridge_l2=(0.1, 3.0), method=method)
    config = planned(TrainConfig(recipe=recipe, head=head, **more))
    splits = split_of(num_train, 1), split_of(num_val, 2) if num_val else None
    learning = learn_head(classifier, PixelEngine(), *splits, config, fits_val=fits_val)
    events, (held_out, found) = exhaust(learning)
    assert (held_out is None) == (recipe == "finetune")  # whose trained network is calibrated, not its first head
    assert found is None or events[-1] is found
    return classifier, events, held_out


def pixels(*splits):
    images = [PixelEngine()(split.store.stack()).features for split in splits]
    return np.concatenate(images), np.concatenate([split.targets for split in splits])


@pytest.mark.parametrize("balance", ["auto", "weights", "sampler"])
def test_under_twenty_images_per_class_are_cross_validated_repeatedly(balance):
    classifier, events, _ = learn(20, 8, balance=balance)
    *tried, chosen = events
    assert [type(event) for event in tried] == [HeadLog, HeadLog]
    assert isinstance(chosen, CrossValidation)
    assert (chosen.smallest_class, chosen.num_images, chosen.num_folds, chosen.num_repeats) == (14, 28, 5, 4)
    (best,) = [log for log in tried if log.is_best]
    assert (chosen.nll, chosen.l2, chosen.method) == (best.val_nll, best.l2, "logistic")
    assert chosen.accuracy > 0.9
    assert "4 x 5-fold stratified cross-validation on all 28 images" in describe_cross_validation(chosen)
    val = split_of(8, 2)
    features = torch.from_numpy(PixelEngine()(val.store.stack()).features)
    assert (classifier.classifier(features).argmax(dim=1).numpy() == val.targets).mean() > 0.8


def test_from_twenty_images_per_class_on_both_splits_are_answered_out_of_fold_once():
    _, events, _ = learn(40, 8)
    *tried, chosen = events
    assert [type(event) for event in events] == [HeadLog, HeadLog, HeadFitted]
    assert all((event.num_folds, event.num_repeats) == (5, 1) for event in tried)
    assert chosen.l2 == next(event.l2 for event in tried if event.is_best)


def test_many_images_are_judged_on_val(monkeypatch):
    monkeypatch.setattr("recog.recipes.head.MAX_CROSS_FITTED", 47)
    _, (*events, _), held_out = learn(40, 8, recipe="head", method=None)
    assert [(event.method, event.num_folds) for event in events] == [("logistic", 0)] * 2 + [("ridge", 0)] * 2
    assert held_out.data.startswith("train and val, cross-fitted in 5 folds")  # only with the chosen head


@pytest.mark.parametrize(("num_images", "repeats", "folds"), [(4, 4, 2), (30, 4, 5), (60, 1, 5)])
def test_without_val_all_images_are_cross_validated_and_fitted(num_images, repeats, folds):
    classifier, (*events, found), held_out = learn(num_images, 0, recipe="head")
    assert (found.num_images, found.num_repeats, found.num_folds) == (num_images, repeats, folds)
    (best,) = [event for event in events if event.is_best]
    assert (held_out.targets == split_of(num_images, 1).targets).all()
    if repeats == 1:
        assert (held_out.logits.argmax(axis=1) == held_out.targets).mean() == best.val_accuracy
        assert "over the repeats" not in describe_cross_validation(found)
    features, labels = pixels(split_of(num_images, 1))
    images = HeadData(features=features, targets=labels, groups=np.arange(num_images))
    expected = fit_as(HeadSpec(l2=best.l2), images, HeadConfig(), num_classes=2)
    np.testing.assert_allclose(classifier.classifier.weight.detach().numpy(), expected.weight, rtol=1e-4, atol=1e-5)
    # what 'unknown' is fitted on: one fold, and the features of the others
    assert len(held_out.known.labels) == num_images // folds
    assert len(held_out.known.train_labels) == num_images - num_images // folds
    assert held_out.known.data == f"one of {folds} folds of train"


def test_many_images_without_val_are_cross_validated_once(monkeypatch):
    monkeypatch.setattr("recog.recipes.head.MAX_CROSS_FITTED", 47)
    _, (*_, found), _ = learn(60, 0, recipe="head")
    assert (found.num_images, found.num_repeats) == (60, 1)


def test_both_kinds_are_compared_and_one_is_best():
    _, (*events, _), held_out = learn(40, 20, recipe="head", method=None)
    assert [(event.trial, event.method, event.l2) for event in events] == [
        (1, "logistic", 1.0),
        (2, "logistic", 0.01),
        (3, "ridge", 3.0),
        (4, "ridge", 0.1),
    ]
    (best,) = [event for event in events if event.is_best]
    assert (held_out.logits.argmax(axis=1) == held_out.targets).mean() == best.val_accuracy
    assert len(held_out.targets) == 60


@pytest.mark.parametrize("method", ["logistic", "ridge"])
@pytest.mark.parametrize("fits_val", [False, True])
def test_the_finished_head_is_fitted_on_train_or_on_both_splits(method, fits_val):
    classifier, (*events, _), _ = learn(40, 20, recipe="head", method=method, fits_val=fits_val)
    (best,) = [event for event in events if event.is_best]
    splits = [split_of(40, 1), split_of(20, 2)] if fits_val else [split_of(40, 1)]
    features, labels = pixels(*splits)
    images = HeadData(features=features, targets=labels, groups=np.arange(len(labels)))
    expected = fit_as(HeadSpec(l2=best.l2, method=method), images, HeadConfig(), num_classes=2)
    np.testing.assert_allclose(classifier.classifier.weight.detach().numpy(), expected.weight, rtol=1e-4, atol=1e-5)
