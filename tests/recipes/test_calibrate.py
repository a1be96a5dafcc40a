"""Which images calibrate a bundle, that every way of answering uses the result, and what is said of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from small_plans import planned

import recog
from recog.evaluation.trust.calibration import Calibration, CalibrationConfig
from recog.evaluation.trust.conformal import image_coins, row_coins
from recog.evaluation.trust.scaling import UNBOUNDED, Scaling
from recog.evaluation.trust.unknown import UNKNOWN_METHODS
from recog.recipes import calibrate as calibrate_module
from recog.recipes.calibrate import (
    CROSS_FIT_BELOW,
    HeldOut,
    calibrate,
    calibration_notes,
    describe_calibration,
    hold_out_head,
)
from recog.recipes.config import TrainConfig
from recog.training.config import HeadConfig
from recog.training.head import HeadData, fit_heads

NAMES = ("cat", "dog", "hen")


def held_out(num_images=60, num_classes=2, **changes):
    """Too sure answers: noise of the labels' own size, times four."""
    rng = np.random.default_rng(0)
    targets = np.arange(num_images) % num_classes
    logits = 4 * (rng.normal(0, 1, (num_images, num_classes)) + np.eye(num_classes)[targets])
    answers = HeldOut(
        logits=logits.astype(np.float32), targets=targets, uniforms=row_coins(np.arange(num_images)), data="some images"
    )
    return replace(answers, **changes)


def config(**changes):
    return planned(TrainConfig(recipe="head", calibration=CalibrationConfig(**changes)))


def features(num_images, seed, num_classes=3):
    rng = np.random.default_rng(seed)
    targets = np.arange(num_images) % num_classes
    return (rng.normal(size=(num_images, 8)) + 2 * np.eye(num_classes, 8)[targets]).astype(np.float32), targets


def pooled(num_train, num_val):
    rows, targets = features(num_train + num_val, 0)
    images = HeadData(features=rows, targets=targets, groups=np.arange(num_train + num_val))
    (head,) = fit_heads(rows[:num_train], targets[:num_train], HeadConfig(l2=(0.1,)), num_classes=3)
    return images, head


def test_what_is_fitted_names_its_images():
    calibration, statistics = calibrate(held_out(), config(), NAMES)
    assert calibration.method == "temperature"
    assert calibration.scaling.temperature > 1.5
    assert (calibration.scaling.fit.num_images, calibration.scaling.fit.data) == (60, "some images")
    assert (calibration.sets.num_images, calibration.sets.data) == (60, "some images")
    assert (calibration.unknown, statistics) == (None, None)  # nothing is known of the images' features


def test_a_calibration_that_is_left_out_is_noted_unless_none_was_wanted():
    answers = held_out()
    answers = replace(answers, logits=(10 * np.eye(answers.logits.shape[1])[answers.targets]).astype(np.float32))
    left_out, _ = calibrate(answers, config(), NAMES)
    wanted = config(unknown="none")
    assert calibration_notes(left_out, wanted) == [
        f"calibration is left out, so the probabilities are the network's own: {UNBOUNDED}"
    ]
    assert calibration_notes(calibrate(held_out(), wanted, NAMES)[0], wanted) == []
    unwanted = config(unknown="none", method="none")
    assert calibration_notes(calibrate(answers, unwanted, NAMES)[0], unwanted) == []


@pytest.mark.parametrize("private", ["images", "none", "synthetic"])
def test_private_data_leave_no_single_images_features(private):
    images, head = pooled(120, 60)
    answers = hold_out_head(images, np.zeros(180), head, config(), num_train=120)
    asked = replace(config(unknown="auto"), reference=private)
    calibration, statistics = calibrate(answers, asked, NAMES)
    compared = {row.method for row in calibration.unknown.left_out}
    assert ("knn" in compared) == (private == "images")
    assert statistics is None or private == "images" or not statistics.bank.size


def test_unknown_can_be_left_out():
    images, head = pooled(120, 60)
    answers = hold_out_head(images, np.zeros(180), head, config(), num_train=120)
    assert calibrate(answers, config(unknown="none"), NAMES)[0].unknown is None


def test_a_small_val_is_cross_fitted_and_a_large_one_answers_by_the_head_itself(monkeypatch):
    images, head = pooled(120, 60)
    uniforms = row_coins(np.arange(180))
    small = hold_out_head(images, uniforms, head, config(), num_train=120)
    assert (len(small.logits), small.data[:13]) == (180, "train and val")
    assert (small.uniforms == uniforms).all()
    assert CROSS_FIT_BELOW == 2000
    monkeypatch.setattr(calibrate_module, "CROSS_FIT_BELOW", 60)
    large = hold_out_head(images, uniforms, head, config(), num_train=120)
    assert (large.logits == head(images.features[120:])).all()
    assert (large.uniforms == uniforms[120:]).all()
    assert large.data.startswith("val, also used to choose the logistic head")
    assert (large.known.labels == images.targets[120:]).all()


def test_cross_fitting_answers_each_image_by_a_head_that_had_not_seen_it():
    """Labels by coin: what a head remembers cannot help, so out of fold it is no better than chance."""
    rng = np.random.default_rng(1)
    images = HeadData(
        features=rng.normal(size=(200, 100)).astype(np.float32), targets=rng.integers(0, 2, 200), groups=np.arange(200)
    )
    (head,) = fit_heads(images.features[:100], images.targets[:100], HeadConfig(l2=(1e-4,)), num_classes=2)
    held_out = hold_out_head(images, np.zeros(200), head, config(), num_train=100)
    assert held_out.logits.shape == (200, 2)
    assert 0.35 < (held_out.logits.argmax(axis=1) == images.targets).mean() < 0.65
    assert "5 folds" in held_out.data


@pytest.mark.parametrize(
    ("calibration", "text"),
    [
        (Calibration(), "calibration: none"),
        (Calibration(scaling=Scaling(method="temperature", temperature=1.5)), "calibration: none"),
    ],
)
def test_without_a_fit_nothing_is_claimed(calibration, text):
    assert describe_calibration(calibration) == [text]


def test_the_sentences_have_the_numbers():
    images, head = pooled(120, 60)
    answers = hold_out_head(images, np.zeros(180), head, config(), num_train=120)
    calibration, _ = calibrate(replace(held_out(), known=answers.known), config(method="temperature"), NAMES)
    text, sets, unknown = describe_calibration(calibration)
    assert sets.startswith("prediction sets: contain the true class for at least 95% of images like these (")
    assert text.startswith(f"calibration: temperature {calibration.scaling.temperature:.3g} (")
    assert "fitted on 60 images (some images)" in text
    assert "NLL" in text
    assert f"{calibration.unknown.method} ({calibration.unknown.reason})" in unknown
    assert "at most 5.0% of 60 calibration images (val)" in unknown
    known = answers.known
    few = replace(known, features=known.features[:9], logits=known.logits[:9], labels=known.labels[:9], refit=None)
    calibration, _ = calibrate(replace(held_out(), known=few), config(), NAMES)
    assert "'unknown': never predicted (9 calibration images are too few" in describe_calibration(calibration)[2]


def test_the_bundle_carries_it_and_every_way_of_answering_uses_it(digits_run, tmp_path):
    table = json.loads((digits_run.bundle / "calibration.json").read_text())
    assert table["fit"]["num_images"] == 269  # the val split of digits
    predictor = recog.load(digits_run.bundle, num_threads=1)
    image = np.full((8, 8), 100, dtype=np.uint8)
    answer = predictor.predict(image)
    by_hand = Calibration.from_dict(table).apply(answer.logits[None])[0]
    np.testing.assert_array_equal(answer.probs, by_hand)
    report = json.loads((digits_run.bundle / "report.json").read_text())
    assert report["calibration_method"] == table["method"]
    assert report["trust"]["scaling"]["fit"] == table["fit"]
    in_set = predictor.calibration.sets.sets(answer.probs[None], image_coins(image[None, :, :, None]))[0]
    assert (answer.in_set == in_set).all()
    assert answer.label_set[0] == answer.label
    sets = report["trust"]["sets"]
    assert (sets["num_images"], sets["num_calibration_images"]) == (360, 269)
    assert sets["coverage_ci95"][1] >= 0.9
    unknown = report["trust"]["unknown"]
    assert unknown["rule"] == table["unknown"]
    # both the threshold, from 269 images, and the rate, of 360, vary: three standard deviations of their difference
    assert abs(unknown["reject_rate"] - 0.05) <= 3 * (0.05 * 0.95 * (1 / 269 + 1 / 360)) ** 0.5
    assert {row["method"] for row in table["unknown"]["left_out"]} == set(UNKNOWN_METHODS)
    assert recog.verify(digits_run.bundle).max_prob_difference <= 1e-4
