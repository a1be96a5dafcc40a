from dataclasses import replace

import numpy as np
import pytest

from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import CROSS_VALIDATED, DataFacts, SetEvidence, UnknownEvidence
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.scaling import TOO_FEW, UNBOUNDED, Scaling, ScalingFit
from recog.evaluation.trust.unknown import UnknownRule
from recog.report.notes import notes, notes_on_data

CALIBRATED = Calibration(scaling=Scaling(method="temperature", temperature=1.5))
CLEAN = DataFacts(name="d", split="test", num_seen_in_training=0, test_openings=1)


def report_of(labels, preds, num_classes, data=CLEAN, calibration=CALIBRATED):
    return evaluate(
        np.eye(num_classes)[preds] * 5,
        np.array(labels),
        class_names=[f"class {i}" for i in range(num_classes)],
        names=[f"{i}.jpg" for i in range(len(labels))],
        data=data,
        calibration=calibration,
    )


def good_report(data=CLEAN):
    labels = [0, 1] * 100
    return report_of(labels, labels, 2, data)  # 200 of 200: Wilson's interval is 98.1 to 100 %


def titles(report):
    return [note.title for note in notes(report)]


def test_a_good_evaluation_has_no_notes():
    assert notes(good_report()) == []


@pytest.mark.parametrize(
    ("facts", "title"),
    [
        ({"num_seen_in_selection": 200}, "200 of 200 images used in model selection and calibration"),
        ({"num_left_out_as_seen": 3}, "3 images not measured, because they were used to make the model"),
        ({"num_seen_in_training": 2}, "2 of 200 images used in training"),
        ({"num_seen_in_training": None}, "Overlap with the training data was not checked"),
        ({"test_openings": 3}, "The test split has been used 3 times"),
        ({"excluded": (("a.jpg", "truncated"),)}, "1 of 201 images could not be used"),
    ],
)
def test_each_fact_has_its_note(facts, title):
    data = DataFacts(**({"name": "d", "split": "test", "num_seen_in_training": 0, "test_openings": 1} | facts))
    assert titles(good_report(data)) == [title]


def test_sets_and_unknown_that_break_their_promise_have_their_numbers():
    """Of 200 images: Wilson's interval of 170 is 79.4 to 89.3 %, of 30 it is 10.7 to 20.6 %."""
    report = good_report()
    sets = SetEvidence(
        method="lac", alpha=0.05, data="val", num_calibration_images=90, num_own_classes=0, num_refused_classes=0,
        num_images=200, num_covered=170, sizes=((1, 200),),
    )  # fmt: skip
    rule = UnknownRule(
        method="energy", threshold=1.0, false_alarm_rate=0.05, num_images=90, data="val", reason="as requested"
    )
    unknown = UnknownEvidence(rule=rule, num_images=200, num_rejected=30, num_errors=0, num_rejected_errors=0)
    first, second = notes(replace(report, trust=replace(report.trust, sets=sets, unknown=unknown)))
    assert first.title.endswith("less often than promised: 85.0% of 200 images instead of 95.0%")
    assert first.text.startswith("95% interval 79.4-89.3%. These images differ from the 90 calibration images (val)")
    assert second.title == "15.0% of 200 images of known classes would be answered unknown instead of 5.0%"
    assert second.text.startswith("With --reject. 95% interval 10.7-20.6%. These images differ")
    kept = replace(report.trust, sets=replace(sets, num_covered=186), unknown=replace(unknown, num_rejected=14))
    assert notes(replace(report, trust=kept)) == []  # 93 % and 7 %, whose intervals include the promises


def test_answers_out_of_fold_are_called_so_and_not_seen_images():
    data = DataFacts(name="d", split=CROSS_VALIDATED, num_seen_in_training=200, num_seen_in_selection=200)
    assert titles(good_report(data)) == ["Cross-validated on all 200 images: no test split was measured"]


def test_warnings_come_before_what_is_for_information():
    """Three of four right: Wilson's interval is wide, a warning; that the overlap is not known is none."""
    found = notes(report_of([0, 0, 1, 1], [0, 0, 1, 0], 2, replace(CLEAN, num_seen_in_training=None)))
    assert [note.is_warning for note in found] == sorted((note.is_warning for note in found), reverse=True)
    assert {note.is_warning for note in found} == {True, False}


@pytest.mark.parametrize("split", ["train", "val", "test", None])
def test_what_a_split_is_called_says_nothing_of_its_images(split):
    facts = DataFacts(name="d", split=split, num_seen_in_training=0, num_seen_in_selection=0)
    assert titles(good_report(facts)) == []


@pytest.mark.parametrize(
    ("reason", "title", "is_warning"),
    [
        ("a temperature raises the cross-fitted ECE", "Confidences are used as they are", False),
        (UNBOUNDED, "Confidences could not be calibrated", True),
        (TOO_FEW, "Confidences could not be calibrated", True),
        ("as requested", "Confidences are not calibrated", False),
    ],
)
def test_confidences_that_are_not_calibrated_have_the_reason(reason, title, is_warning):
    fit = ScalingFit(
        data="val",
        reason=reason,
        num_images=9,
        num_folds=0,
        nll_before=1.0,
        nll_after=1.0,
        ece_before=0.1,
        ece_after=0.1,
    )
    labels = [0, 1] * 100
    (note,) = notes(report_of(labels, labels, 2, calibration=Calibration(scaling=Scaling(fit=fit))))
    assert (note.title, note.reason, note.is_warning) == (title, reason, is_warning)
    assert reason in note.text


def test_an_unknown_number_of_openings_is_not_a_warning():
    assert notes(good_report(DataFacts(name="d", num_seen_in_training=0, test_openings=None))) == []


def test_exclusions_are_listed_with_n_before_and_after():
    excluded = (("a.jpg", "truncated"), ("b.txt", "not an image"))
    (note,) = notes(good_report(DataFacts(name="d", num_seen_in_training=0, excluded=excluded)))
    assert note.items == excluded
    assert note.is_warning
    assert "n is 200 instead of 202" in note.text


def test_absent_and_never_predicted_classes_are_named():
    labels = [0] * 100 + [1] * 100
    report = report_of(labels, [0] * 200, 3)
    assert titles(report)[:2] == ["1 of 3 classes without an image here", "1 class never predicted"]
    assert notes(report)[0].text.startswith("class 2: precision, recall and F1 are undefined")
    assert notes(report)[1].text.startswith("class 1: recall and F1 are 0")


def test_few_images():
    # 15 of 20: Wilson's interval is 53.1 to 88.8 %, far wider than ten points.
    report = report_of([0, 1] * 10, [0, 1] * 5 + [0] * 10, 2)
    assert titles(report) == ["Small sample: 20 images", "All 2 classes have fewer than 20 of these images"]
    assert "53.1-88.8%" in notes(report)[0].text


def test_notes_on_several_labels():
    from label_batches import FACTS, label_report

    from recog.report.notes import notes

    shown = np.random.default_rng(1).random((30, 4)) < 0.5
    shown[:, 0], shown[:, 1] = False, True
    report, *_ = label_report(30, shown=shown, facts=FACTS)
    titles = [note.title for note in notes(report)]
    assert "1 of 4 labels without an image here" in titles
    assert "1 of 4 labels on every image here" in titles
    assert "1 threshold chosen on few images" in titles
    assert "1 of 31 images could not be used" in titles
    assert "Small sample: 30 images" in titles


def test_warnings_on_the_data_are_notes_too():
    remarks = (
        "pets: class folders, 9 images",
        "warning: label conflict: 1 image is under different classes, such as a and b",
        "warning: of 9 images 1 file is unusable and is left out; --bad-images error stops instead",
    )
    assert [(note.title, note.text) for note in notes_on_data(remarks)] == [
        ("Label conflict", "1 image is under different classes, such as a and b"),
        ("Of 9 images 1 file is unusable and is left out; --bad-images error stops instead", ""),
    ]
