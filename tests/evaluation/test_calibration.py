import json

import numpy as np
import pytest

from recog.core.errors import BundleError, ConfigError, DataError, ShapeError
from recog.evaluation.calibration import METHODS, Calibration
from recog.evaluation.measures import softmax

LOGITS = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, -5.0]], dtype=np.float32)


def test_none_is_the_softmax():
    calibration = Calibration()
    assert calibration.method == "none"
    assert (calibration.apply(LOGITS) == softmax(LOGITS)).all()
    assert calibration.apply(LOGITS).dtype == np.float64


@pytest.mark.parametrize("method", METHODS)
def test_probs_are_the_softmax_of_the_calibrated_logits(method):
    calibration = Calibration(method=method)
    assert (calibration.apply(LOGITS) == softmax(calibration.calibrated_logits(LOGITS))).all()


@pytest.mark.parametrize("method", METHODS)
def test_round_trip_through_json(method):
    calibration = Calibration(method=method)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_what_the_first_release_wrote_stays_readable():
    assert Calibration.from_dict({"method": "none"}) == Calibration()


@pytest.mark.parametrize("table", [{"method": "temperature", "temperature": 1.5}, {"method": ["none"]}])
def test_a_newer_method_is_refused(table):
    with pytest.raises(BundleError, match="newer release of recog wrote it"):
        Calibration.from_dict(table)


def test_an_unknown_key_is_refused_not_dropped():
    with pytest.raises(BundleError, match="unknown key 'conformal'.*newer release"):
        Calibration.from_dict({"method": "none", "conformal": {"quantile": 0.9}})


@pytest.mark.parametrize("table", [{}, [], None, "none"])
def test_a_damaged_file_is_refused(table):
    with pytest.raises(BundleError, match="no 'method'"):
        Calibration.from_dict(table)


def test_an_unknown_method_in_code():
    with pytest.raises(ConfigError, match="'platt'; expected one of none"):
        Calibration(method="platt")


def test_bad_logits_are_refused():
    with pytest.raises(DataError, match="NaN"):
        Calibration().apply(np.array([[np.nan, 0.0]]))
    with pytest.raises(ShapeError, match=r"logits\[None\]"):
        Calibration().apply(np.zeros(3))
