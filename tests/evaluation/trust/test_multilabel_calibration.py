import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit

from recog.core.errors import BundleError, ConfigError
from recog.evaluation.measures.multilabel import bce
from recog.evaluation.trust.calibration import Calibration, CalibrationConfig, fit_calibration
from recog.evaluation.trust.scaling import fit_temperature

AUTO = CalibrationConfig()


def too_sure(num_images=2000, num_labels=4, factor=3.0, seed=0):
    rng = np.random.default_rng(seed)
    honest = rng.normal(scale=1.5, size=(num_images, num_labels))
    return factor * honest, rng.random(honest.shape) < expit(honest)


def test_the_temperature_is_the_minimum_of_the_bce():
    logits, shown = too_sure()
    fit = fit_temperature(logits, shown)
    temperature = fit.temperature
    assert not fit.is_bounded
    found = minimize_scalar(
        lambda t: bce(logits / t, shown), bounds=(0.1, 20), method="bounded", options={"xatol": 1e-9}
    )
    assert temperature == pytest.approx(found.x, rel=1e-4)
    assert temperature == pytest.approx(3, rel=0.1)  # what the data were made with


def test_answers_that_are_all_right_do_not_bound_it():
    logits = np.array([[5.0, -3.0], [-2.0, 4.0]])
    fit = fit_temperature(logits, logits > 0)
    assert (fit.temperature, fit.is_bounded) == (0.01, True)
    calibration = fit_calibration(logits, logits > 0, AUTO, data="val")
    assert calibration.method == "none"
    assert "no temperature can be fitted" in calibration.scaling.fit.reason


def test_what_is_fitted_is_applied_and_survives_the_file():
    logits, shown = too_sure()
    calibration = fit_calibration(logits, shown.astype(np.float32), AUTO, data="val")
    fit = calibration.scaling.fit
    assert calibration.method == "temperature"
    assert fit.nll_after < fit.nll_before
    assert fit.ece_after < fit.ece_before
    np.testing.assert_allclose(calibration.apply(logits), expit(logits / calibration.scaling.temperature))
    again = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    assert again == calibration
    np.testing.assert_array_equal(
        again.preds(again.apply(logits)), calibration.apply(logits) >= calibration.thresholds.values
    )


def test_honest_answers_stay_as_they_are_or_nearly():
    logits, shown = too_sure(factor=1.0)
    calibration = fit_calibration(logits, shown, AUTO, data="val")
    assert calibration.scaling.temperature == pytest.approx(1, abs=0.05)
    assert fit_calibration(logits, shown, CalibrationConfig(method="none"), data="").method == "none"


def test_vector_scaling_is_refused_and_a_file_for_other_labels_too():
    logits, shown = too_sure(50)
    with pytest.raises(ConfigError, match="exactly one class per image"):
        fit_calibration(logits, shown, CalibrationConfig(method="vector"), data="val")
    calibration = fit_calibration(logits, shown, AUTO, data="val")
    calibration.check_classes(4)
    with pytest.raises(BundleError, match="is for 4 classes and the model has 3"):
        calibration.check_classes(3)


def test_without_thresholds_one_class_is_predicted():
    calibration = Calibration.from_dict({"method": "none"})
    assert calibration.thresholds is None
    assert calibration.to_dict() == {"method": "none"}
    assert calibration.task == "multiclass"
    assert calibration.preds(np.array([[0.5, 0.5]])).tolist() == [
        [True, False]
    ]  # the most probable, of equals the first
    with pytest.raises(BundleError, match="from 0 to 1"):
        Calibration.from_dict({"method": "none", "thresholds": {"values": [2, 3]}})
