import json
from dataclasses import replace

import numpy as np
import pytest
from label_batches import FACTS, NAMES, label_report
from sklearn import metrics

from recog.core.errors import DataError
from recog.evaluation.measures.counts import wilson_interval
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.read import parse_report
from recog.evaluation.results.scores import probability_bins
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.thresholds import DecisionThreshold
from recog.report.brief import brief_lines
from recog.report.sections import trust_sections


def test_every_number_equals_scikit_learns():
    report, probs, said, shown = label_report()
    assert report.mean_average_precision == pytest.approx(metrics.average_precision_score(shown, probs), abs=1e-9)
    assert report.micro_average_precision == pytest.approx(
        metrics.average_precision_score(shown, probs, average="micro"), abs=1e-9
    )
    assert report.accuracy == pytest.approx(metrics.accuracy_score(shown, said), abs=1e-9)
    assert report.hamming_loss == pytest.approx(metrics.hamming_loss(shown, said), abs=1e-9)
    for average in ("macro", "micro", "weighted"):
        theirs = metrics.precision_recall_fscore_support(shown, said, average=average)[:3]
        means = getattr(report, average)
        assert (means.precision, means.recall, means.f1) == pytest.approx(theirs, abs=1e-9)
    for k, row in enumerate(report.classes):
        assert row.average_precision == pytest.approx(
            metrics.average_precision_score(shown[:, k], probs[:, k]), abs=1e-9
        )
        assert row.auroc == pytest.approx(metrics.roc_auc_score(shown[:, k], probs[:, k]), abs=1e-9)
        assert row.f1 == pytest.approx(metrics.f1_score(shown[:, k], said[:, k]), abs=1e-9)
        assert row.precision_ci95 == wilson_interval(row.num_correct, row.num_predicted)
        assert row.recall_ci95 == wilson_interval(row.num_correct, row.support)
    assert report.chance_map == pytest.approx(shown.mean())
    assert (report.nll_before, report.ece_before) == (report.nll, report.ece)  # nothing was fitted
    assert report.labels_per_image == pytest.approx((shown.sum(axis=1).mean(), said.sum(axis=1).mean()))
    assert (report.num_images, report.num_found) == (120, 121)


def test_the_wrong_images_say_what_was_missed_and_invented_the_worst_first():
    report, probs, said, shown = label_report()
    assert report.num_errors == len(report.errors) == (said != shown).any(axis=1).sum()
    surprises = [error.worst_surprise for error in report.errors]
    assert surprises == sorted(surprises, reverse=True)
    first = report.errors[0]
    i = int(first.name.partition(".")[0])
    assert {name for name, _ in first.missed} == {NAMES[k] for k in np.flatnonzero(shown[i] & ~said[i])}
    assert {name for name, _ in first.invented} == {NAMES[k] for k in np.flatnonzero(~shown[i] & said[i])}
    assert surprises[0] == pytest.approx(np.abs(probs[i] - shown[i])[shown[i] != said[i]].max())


def test_json_is_plain_and_says_its_task():
    report, *_ = label_report()
    table = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (table["task"], table["evidence"], table["num_images"]) == ("multilabel", "evaluation", 120)
    assert table["data"]["excluded"] == [{"name": "bad.png", "reason": "truncated"}]
    assert table["subset_accuracy"] == report.accuracy
    assert table["bootstrap"]["mean_average_precision_ci95"] == list(report.interval("mean_average_precision"))
    assert len(table["labels"]) == 4
    assert table["micro"]["f1"] == report.micro.f1


def test_an_absent_label_and_an_all_positive_one_have_no_average_precision():
    shown = np.random.default_rng(1).random((30, 4)) < 0.5
    shown[:, 0], shown[:, 1] = False, True
    report, *_ = label_report(30, shown=shown)
    boat, car = report.classes[:2]
    assert (boat.recall, boat.f1, boat.precision, boat.auroc, boat.average_precision) == (None,) * 5
    assert (car.specificity, car.auroc, car.average_precision) == (None,) * 3
    assert car.recall is not None
    assert report.absent_classes == ("boat",)
    assert report.num_ranked_classes == 2
    assert report.weak_thresholds == ("boat",)
    json.dumps(report.to_dict(), allow_nan=False)


def test_one_image_without_labels():
    report, *_ = label_report(1, shown=np.zeros((1, 4), bool))
    assert report.mean_average_precision is None
    assert report.chance_map is None
    table = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert table["macro"] == {"precision": None, "recall": None, "f1": None}


def test_bins_hold_every_pair_once_by_hand():
    bins = probability_bins(np.array([[0.2, 0.5], [0.9, 0.5]]), np.array([[True, False], [True, True]]), num_bins=2)
    assert [(b.num_pairs, b.num_shown) for b in bins] == [(3, 2), (1, 1)]  # 0.5 is the first bin's upper edge
    assert [b.mean_prob for b in bins] == pytest.approx([0.4, 0.9])


def test_without_thresholds_nothing_is_measured():
    with pytest.raises(DataError, match="no label thresholds"):
        evaluate(
            np.zeros((1, 2)),
            np.zeros((1, 2)),
            class_names=("a", "b"),
            names=["1"],
            data=FACTS,
            calibration=replace(Calibration()),
        )


def test_a_threshold_of_two_classes_counts_everywhere_and_leaves_the_probabilities():
    """Probabilities of class 1: 0.1, 0.3, 0.3, 0.6; from 0.2 on three are predicted, where the largest would be one."""
    probs, labels = np.array([[0.9, 0.1], [0.7, 0.3], [0.7, 0.3], [0.4, 0.6]]), np.array([0, 1, 0, 1])
    rule = DecisionThreshold(positive=1, threshold=0.2, aim="recall>=1")
    options = {"class_names": ("good", "defect"), "names": [*"abcd"], "data": FACTS}
    report = evaluate(np.log(probs), labels, calibration=Calibration(decision=rule), **options)
    assert report.confusion == ((1, 1), (0, 2))
    assert (report.accuracy, report.classes[1].recall, report.classes[1].precision) == (0.75, 1.0, 2 / 3)
    assert report.matthews == pytest.approx(metrics.matthews_corrcoef(labels, [0, 1, 1, 1]))
    (error,) = report.errors
    assert (error.name, error.predicted_class) == ("c", "defect")
    assert error.confidence == pytest.approx(0.3)  # that of the class predicted
    # confidences 0.9, 0.3, 0.3, 0.6; right, right, wrong, right: |0.9 - 1| + |0.6 - 1| + |0.3 + 0.3 - 1|, of 4
    assert report.ece == pytest.approx(0.9 / 4)
    assert report.trust.scaling.ece_before == pytest.approx(report.ece)
    plain = evaluate(np.log(probs), labels, **options)
    assert (report.nll, report.brier, report.auroc) == (plain.nll, plain.brier, plain.auroc)
    assert plain.confusion == ((2, 0), (1, 1))
    assert parse_report(json.loads(json.dumps(report.to_dict()))) == report
    assert any("defect is predicted above a probability of 0.2" in section.text for section in trust_sections(report))
    assert any(line.startswith("  threshold 0.2 for defect, recall>=1") for line in brief_lines(report))
