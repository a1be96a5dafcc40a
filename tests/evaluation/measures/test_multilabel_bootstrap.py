import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics

from recog.evaluation.measures.bootstrap import MEASURES, bootstrap_intervals
from recog.evaluation.measures.multilabel import bce_terms, decide
from recog.evaluation.measures.resampling import CLASS_MEASURES, resampled_counts


def case(num_images=80, num_labels=3, seed=0):
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(size=(num_images, num_labels)), 1)  # with ties
    shown = rng.random(logits.shape) < expit(logits - 1)
    probs = expit(logits)
    return logits, probs, decide(probs, np.full(num_labels, 0.4)), shown


def bootstrap_multilabel(logits, probs, _, shown, **options):
    thresholds = (0.4,) * probs.shape[1]
    return bootstrap_intervals(probs, shown, bce_terms(logits, shown).mean(axis=1), thresholds=thresholds, **options)


def naive(measure, num_resamples=60):
    """Gather each resample and ask scikit-learn."""
    logits, probs, said, shown = case()
    order = np.argsort(bce_terms(logits, shown).mean(axis=1), kind="stable")  # in which the images are resampled
    values = []
    for counts in resampled_counts(np.zeros(80, dtype=np.int64), num_resamples=num_resamples, seed=0):
        for drawn in counts.T.astype(int):
            rows = np.repeat(order, drawn)
            values.append(measure(shown[rows], said[rows], probs[rows]))
    return tuple(np.quantile(values, (0.025, 0.975)))


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("mean_average_precision", lambda t, d, p: metrics.average_precision_score(t, p)),
        ("macro_f1", lambda t, d, p: metrics.f1_score(t, d, average="macro")),
        ("micro_f1", lambda t, d, p: metrics.f1_score(t, d, average="micro")),
        ("micro_precision", lambda t, d, p: metrics.precision_score(t, d, average="micro")),
        ("micro_recall", lambda t, d, p: metrics.recall_score(t, d, average="micro")),
        ("hamming_loss", lambda t, d, p: metrics.hamming_loss(t, d)),
        ("example_f1", lambda t, d, p: metrics.f1_score(t, d, average="samples", zero_division=1)),
        ("ranking_average_precision", lambda t, d, p: metrics.label_ranking_average_precision_score(t, p)),
        ("nll", lambda t, d, p: np.mean([metrics.log_loss(t[:, k], p[:, k]) for k in range(3)])),
        ("brier", lambda t, d, p: np.square(p - t).mean()),
        ("auroc", lambda t, d, p: metrics.roc_auc_score(t, p)),
        ("micro_average_precision", lambda t, d, p: metrics.average_precision_score(t, p, average="micro")),
        ("macro_precision", lambda t, d, p: metrics.precision_score(t, d, average="macro")),
        ("macro_recall", lambda t, d, p: metrics.recall_score(t, d, average="macro")),
        ("weighted_precision", lambda t, d, p: metrics.precision_score(t, d, average="weighted")),
        ("weighted_recall", lambda t, d, p: metrics.recall_score(t, d, average="weighted")),
        ("weighted_f1", lambda t, d, p: metrics.f1_score(t, d, average="weighted")),
    ],
)
def test_each_interval_equals_that_of_gathered_resamples(name, measure):
    assert bootstrap_multilabel(*case(), num_resamples=60).intervals[name] == pytest.approx(naive(measure), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("f1", lambda t, d, p: metrics.f1_score(t[:, 1], d[:, 1])),
        ("auroc", lambda t, d, p: metrics.roc_auc_score(t[:, 1], p[:, 1])),
        ("average_precision", lambda t, d, p: metrics.average_precision_score(t[:, 1], p[:, 1])),
    ],
)
def test_each_label_has_intervals_of_its_own(name, measure):
    of_labels = bootstrap_multilabel(*case(), num_resamples=60).class_intervals[name]
    assert len(of_labels) == 3
    assert of_labels[1] == pytest.approx(naive(measure), abs=1e-9)


def test_the_ece_lies_in_its_interval_and_every_measure_has_one():
    intervals = bootstrap_multilabel(*case(), num_resamples=200).intervals
    assert set(intervals) == set(MEASURES["multilabel"])
    assert all(low < high for low, high in intervals.values())


def test_the_same_seed_gives_the_same_and_large_data_take_fewer():
    assert bootstrap_multilabel(*case(), num_resamples=50) == bootstrap_multilabel(*case(), num_resamples=50)
    other = bootstrap_multilabel(*case(), num_resamples=50, seed=1)
    assert other.intervals != bootstrap_multilabel(*case(), num_resamples=50).intervals


def test_an_absent_label_an_all_positive_one_and_a_single_image():
    _, probs, said, shown = case()
    shown[:, 0], shown[:, 1] = False, True
    boot = bootstrap_multilabel(np.log(probs / (1 - probs)), probs, said, shown, num_resamples=50)
    assert boot.intervals["mean_average_precision"] == boot.class_intervals["average_precision"][2]  # of label 2 alone
    assert [boot.class_intervals[name][0] for name in CLASS_MEASURES] == [None] * 3
    one = bootstrap_multilabel(
        np.array([[1.0, -1.0]]), expit([[1.0, -1.0]]), np.array([[True, False]]), np.array([[True, False]])
    )
    assert one.intervals["mean_average_precision"] is None
    assert one.intervals["nll"] is None


def test_the_order_of_the_images_does_not_matter():
    logits, probs, said, shown = case(num_images=60)
    logits = logits + np.random.default_rng(1).normal(0, 1e-3, logits.shape)  # without ties
    order = np.random.default_rng(2).permutation(60)
    first = bootstrap_multilabel(logits, expit(logits), said, shown, num_resamples=50)
    again = bootstrap_multilabel(logits[order], expit(logits[order]), said[order], shown[order], num_resamples=50)
    for name, interval in first.intervals.items():
        assert again.intervals[name] == pytest.approx(interval, abs=1e-12), name
