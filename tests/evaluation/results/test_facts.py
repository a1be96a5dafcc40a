import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest

from recog.core.errors import BundleError
from recog.evaluation.measures.counts import wilson_interval
from recog.evaluation.measures.probability import ece_equal_width, nll, softmax
from recog.evaluation.results.facts import (
    CrossValidation,
    TrainingFacts,
    measure_sets,
    measure_trust,
    measure_unknown,
    parse_training,
    parse_trust,
)
from recog.evaluation.trust.calibration import Calibration, CalibrationConfig, fit_calibration
from recog.evaluation.trust.unknown import LeftOut, fit_rule

FOUND = CrossValidation(
    num_images=40, smallest_class=9, num_folds=5, num_repeats=3, l2=0.1, accuracy=0.8, accuracy_std=0.02, nll=0.6
)
FACTS = TrainingFacts(
    network="resnet8",
    recipe="scratch",
    num_images=40,
    num_epochs=3,
    num_planned_epochs=5,
    best_epoch=2,
    num_steps=30,
    batch_size=4,
    balance="weights",
    balance_effect="it did this",
    class_weights=(0.5, 2.0),
    cross_validation=FOUND,
)


@pytest.mark.parametrize("found", [FOUND, None])
def test_round_trip_through_json(found):
    facts = dataclasses.replace(FACTS, cross_validation=found)
    assert parse_training(json.loads(json.dumps(facts.to_dict()))) == facts


def test_a_bundle_says_nothing_of_time():
    assert FACTS.to_dict()["duration_s"] is None
    assert FACTS.to_dict()["is_resumed"] is False


def test_a_report_of_no_training_has_none():
    assert parse_training(None) is None


def test_a_damaged_section_is_refused():
    with pytest.raises(BundleError, match="report.json: training: recipe is missing"):
        parse_training({"network": "resnet8"})
    with pytest.raises(BundleError, match="report.json: training: num_images is text; expected a whole number"):
        parse_training(FACTS.to_dict() | {"num_images": "many"})


def batch(num_images, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_images)
    return 3 * (rng.normal(0, 1, (num_images, 3)) + np.eye(3)[labels]), labels


def test_before_is_the_plain_softmax_and_the_fit_goes_along():
    calibration = fit_calibration(*batch(200, 0), CalibrationConfig(), data="val")
    logits, labels = batch(50, 1)
    trust = measure_trust(calibration, logits, labels)
    assert trust.scaling.nll_before == nll(logits, labels)
    assert trust.scaling.ece_before == ece_equal_width(softmax(logits), labels)
    assert trust.scaling.fit == calibration.scaling.fit
    assert parse_trust(json.loads(json.dumps(trust.to_dict()))) == trust


def test_sets_are_counted():
    sets = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 1]], dtype=bool)
    rule = fit_calibration(*batch(200, 0), CalibrationConfig(), data="val").sets
    evidence = measure_sets(rule, sets, np.array([0, 2, 2, 0]))
    assert (evidence.num_covered, evidence.num_images, evidence.sizes) == (2, 4, ((1, 2), (2, 1), (3, 1)))
    assert (evidence.coverage, evidence.mean_size) == (0.5, 1.75)
    assert evidence.coverage_ci95 == wilson_interval(2, 4)
    assert (evidence.num_calibration_images, evidence.num_own_classes, evidence.data) == (200, 0, "val")
    trust = replace(measure_trust(Calibration(), *batch(4, 0)), sets=evidence)
    assert parse_trust(json.loads(json.dumps(trust.to_dict()))) == trust


@pytest.mark.parametrize(("key", "value"), [("num_covered", 5), ("sizes", [[1, 3]]), ("num_images", 0)])
def test_impossible_set_counts_are_refused(key, value):
    sets = np.ones((4, 3), dtype=bool)
    rule = fit_calibration(*batch(200, 0), CalibrationConfig(), data="val").sets
    evidence = measure_sets(rule, sets, np.zeros(4, dtype=np.int64))
    table = replace(measure_trust(Calibration(), *batch(4, 0)), sets=evidence).to_dict()
    table["sets"][key] = value
    with pytest.raises(ValueError, match="impossible counts"):
        parse_trust(table)


def unknown_evidence():
    rule = fit_rule("energy", np.arange(40.0), false_alarm_rate=0.1, data="val", reason="as requested")
    rule = replace(rule, left_out=(LeftOut(method="energy", mean_auroc=0.9, min_auroc=0.8),), num_left_out=3)
    is_unknown = np.array([True, True, False, False])
    return measure_unknown(rule, is_unknown, np.array([True, False, False, True]))


def test_unknown_is_counted():
    evidence = unknown_evidence()
    assert (evidence.num_rejected, evidence.num_errors, evidence.num_rejected_errors) == (2, 2, 1)
    assert evidence.reject_rate == 0.5
    assert evidence.reject_rate_ci95 == wilson_interval(2, 4)
    trust = replace(measure_trust(Calibration(), *batch(4, 0)), unknown=evidence)
    assert parse_trust(json.loads(json.dumps(trust.to_dict()))) == trust


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_rejected", 5), ("num_images", 0), ("num_rejected_errors", 3), ("num_errors", 0)],
)
def test_impossible_unknown_counts_are_refused(key, value):
    table = replace(measure_trust(Calibration(), *batch(4, 0)), unknown=unknown_evidence()).to_dict()
    table["unknown"][key] = value
    with pytest.raises(ValueError, match="impossible counts"):
        parse_trust(table)


def test_a_plain_bundle_has_no_fit():
    assert measure_trust(Calibration(), *batch(5, 0)).scaling.fit is None


@pytest.mark.parametrize(("key", "value"), [("nll_before", -1.0), ("ece_before", 1.5), ("nll_before", float("nan"))])
def test_impossible_numbers_are_refused(key, value):
    table = measure_trust(Calibration(), *batch(5, 0)).to_dict()
    table["scaling"][key] = value
    with pytest.raises(ValueError, match="impossible"):
        parse_trust(table)


def test_a_number_of_another_kind_is_refused():
    table = measure_trust(Calibration(), *batch(5, 0)).to_dict()
    table["scaling"]["nll_before"] = "low"
    with pytest.raises(BundleError, match="report.json: trust: scaling.nll_before is text; expected a number"):
        parse_trust(table)
    table = replace(measure_trust(Calibration(), *batch(4, 0)), unknown=unknown_evidence()).to_dict()
    table["unknown"]["num_rejected"] = 1.5
    with pytest.raises(BundleError, match="report.json: trust: unknown.num_rejected is a number; expected a whole"):
        parse_trust(table)
