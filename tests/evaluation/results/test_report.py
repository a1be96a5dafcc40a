import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recog.core.errors import BundleError, DataError, ShapeError
from recog.core.files import pretty_json
from recog.evaluation.measures.counts import wilson_interval
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.read import parse_report
from recog.evaluation.results.report import no_evidence
from recog.evaluation.results.slices import slice_by_name

CLASSES = ("cat", "dog", "emu", "fox")
FACTS = DataFacts(
    name="pets",
    split="test",
    excluded=(("cat/broken.jpg", "truncated"),),
    num_seen_in_training=1,
    test_openings=2,
)
# Probabilities as odds, so that they can be read: row 0 says cat 7/10, dog 1/10, ...
ODDS = np.array([[7, 1, 1, 1], [2, 6, 1, 1], [1, 8, 1, 0.01], [1, 1, 1, 1], [1, 97, 1, 1], [1, 6, 1, 2]])
LABELS = np.array([0, 0, 1, 3, 3, 0])  # predicted: 0, 1, 1, 0 (a tie), 1, 1; no emu in truth
NAMES = tuple(f"{i}.jpg" for i in range(6))


def pets_report(**options):
    options = {"class_names": CLASSES, "names": NAMES, "data": FACTS} | options
    return evaluate(np.log(ODDS), LABELS, **options)


def test_by_hand():
    report = pets_report()
    assert (report.num_images, report.num_classes, report.num_correct, report.num_errors) == (6, 4, 2, 4)
    assert report.num_found == 7  # one was excluded
    assert report.accuracy == pytest.approx(2 / 6)
    assert report.accuracy_ci95 == wilson_interval(2, 6)
    assert report.confusion == ((1, 2, 0, 0), (0, 1, 0, 0), (0, 0, 0, 0), (1, 1, 0, 0))
    assert report.balanced_accuracy == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert report.largest_class_share == 0.5  # 3 cats of 6
    # -ln of 7/10, 2/10, 8/10.01, 1/4, 1/100, 1/10
    product = 0.7 * 0.2 * (8 / 10.01) * 0.25 * 0.01 * 0.1
    assert report.nll == pytest.approx(-math.log(product) / 6)
    assert report.absent_classes == ("emu",)
    assert report.num_absent_classes == 1
    assert report.never_predicted_classes == ("fox",)


def test_rows_by_hand():
    cat, dog, emu, fox = pets_report().classes
    assert (cat.name, cat.support, cat.num_predicted, cat.num_correct) == ("cat", 3, 2, 1)
    assert (cat.precision, cat.precision_ci95) == (0.5, wilson_interval(1, 2))
    assert (cat.recall, cat.recall_ci95) == (pytest.approx(1 / 3), wilson_interval(1, 3))
    assert cat.f1 == pytest.approx(2 / 5)  # 2 * 1 / (3 + 2)
    assert (dog.precision, dog.recall, dog.f1) == (0.25, 1.0, pytest.approx(2 / 5))
    assert (emu.support, emu.precision, emu.precision_ci95, emu.recall, emu.recall_ci95, emu.f1) == (
        0,
        *[None] * 5,
    )
    assert (fox.precision, fox.precision_ci95, fox.recall, fox.f1) == (None, None, 0.0, 0.0)


def test_errors_are_sorted_by_confidence():
    errors = pets_report().errors
    assert [error.name for error in errors] == ["4.jpg", "1.jpg", "5.jpg", "3.jpg"]  # 97 %, 60 %, 60 %, 25 %
    first = errors[0]
    assert (first.true_class, first.predicted_class) == ("fox", "dog")
    assert (first.confidence, first.true_class_prob) == (pytest.approx(0.97), pytest.approx(0.01))


def test_errors_are_bounded_and_still_counted():
    report = pets_report(max_errors=1)
    assert [error.name for error in report.errors] == ["4.jpg"]
    assert report.num_errors == 4


def test_json_is_plain_with_null_where_undefined():
    table = json.loads(pretty_json(pets_report().to_dict()))
    assert table["evidence"] == "evaluation"
    assert table["data"]["excluded"] == [{"name": "cat/broken.jpg", "reason": "truncated"}]
    assert (table["data"]["num_found"], table["num_images"]) == (7, 6)
    assert table["classes"][2] == {
        "name": "emu",
        "support": 0,
        "num_predicted": 0,
        "num_correct": 0,
        "precision": None,
        "precision_ci95": None,
        "recall": None,
        "recall_ci95": None,
        "f1": None,
        "f1_ci95": None,
        "specificity": 1.0,  # none of the 6 images of others is called emu
        "specificity_ci95": list(wilson_interval(6, 6)),
        "auroc": None,
        "auroc_ci95": None,
        "average_precision": None,
        "average_precision_ci95": None,
    }
    assert table["num_absent_classes"] == 1
    assert table["absent_classes"] == ["emu"]
    assert table["num_errors"] == 4
    assert 0 <= table["accuracy"] <= 1


def test_the_keys_of_report_json():
    assert list(pets_report().to_dict()) == [
        "format_version", "evidence", "task", "data", "calibration_method", "trust", "training", "num_images",
        "num_classes", "class_names", "accuracy", "accuracy_ci95", "balanced_accuracy", "matthews", "top_k", "nll", "brier",
        "ece", "ece_equal_mass", "classwise_ece", "auroc", "average_precision", "num_ranked_classes", "bootstrap",
        "macro", "weighted", "micro", "num_absent_classes", "absent_classes", "never_predicted_classes", "classes",
        "confusion", "reliability", "risk_coverage", "thresholds", "slices", "num_errors", "errors",
    ]  # fmt: skip


def test_round_trip():
    for report in (pets_report(), pets_report(max_errors=0), pets_report(data=DataFacts(name="x"))):
        assert parse_report(json.loads(pretty_json(report.to_dict()))) == report


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_round_trip_of_anything(num_images, num_classes, seed):
    rng = np.random.default_rng(seed)
    report = evaluate(
        rng.normal(0, 3, (num_images, num_classes)).astype(np.float32),
        rng.integers(0, num_classes, num_images),
        class_names=[f"class {i}" for i in range(num_classes)],
        names=[f"image {i}" for i in range(num_images)],
        data=DataFacts(name="random"),
    )
    assert parse_report(json.loads(pretty_json(report.to_dict()))) == report
    assert sum(map(sum, report.confusion)) == num_images
    assert report.weighted.recall == pytest.approx(report.accuracy)
    assert len(report.errors) == report.num_errors


def test_a_perfect_answer():
    report = evaluate(
        np.eye(2, dtype=np.float32) * 50,
        np.array([0, 1]),
        class_names=("a", "b"),
        names=("1", "2"),
        data=FACTS,
    )
    assert (report.accuracy, report.macro.f1, report.num_errors, report.errors) == (1.0, 1.0, 0, ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": NAMES[:5]}, "names has 5 entries for 6 images"),
        ({"names": ("0.jpg",) * 6}, "names holds '0.jpg' more than once"),
        ({"class_names": CLASSES[:3]}, "class_names has 3 entries for 4 classes"),
        ({"class_names": ("cat", "dog", "cat", "fox")}, "class_names holds 'cat' more than once"),
    ],
)
def test_names_that_do_not_fit(change, words):
    with pytest.raises(DataError, match=words):
        pets_report(**change)


def test_bad_logits_and_labels_are_refused():
    with pytest.raises(DataError, match="first in row 1"):
        evaluate(np.array([[0, 1], [np.nan, 0]]), LABELS, class_names=CLASSES, names=NAMES, data=FACTS)
    with pytest.raises(ShapeError, match="labels have shape"):
        evaluate(np.log(ODDS), LABELS[:3], class_names=CLASSES, names=NAMES, data=FACTS)


def test_no_evidence_says_so():
    table = no_evidence("the data has no test split")
    assert table["evidence"] == "none"
    with pytest.raises(BundleError, match="holds no evaluation: the data has no test split"):
        parse_report(json.loads(pretty_json(table)))


def test_a_newer_report_is_refused():
    table = pets_report().to_dict() | {"format_version": 2}
    with pytest.raises(BundleError, match="format_version 2; this release reads up to 1"):
        parse_report(table)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("accuracy", 0.99),
        ("accuracy_ci95", [0.9, 1.0]),
        ("num_images", 7),
        ("balanced_accuracy", None),
        ("absent_classes", []),
        ("matthews", 0.9),
        ("ece", 0.01),
        ("auroc", 0.99),
        ("num_ranked_classes", 4),
    ],
)
def test_a_report_that_contradicts_its_counts_is_refused(key, value):
    with pytest.raises(BundleError, match=f"disagrees with itself: its '{key}'"):
        parse_report(pets_report().to_dict() | {key: value})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format_version", None, "no format_version"),
        ("confusion", [[1, 2], [3]], "has another shape than the 4 x 4 of the classes"),
        ("confusion", [[0.5] * 4] * 4, r"report.json: confusion\[0\]\[0\] is a number; expected a whole number"),
        ("confusion", [[-1, 0, 0, 0], [0] * 4, [0] * 4, [2, 0, 0, 0]], "negative count"),
        ("confusion", [[0] * 4] * 4, "no image at all"),
        ("nll", math.inf, "report.json: nll is out of the range of numbers"),
        ("nll", "low", "report.json: nll is text; expected a number"),
        ("nll", -0.5, "'nll' is -0.5; it must lie between 0 and inf"),
        ("brier", 2.5, "'brier' is 2.5; it must lie between 0 and 2"),
        ("brier", None, "report.json: brier is null; expected a number"),
        ("classwise_ece", True, "report.json: classwise_ece is true or false; expected a number"),
        ("top_k", {"k": 5, "num_correct": 1}, "1 of 6 right, of which 2 come first"),
        ("top_k", {"k": 5}, "report.json: top_k.num_correct is missing"),
        ("bootstrap", {"num_resamples": 1, "seed": 0}, "report.json: bootstrap: balanced_accuracy_ci95 is missing"),
        ("bootstrap", 7, "report.json: bootstrap: the record is a whole number; expected an object"),
        ("reliability", [{"low": 0.0}], r"report.json: reliability: \[0\].high is missing"),
        ("thresholds", [{"confidence": 0.5, "num_automated": 9, "num_errors": 0}], "impossible counts"),
        ("slices", [{"by": "size", "slices": [{"name": "x", "num_images": 5, "num_correct": 2}]}], "every image once"),
        ("errors", [{"name": "x"}], r"report.json: errors\[0\].true_class is missing"),
        ("errors", None, "report.json: errors is null; expected a list"),
        ("data", {"name": "pets"}, "report.json: data: excluded is missing"),
        ("data", None, "report.json: data is null; expected an object"),
    ],
)
def test_a_damaged_report_is_refused(key, value, words):
    with pytest.raises(BundleError, match=words):
        parse_report(pets_report().to_dict() | {key: value})


def test_a_missing_key_is_named():
    table = pets_report().to_dict()
    del table["nll"]
    with pytest.raises(BundleError, match="report.json: nll is missing"):
        parse_report(table)


def test_scores_by_hand():
    report = pets_report()
    probs = ODDS / ODDS.sum(axis=1, keepdims=True)
    truth = np.eye(4)[LABELS]
    assert report.brier == pytest.approx(((probs - truth) ** 2).sum() / 6)
    # Two pairs share a bin: 0.6 (wrong) and 0.6 (wrong) of 9/15; all others lie alone. Their gaps add up.
    alone = abs(0.7 - 1) + abs(8 / 10.01 * 1 + 0 - 1) + 0.25 + 0.97
    assert report.ece == pytest.approx((alone + 1.2) / 6)
    assert report.scores.top_k is None  # four classes
    # Cats against the rest: 0.7, 0.2, 0.1 against 1/10.01, 0.25, 0.01: 3 + 2 + 2 of 9 pairs.
    assert report.classes[0].auroc == pytest.approx(7 / 9)
    assert report.classes[2].auroc is None
    assert report.num_ranked_classes == 3
    assert report.matthews == pytest.approx((2 * 6 - (3 * 2 + 1 * 4)) / math.sqrt((36 - 14) * (36 - 20)))
    assert [b.num_images for b in report.scores.reliability if b.num_images] == [1, 2, 1, 1, 1]
    assert report.scores.thresholds[0].num_errors == report.num_errors == 4


def test_top_five_of_six_classes():
    logits = np.log(np.tile(np.arange(6, 0, -1.0), (2, 1)))
    names = [str(i) for i in range(6)]
    report = evaluate(logits, np.array([4, 5]), class_names=names, names=("a", "b"), data=DataFacts(name="d"))
    assert report.scores.top_k is not None
    assert (report.scores.top_k.k, report.scores.top_k.accuracy) == (5, 0.5)
    assert report.to_dict()["top_k"]["accuracy_ci95"] == list(wilson_interval(1, 2))


def test_one_class_only():
    report = evaluate(
        np.log([[3.0, 1.0], [1.0, 3.0]]), np.array([1, 1]), class_names=("a", "b"), names=("1", "2"), data=FACTS
    )
    assert (report.matthews, report.auroc, report.num_ranked_classes) == (None, None, 0)
    assert report.classes[1].specificity is None
    assert report.classes[0].specificity == 0.5
    assert parse_report(json.loads(pretty_json(report.to_dict()))) == report


def test_slices_go_with_the_report():
    slicing = slice_by_name("source-folder", ["x", "x", "x", "y", "y", "y"], np.array([1, 0, 1, 0, 0, 0], dtype=bool))
    report = replace(pets_report(), slices=(slicing,))
    table = json.loads(pretty_json(report.to_dict()))
    assert table["slices"][0]["slices"][0] == {
        "name": "y", "num_images": 3, "num_correct": 0, "accuracy": 0.0,
        "accuracy_ci95": list(wilson_interval(0, 3)), "is_small": True,
    }  # fmt: skip
    assert parse_report(table) == report
