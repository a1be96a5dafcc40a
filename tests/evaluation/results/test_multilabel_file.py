import json
from dataclasses import replace

import numpy as np
import pytest
from label_batches import label_report

from recog.core.errors import BundleError
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.read import parse_report
from recog.evaluation.results.report import MulticlassReport, MultilabelReport
from recog.evaluation.results.slices import slice_by_name


def table_of(report):
    return json.loads(json.dumps(report.to_dict(), allow_nan=False))


def test_a_report_survives_its_file():
    report, *_ = label_report()
    is_right = np.arange(120) < report.num_correct
    report = replace(report, slices=(slice_by_name("source-folder", ["a", "b"] * 60, is_right),))
    read = parse_report(table_of(report))
    assert isinstance(read, MultilabelReport)
    assert table_of(read) == table_of(report)
    assert read.classes == report.classes
    assert read.errors == report.errors


def test_one_without_a_single_label_survives_too():
    report, *_ = label_report(2, shown=np.zeros((2, 4), bool))
    assert table_of(parse_report(table_of(report))) == table_of(report)


def test_a_report_of_one_class_an_image_is_read_as_such():
    report = evaluate(np.eye(2), np.array([0, 1]), class_names=("a", "b"), names=["1", "2"], data=DataFacts(name="d"))
    assert isinstance(parse_report(table_of(report)), MulticlassReport)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t["labels"][0].update(precision=0.999), "its 'labels' does not follow"),
        (lambda t: t["macro"].update(f1=1.0), "its 'macro' does not follow"),
        (lambda t: t.update(subset_accuracy=1.0), "its 'subset_accuracy' does not follow"),
        (lambda t: t.update(mean_average_precision=1.0), "its 'mean_average_precision' does not follow"),
        (lambda t: t["labels"][0].update(num_correct=1000), "impossible counts"),
        (lambda t: t["labels"][0].update(auroc=1.5), "must lie between 0 and 1"),
        (lambda t: t.update(num_subset_correct=500), "negative count, or no image"),
        (lambda t: t["bootstrap"].update(nll_ci95=[2, 1]), "lower and its upper"),
        (lambda t: t.pop("hamming_loss"), "its 'hamming_loss' does not follow"),
        (lambda t: t.pop("labels"), "report.json: labels is missing"),
        (lambda t: t.update(format_version=99), "reads up to"),
        (lambda t: t.update(evidence="none"), "holds no evaluation"),
    ],
)
def test_a_changed_file_is_refused(change, says):
    table = table_of(label_report()[0])
    change(table)
    with pytest.raises(BundleError, match=says):
        parse_report(table)
