from dataclasses import replace

import numpy as np

from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts, measure_sets, measure_unknown
from recog.evaluation.trust.calibration import CalibrationConfig, fit_calibration
from recog.evaluation.trust.unknown import LeftOut, fit_rule
from recog.report.sections import trust_sections
from recog.report.text import percent


def batch(num_images, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_images)
    return 3 * (rng.normal(0, 1, (num_images, 3)) + np.eye(3)[labels]), labels


def report_with(config):
    logits, labels = batch(60, 1)
    return evaluate(
        logits,
        labels,
        class_names=("a", "b", "c"),
        names=[str(i) for i in range(60)],
        data=DataFacts(name="made", split="test"),
        calibration=fit_calibration(*batch(200, 0), config, data="val"),
    )


def test_calibration_before_and_after_with_its_n():
    report = report_with(CalibrationConfig())
    section = trust_sections(report)[0]
    fit = report.trust.scaling.fit
    assert section.columns == ("Images", "NLL before", "after", "ECE before", "after")
    before = report.trust.scaling
    fitted = [f"{fit.nll_before:.3f}", f"{fit.nll_after:.3f}", percent(fit.ece_before), percent(fit.ece_after)]
    here = [f"{before.nll_before:.3f}", f"{report.nll:.3f}", percent(before.ece_before), percent(report.ece)]
    assert section.rows == (("cross-validated, n = 200", *fitted), ("test, n = 60", *here))
    assert "a temperature" in section.text
    assert "val; 200 images" in section.text


def test_without_a_fit_only_the_images_measured():
    report = report_with(CalibrationConfig(method="none"))
    section = trust_sections(report)[0]
    assert [row[0] for row in section.rows] == ["test, n = 60"]
    assert section.rows[0][1] == section.rows[0][2]
    assert "as requested" in section.text


def test_sets_with_their_coverage_and_sizes():
    report = report_with(CalibrationConfig())
    rule = fit_calibration(*batch(700, 0), CalibrationConfig(class_conditional=True, alpha=0.1), data="val").sets
    sets = np.zeros((60, 3), dtype=bool)
    sets[:, 0] = True
    sets[:12] = True
    labels = np.zeros(60, dtype=np.int64)
    labels[40:] = 1
    with_sets = replace(report, trust=replace(report.trust, sets=measure_sets(rule, sets, labels)))
    section = trust_sections(with_sets)[1]
    assert section.rows[0][:2] == ("Coverage of the true class", "66.7%")
    assert section.rows[1] == ("Mean set size", "1.40", "")
    assert section.rows[2:] == (("Sets of 1 class", "80.0%", "48 images"), ("Sets of 3 classes", "20.0%", "12 images"))
    assert "at least 90.0% of images like the 700 calibration images (val)" in section.text
    assert "never empty" in section.text
    assert "Coverage holds within each of 3 classes" in section.text


def test_refused_classes_are_named_with_the_reason():
    report = report_with(CalibrationConfig())
    rule = fit_calibration(*batch(100, 0), CalibrationConfig(class_conditional=True), data="val").sets
    evidence = measure_sets(rule, np.ones((60, 3), dtype=bool), np.zeros(60, dtype=np.int64))
    text = trust_sections(replace(report, trust=replace(report.trust, sets=evidence)))[1].text
    assert "3 classes have fewer than 200 calibration images" in text


def test_unknown_with_its_rates_and_the_scores_compared():
    report = report_with(CalibrationConfig())
    rule = fit_rule("energy", np.arange(40.0), false_alarm_rate=0.05, data="val", reason="the highest AUROC")
    rows = (
        LeftOut(method="energy", mean_auroc=0.9, min_auroc=0.8),
        LeftOut(method="knn", mean_auroc=0.7, min_auroc=0.6),
    )
    is_unknown = np.arange(60) < 6
    evidence = measure_unknown(replace(rule, left_out=rows, num_left_out=3), is_unknown, np.arange(60) >= 15)
    (section,) = trust_sections(replace(report, trust=replace(report.trust, sets=None, unknown=evidence)))[1:]
    assert section.rows[0][:2] == ("Known classes answered unknown", "10.0%")
    assert section.rows[0][2].startswith("6 of 60; 95%")
    assert section.rows[1] == ("Accuracy of the other images", "83.3%", "45 of 54")
    assert section.rows[2] == ("AUROC, energy", "0.900", "lowest class 0.800")
    assert section.rows[3][0] == "AUROC, k-NN distance"
    assert "5.0% false alarms on images like the 40 calibration images (val)" in section.text
    assert "3 classes left out in turn" in section.text
