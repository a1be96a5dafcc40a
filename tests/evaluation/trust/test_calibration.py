import json

import numpy as np
import pytest

from recog.core.errors import BundleError, ConfigError, DataError, ShapeError
from recog.evaluation.measures.probability import softmax
from recog.evaluation.trust.calibration import Calibration, CalibrationConfig, fit_calibration
from recog.evaluation.trust.conformal import SET_METHODS, conformal_quantile, fit_sets
from recog.evaluation.trust.scaling import METHODS, Scaling, scale_held_out

LOGITS = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, -5.0]], dtype=np.float32)


def test_none_is_the_softmax():
    calibration = Calibration()
    assert calibration.method == "none"
    assert (calibration.apply(LOGITS) == softmax(LOGITS)).all()
    assert calibration.apply(LOGITS).dtype == np.float64


def of_method(method):
    vector = {"factors": (1.0, 2.0, 0.5), "offsets": (0.0, 0.5, -0.5)} if method == "vector" else {}
    return Calibration(scaling=Scaling(method=method, temperature=2.0 if method == "temperature" else 1.0, **vector))


@pytest.mark.parametrize("method", METHODS)
def test_probs_are_the_softmax_of_the_calibrated_logits(method):
    calibration = of_method(method)
    assert calibration.method == method
    assert (calibration.apply(LOGITS) == softmax(calibration.calibrated_logits(LOGITS))).all()


@pytest.mark.parametrize("method", METHODS)
def test_round_trip_through_json(method):
    calibration = of_method(method)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_a_file_with_no_calibration():
    assert Calibration.from_dict({"method": "none"}) == Calibration()


@pytest.mark.parametrize("table", [{"method": "platt", "slope": 1.5}, {"method": ["none"]}])
def test_a_newer_method_is_refused(table):
    with pytest.raises(BundleError, match="newer release of recog wrote it"):
        Calibration.from_dict(table)


def test_an_unknown_key_is_refused_not_dropped():
    with pytest.raises(BundleError, match="unknown key 'attention'.*newer release"):
        Calibration.from_dict({"method": "none", "attention": {"heads": 9}})


@pytest.mark.parametrize("table", [{}, {"thresholds": {}}])
def test_a_damaged_file_is_refused(table):
    with pytest.raises(BundleError, match="no 'method'"):
        Calibration.from_dict(table)


def test_an_unknown_method_in_code():
    with pytest.raises(ConfigError, match="'platt'; expected one of none"):
        Scaling(method="platt")
    with pytest.raises(ConfigError, match="'platt'; it must be one of auto, none"):
        CalibrationConfig(method="platt")


def test_a_temperature_by_hand():
    calibration = Calibration.from_dict({"method": "temperature", "temperature": 2.0})
    exps = np.exp([0.5, 1.0, 1.5])
    np.testing.assert_allclose(calibration.apply(LOGITS)[0], exps / exps.sum())


@pytest.mark.parametrize("table", [{"method": "temperature", "temperature": -1.0}, {"method": "none", "fit": 3}])
def test_impossible_numbers_in_the_file_are_refused(table):
    with pytest.raises(
        BundleError,
        match=r"calibration.json: (calibration has a temperature|fit is a whole number; expected an object)",
    ):
        Calibration.from_dict(table)


def test_a_vector_for_other_classes_is_refused():
    with pytest.raises(BundleError, match="for 3 classes and the model has 10"):
        of_method("vector").check_classes(10)
    of_method("vector").check_classes(3)
    of_method("temperature").check_classes(10)


def test_fitting_names_its_data():
    calibration = fit_calibration(LOGITS, np.array([2, 0]), CalibrationConfig(), data="val")
    assert (calibration.scaling.fit.data, calibration.scaling.fit.num_images) == ("val", 2)
    assert (calibration.sets.data, calibration.sets.num_images, calibration.sets.method) == ("val", 2, "lac")


def batch(num_images, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_images)
    return 3 * (rng.normal(0, 1, (num_images, 3)) + np.eye(3)[labels]), labels


@pytest.mark.parametrize("conformal", ["none", *SET_METHODS])
def test_what_is_asked_for_is_fitted_and_written(conformal):
    calibration = fit_calibration(*batch(300), CalibrationConfig(conformal=conformal, alpha=0.2), data="val")
    assert (calibration.sets is None) == (conformal == "none")
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    assert calibration.sets is None or (calibration.sets.method, calibration.sets.alpha) == (conformal, 0.2)


def test_sets_are_fitted_on_probabilities_scaled_without_the_image():
    logits, labels = batch(300)
    calibration = fit_calibration(logits, labels, CalibrationConfig(method="temperature", alpha=0.1), data="val")
    probs = softmax(scale_held_out(logits, labels, "temperature"))
    assert calibration.sets.quantile == conformal_quantile(1 - probs[np.arange(300), labels], 0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conformal": "nap"}, "'nap'; it must be one of none, lac"),
        ({"alpha": 1.0}, "alpha is 1.0; it must lie between"),
    ],
)
def test_a_wrong_config_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        CalibrationConfig(**changes)


def test_class_quantiles_for_other_classes_are_refused():
    sets = fit_sets(
        softmax(batch(900)[0]), batch(900)[1], np.zeros(900), method="lac", alpha=0.1, class_conditional=True
    )
    with pytest.raises(BundleError, match="for 3 classes and the model has 10"):
        Calibration(sets=sets).check_classes(10)


SETS = {"method": "lac", "alpha": 0.1, "quantile": 0.5, "num_images": 9, "data": "val"}


def test_damaged_sets_are_refused():
    with pytest.raises(BundleError, match=r"unknown key 'sets\.quantil'"):
        Calibration.from_dict({"method": "none", "sets": SETS | {"quantil": 0.5}})
    with pytest.raises(BundleError, match=r"calibration.json: sets\.alpha is missing"):
        Calibration.from_dict({"method": "none", "sets": {"method": "lac"}})


def test_bad_logits_are_refused():
    with pytest.raises(DataError, match="NaN"):
        Calibration().apply(np.array([[np.nan, 0.0]]))
    with pytest.raises(ShapeError, match=r"logits\[None\]"):
        Calibration().apply(np.zeros(3))
