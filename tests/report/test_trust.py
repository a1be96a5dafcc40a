from dataclasses import replace

import numpy as np

from recog.evaluation.calibration import CalibrationConfig, fit_calibration
from recog.evaluation.report import DataFacts, evaluate
from recog.report.text import percent
from recog.report.trust import trust_sections


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
    assert "one temperature" in section.text
    assert "val; 200 images" in section.text


def test_without_a_fit_only_the_images_measured():
    report = report_with(CalibrationConfig(method="none"))
    section = trust_sections(report)[0]
    assert [row[0] for row in section.rows] == ["test, n = 60"]
    assert section.rows[0][1] == section.rows[0][2]
    assert "as asked for" in section.text


def test_an_older_report_has_none():
    assert trust_sections(replace(report_with(CalibrationConfig()), trust=None)) == []
