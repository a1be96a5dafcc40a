"""Which images calibrate a bundle, that every way of answering uses the result, and what is said of it."""

import json

import numpy as np
import pytest

import recog
from recog.data.store import ImageStore
from recog.evaluation.calibration import Calibration, CalibrationConfig
from recog.evaluation.conformal import image_coins
from recog.evaluation.scaling import Scaling
from recog.recipes.calibrate import HeldOut, calibrate, cross_fit_head, describe_calibration, run_engine
from recog.recipes.plan import TrainConfig
from recog.recipes.prepare import LabelledImages
from recog.runtime.engine import Outputs
from recog.training.crossval import FewImages
from recog.training.head import HeadConfig


class LevelEngine:
    """Two logits from an image's mean level, and the level as its feature."""

    def __call__(self, images):
        level = images.reshape(len(images), -1).mean(axis=1, dtype=np.float32)
        return Outputs(logits=np.stack([-level, level], axis=1) / 20, features=level[:, None])


def val_split(num_images=50):
    rng = np.random.default_rng(0)
    labels = np.arange(num_images) % 2
    levels = np.clip(rng.normal(20 * labels[:, None, None, None], 30, (num_images, 1, 1, 1)) + 60, 0, 255)
    return LabelledImages(store=ImageStore(list(levels.astype(np.uint8))), targets=labels, groups=np.arange(num_images))


def test_a_network_is_calibrated_on_val_by_the_engine_that_serves_it():
    calibration = calibrate(LevelEngine(), None, val_split(), TrainConfig())
    fit = calibration.scaling.fit
    assert (fit.num_images, fit.data[:22]) == (50, "val; it also chose the")
    assert calibration.method == "temperature"


def test_held_out_answers_go_before_val():
    held_out = HeldOut(
        logits=np.zeros((3, 2), np.float32), targets=np.array([0, 1, 0]), coins=np.zeros(3), data="somewhere else"
    )
    fit = calibrate(LevelEngine(), held_out, val_split(), TrainConfig()).scaling.fit
    assert (fit.num_images, fit.data) == (3, "somewhere else")


def test_cross_fitting_answers_each_image_by_a_head_that_had_not_seen_it():
    """Labels by coin: what a head remembers cannot help, so out of fold it is no better than chance."""
    rng = np.random.default_rng(1)
    images = FewImages(
        features=rng.normal(size=(200, 100)).astype(np.float32), targets=rng.integers(0, 2, 200), groups=np.arange(200)
    )
    held_out = cross_fit_head(images, np.zeros(200), HeadConfig(l2=(1e-4,)), num_classes=2, seed=0)
    assert held_out.logits.shape == (200, 2)
    assert 0.35 < (held_out.logits.argmax(axis=1) == images.targets).mean() < 0.65
    assert "5 folds" in held_out.data


def test_batches_are_joined_in_order():
    images = np.arange(70, dtype=np.uint8).reshape(70, 1, 1, 1)
    assert run_engine(LevelEngine(), images).features[:, 0].tolist() == list(range(70))


@pytest.mark.parametrize(
    ("calibration", "text"),
    [
        (Calibration(), "probabilities are not calibrated"),
        (Calibration(scaling=Scaling(method="temperature", temperature=1.5)), "probabilities are not calibrated"),
    ],
)
def test_without_a_fit_nothing_is_claimed(calibration, text):
    assert describe_calibration(calibration) == text


def test_the_sentence_has_the_numbers():
    config = TrainConfig(calibration=CalibrationConfig(method="temperature"))
    text = describe_calibration(calibrate(LevelEngine(), None, val_split(), config))
    assert "by a temperature of" in text
    assert "fitted on 50 images (val" in text
    assert "NLL" in text


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
    assert recog.verify(digits_run.bundle).max_prob_difference <= 1e-4
