"""Expected values: a case worked by hand, and scikit-learn on random ones."""

import warnings
from math import log

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn import metrics

from recog.core.errors import DataError, ShapeError
from recog.evaluation.measures import counts as counts_of
from recog.evaluation.measures import multilabel as ours
from recog.evaluation.measures import probability
from recog.evaluation.measures.task import is_correct

# 4 images, 3 labels. Said at 0.5: [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]]
PROBS = np.array([[0.9, 0.2, 0.1], [0.6, 0.8, 0.3], [0.4, 0.3, 0.2], [0.2, 0.5, 0.4]])
TARGETS = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=np.float32)
SHOWN = TARGETS == 1
SAID = ours.decide(PROBS, np.full(3, 0.5))


def random_case(num_images=60, num_labels=5, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num_images, num_labels))
    if ties:
        logits = np.round(logits, 1)
    return logits, rng.random((num_images, num_labels)) < expit(0.8 * logits - 0.3)


class TestByHand:
    def test_decisions_take_the_threshold_itself(self):
        assert SAID.astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]]

    def test_counts_and_rates_with_a_label_that_no_image_shows(self):
        counts = counts_of.ClassCounts.of(SAID, SHOWN)
        assert (counts.num_correct.tolist(), counts.num_predicted.tolist(), counts.support.tolist()) == (
            [2, 1, 0],
            [2, 2, 0],
            [3, 1, 0],
        )
        np.testing.assert_allclose(counts.precision, [1, 1 / 2, np.nan])
        np.testing.assert_allclose(counts.recall, [2 / 3, 1, np.nan])
        np.testing.assert_allclose(counts.f1, [4 / 5, 2 / 3, np.nan])
        np.testing.assert_allclose(counts.specificity, [1, 2 / 3, 1])

    def test_means(self):
        counts = counts_of.ClassCounts.of(SAID, SHOWN)
        macro, micro, weighted = (
            counts_of.macro_mean(counts),
            counts_of.micro_mean(counts),
            counts_of.weighted_mean(counts),
        )
        assert (macro.precision, macro.recall) == pytest.approx((3 / 4, 5 / 6))
        assert macro.f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
        assert (micro.precision, micro.recall, micro.f1) == pytest.approx((3 / 4, 3 / 4, 3 / 4))
        assert weighted.recall == pytest.approx((3 * 2 / 3 + 1 * 1) / 4)

    def test_per_image(self):
        assert is_correct(SAID, SHOWN).tolist() == [True, True, False, False]
        assert ours.example_f1_terms(SAID, SHOWN).tolist() == [1, 1, 0, 0]
        nothing = np.zeros((1, 3), bool)
        assert ours.example_f1_terms(nothing, nothing).tolist() == [1]  # nothing to say, and nothing said
        # Image 1: its labels 1 and 0 come first, shares 1/1 and 2/2. Image 2: its label 0 comes first.
        assert ours.ranking_precision_terms(PROBS, SHOWN).tolist() == [1, 1, 1, 1]
        assert ours.ranking_precision_terms(PROBS[:, ::-1], SHOWN).tolist() == pytest.approx(
            [1 / 3, (1 / 1 + 2 / 3) / 2, 1 / 3, 1]  # image 1: label 1 comes first, label 0 third
        )

    def test_ranking(self):
        # Label 0 falls 0.9, 0.6, 0.4 | 0.2: all three first. Label 1: 0.8 first. Label 2 has no image.
        np.testing.assert_allclose(probability.average_precision(PROBS, SHOWN), [1, 1, np.nan])
        np.testing.assert_allclose(probability.auroc(PROBS, SHOWN), [1, 1, np.nan])
        assert ours.mean_average_precision(PROBS, SHOWN) == 1
        # All pairs fall 0.9+ 0.8+ 0.6+ 0.5 {0.4+ 0.4}: precision 1, 1, 1, and 4 of 6 at the last.
        assert ours.micro_average_precision(PROBS, SHOWN) == pytest.approx((1 + 1 + 1 + 4 / 6) / 4)

    def test_probabilities(self):
        assert ours.bce(np.zeros((2, 3)), SHOWN[:2]) == pytest.approx(log(2))
        assert ours.bce_terms(np.array([[log(3), -log(3)]]), np.array([[True, True]])).tolist()[0] == pytest.approx(
            [log(4 / 3), log(4)]
        )
        assert ours.bce(np.array([[1000.0, -1000.0]]), np.array([[False, False]])) == 500  # (1000 + 0) / 2, no overflow
        assert ours.label_brier_terms(PROBS[:1], SHOWN[:1])[0].tolist() == pytest.approx([0.01, 0.04, 0.01])
        # One bin over [0, 1]: mean probability 4.9 / 12, shown 4 / 12.
        assert ours.label_ece(PROBS, SHOWN, num_bins=1) == pytest.approx(0.9 / 12)


@pytest.mark.parametrize("seed", range(5))
def test_every_measure_equals_scikit_learns(seed):
    logits, shown = random_case(seed=seed)
    probs = ours.sigmoid(logits)
    np.testing.assert_allclose(probs, expit(logits), rtol=1e-15)
    said = ours.decide(probs, np.array([0.3, 0.4, 0.5, 0.6, 0.7]))
    counts = counts_of.ClassCounts.of(said, shown)
    for average, means in (
        ("macro", counts_of.macro_mean(counts)),
        ("micro", counts_of.micro_mean(counts)),
        ("weighted", counts_of.weighted_mean(counts)),
    ):
        theirs = metrics.precision_recall_fscore_support(shown, said, average=average, zero_division=0)[:3]
        assert (means.precision, means.recall, means.f1) == pytest.approx(theirs, abs=1e-9)
    per_label = metrics.precision_recall_fscore_support(shown, said, average=None, zero_division=0)[:3]
    for rates, theirs in zip((counts.precision, counts.recall, counts.f1), per_label, strict=True):
        np.testing.assert_allclose(rates, theirs, atol=1e-9)
    recall_of_absence = metrics.recall_score(~shown, ~said, average=None)
    np.testing.assert_allclose(counts.specificity, recall_of_absence, atol=1e-9)
    pairs = [
        (is_correct(said, shown).mean(), metrics.accuracy_score(shown, said)),
        (
            ours.example_f1_terms(said, shown).mean(),
            metrics.f1_score(shown, said, average="samples", zero_division=1),
        ),
        (
            ours.ranking_precision_terms(probs, shown).mean(),
            metrics.label_ranking_average_precision_score(shown, probs),
        ),
        (ours.mean_average_precision(probs, shown), metrics.average_precision_score(shown, probs, average="macro")),
        (ours.micro_average_precision(probs, shown), metrics.average_precision_score(shown, probs, average="micro")),
        (probability.auroc(probs, shown).mean(), metrics.roc_auc_score(shown, probs, average="macro")),
        (ours.bce(logits, shown), np.mean([metrics.log_loss(shown[:, k], probs[:, k]) for k in range(5)])),
        (
            ours.label_brier_terms(probs, shown).mean(),
            np.mean([metrics.brier_score_loss(shown[:, k], probs[:, k]) for k in range(5)]),
        ),
    ]
    for found, expected in pairs:
        assert found == pytest.approx(expected, abs=1e-9)


def test_the_ece_equals_that_of_two_classes_over_all_pairs():
    """An independent way: numpy.histogram, whose bins hold their lower edge; no probability here lies on an edge."""
    logits, shown = random_case(ties=False)
    probs = ours.sigmoid(logits)
    edges = np.linspace(0, 1, 16)
    num, _ = np.histogram(probs, edges)
    sums, _ = np.histogram(probs, edges, weights=probs)
    hits, _ = np.histogram(probs, edges, weights=shown.astype(float))
    assert ours.label_ece(probs, shown) == pytest.approx(np.abs(sums - hits).sum() / num.sum(), abs=1e-12)


class TestWhatHasNoValue:
    def test_all_positive_and_absent_labels_and_one_image(self):
        probs, shown = np.array([[0.7, 0.2]]), np.array([[True, False]])
        counts = counts_of.ClassCounts.of(ours.decide(probs, np.full(2, 0.5)), shown)
        np.testing.assert_equal(counts.specificity, [np.nan, 1.0])
        np.testing.assert_equal(counts.recall, [1.0, np.nan])
        assert np.isnan(ours.mean_average_precision(probs, shown))
        assert np.isnan(probability.auroc(probs, shown)).all()
        assert counts_of.macro_mean(counts).f1 == counts_of.micro_mean(counts).f1 == 1

    def test_means_leave_an_absent_label_out_as_scikit_learn_with_the_other_labels(self):
        logits, shown = random_case()
        shown[:, 2] = False
        probs = ours.sigmoid(logits)
        said = ours.decide(probs, np.full(5, 0.5))
        counts, present = counts_of.ClassCounts.of(said, shown), [0, 1, 3, 4]
        theirs = metrics.precision_recall_fscore_support(shown, said, labels=present, average="macro")[:3]
        means = counts_of.macro_mean(counts)
        assert (means.precision, means.recall, means.f1) == pytest.approx(theirs, abs=1e-9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            micro = metrics.precision_score(shown, said, average="micro")
        assert counts_of.micro_mean(counts).precision == pytest.approx(micro, abs=1e-9)
        expected = metrics.average_precision_score(shown[:, present], probs[:, present])
        assert ours.mean_average_precision(probs, shown) == pytest.approx(expected, abs=1e-9)

    def test_a_label_never_said_has_a_precision_of_0_in_the_mean(self):
        shown = np.array([[True, True], [True, False], [False, True]])
        said = np.array([[True, False], [True, False], [False, False]])
        counts = counts_of.ClassCounts.of(said, shown)
        assert np.isnan(counts.precision[1])
        assert (
            counts_of.macro_mean(counts).precision
            == 0.5
            == metrics.precision_score(shown, said, average="macro", zero_division=0)
        )

    def test_nothing_shown_and_nothing_said(self):
        nothing = np.zeros((3, 2), bool)
        counts = counts_of.ClassCounts.of(nothing, nothing)
        means = (counts_of.macro_mean(counts), counts_of.micro_mean(counts), counts_of.weighted_mean(counts))
        assert all(np.isnan([m.precision, m.recall, m.f1]).all() for m in means)
        assert is_correct(nothing, nothing).all()


@pytest.mark.parametrize(
    ("targets", "error", "says"),
    [
        (np.zeros((2, 3)), ShapeError, r"\(2, 3\); expected .* \(2, 2\)"),
        ([[0, 1], [1, 0]], ShapeError, "list"),
        (np.array([[0, 1], [2, 0]]), DataError, "row 1, column 0 is 2"),
        (np.array([[0, np.nan], [1, 0]]), DataError, "is nan"),
    ],
)
def test_targets_are_checked(targets, error, says):
    with pytest.raises(error, match=says):
        ours.check_targets(targets, 2, 2)


def test_logits_are_checked():
    with pytest.raises(DataError, match="NaN"):
        ours.sigmoid(np.array([[np.nan, 0.0]]))
    assert logit(ours.sigmoid(np.array([[0.3, -2.0]]))).tolist() == [pytest.approx([0.3, -2.0])]
