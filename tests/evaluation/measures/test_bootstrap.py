import numpy as np
import pytest
from batches import quiet
from sklearn import metrics as oracle

from recog.evaluation.measures import bootstrap, resampling
from recog.evaluation.measures.bootstrap import MEASURES as ALL_MEASURES
from recog.evaluation.measures.bootstrap import RankTable, bootstrap_intervals, resample_measures
from recog.evaluation.measures.probability import (
    classwise_ece,
    confidence_of,
    ece_equal_mass,
    ece_equal_width,
    equal_mass_bins,
    reliability_gaps,
    softmax,
)
from recog.evaluation.measures.resampling import CLASS_MEASURES, resampled_counts

MEASURES = ALL_MEASURES["multiclass"]


def sample(num_images, num_classes=4, *, sharpness=1.0, seed=0, ties=False):
    """(probs, labels, nll_terms): logits are normal around 1.5 at the truth, so `sharpness` 1 is calibrated by Bayes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % num_classes
    logits = 1.5 * (rng.normal(0, 1, (num_images, num_classes)) + 1.5 * np.eye(num_classes)[labels])
    probs = softmax(sharpness * (logits.round() if ties else logits))
    return probs, labels, -np.log(probs[np.arange(num_images), labels])


@pytest.mark.parametrize("ties", [False, True])
def test_each_resample_equals_scikit_learn_on_the_images_drawn(ties):
    probs, labels, nll_terms = sample(60, ties=ties)
    labels[:7] = 0  # uneven classes
    nll_terms = -np.log(probs[np.arange(60), labels])
    order = np.lexsort((nll_terms, labels))
    (counts,) = resampled_counts(labels[order], num_resamples=5, seed=3)
    resampled = resample_measures(probs, labels, nll_terms, num_resamples=5, seed=3)
    for r in range(5):
        drawn = np.repeat(order, counts[:, r].astype(int))
        p, y = probs[drawn], labels[drawn]
        preds = p.argmax(axis=1)
        with quiet():
            expected = {
                "balanced_accuracy": oracle.balanced_accuracy_score(y, preds),
                "macro_precision": oracle.precision_score(y, preds, average="macro", zero_division=0),
                "macro_f1": oracle.f1_score(y, preds, average="macro"),
                "weighted_precision": oracle.precision_score(y, preds, average="weighted", zero_division=0),
                "weighted_f1": oracle.f1_score(y, preds, average="weighted"),
                "matthews": oracle.matthews_corrcoef(y, preds),
                "nll": oracle.log_loss(y, p),
                "brier": oracle.brier_score_loss(y, p, scale_by_half=False),
                "auroc": oracle.roc_auc_score(y, p, multi_class="ovr"),
                "average_precision": oracle.average_precision_score(np.eye(4)[y], p),
            }
            of_classes = {
                "f1": oracle.f1_score(y, preds, average=None),
                "auroc": oracle.roc_auc_score(np.eye(4)[y], p, average=None),
                "average_precision": oracle.average_precision_score(np.eye(4)[y], p, average=None),
            }
        assert set(expected) | set(resampled.gaps) == set(MEASURES)
        for name, value in expected.items():
            assert resampled.values[name][r] == pytest.approx(value, abs=1e-9), name
        for name in CLASS_MEASURES:
            assert resampled.class_values[name][:, r] == pytest.approx(of_classes[name], abs=1e-9), name
        gaps = {name: values[:, r] for name, values in resampled.gaps.items()}
        assert gaps["ece"] == pytest.approx(reliability_gaps(p, y), abs=1e-12)
        assert np.abs(gaps["classwise_ece"]).sum() == pytest.approx(classwise_ece(p, y), abs=1e-12)
        confidence, is_correct = confidence_of(p, y)
        bins = equal_mass_bins(confidence_of(probs, labels)[0])[drawn]  # those of the whole sample
        expected_gaps = [(confidence - is_correct)[bins == b].sum() / 60 for b in range(15)]
        assert gaps["ece_equal_mass"] == pytest.approx(expected_gaps, abs=1e-12)


def test_chance_is_counted(monkeypatch):
    probs, labels, nll_terms = sample(50)
    whole = bootstrap_intervals(probs, labels, nll_terms, num_resamples=40)
    monkeypatch.setattr(resampling, "_CHUNK_COUNTS", 350)  # seven resamples at a time
    assert bootstrap_intervals(probs, labels, nll_terms, num_resamples=40) == whole
    assert bootstrap_intervals(probs, labels, nll_terms, num_resamples=40, seed=1) != whole


def test_first_order_auroc_of_many_classes_is_close(monkeypatch):
    probs, labels, nll_terms = sample(2000, 5)
    exact = resample_measures(probs, labels, nll_terms, num_resamples=200, seed=0).values["auroc"]
    monkeypatch.setattr(bootstrap, "_MAX_RANK_WORK", 0)
    nearly = resample_measures(probs, labels, nll_terms, num_resamples=200, seed=0).values["auroc"]
    assert np.abs(nearly - exact).max() < 0.03 * (exact.max() - exact.min())


def test_intervals_hold_the_values_and_narrow_with_n():
    widths = []
    for n in (200, 20_000):
        intervals = bootstrap_intervals(*sample(n))
        assert (intervals.num_resamples, intervals.seed) == (1000, 0)
        widths.append([high - low for low, high in (intervals.intervals[name] for name in MEASURES[:5])])
    assert np.array(widths[0]) / np.array(widths[1]) == pytest.approx(10, rel=0.25)  # the root of 100


@pytest.mark.parametrize("labels", [np.array([0, 1, 0, 1]), np.array([0, 0, 0, 0])])
def test_what_does_not_vary_has_no_interval(labels):
    probs = np.eye(2)[labels]
    intervals = bootstrap_intervals(probs, labels, np.zeros(4), num_resamples=50)
    assert all(intervals.intervals[name] is None for name in MEASURES)


def test_a_class_that_is_absent_has_no_interval_and_no_part_in_a_mean():
    probs, labels, nll_terms = sample(200)
    labels = np.where(labels == 3, 2, labels)
    boot = bootstrap_intervals(probs, labels, nll_terms, num_resamples=50)
    assert all(boot.intervals.values())
    for name in CLASS_MEASURES:
        assert [interval is None for interval in boot.class_intervals[name]] == [False, False, False, True]


def test_what_would_take_too_long_is_left_out(monkeypatch):
    monkeypatch.setattr(bootstrap, "_MAX_RANK_WORK", 0)
    monkeypatch.setattr(bootstrap, "_MAX_CLASSWISE", 3)
    boot = bootstrap_intervals(*sample(100), num_resamples=50)
    assert {name for name, interval in boot.intervals.items() if interval is None} == {
        "average_precision",
        "classwise_ece",
    }
    assert (len(boot.class_intervals["f1"]), boot.class_intervals["auroc"]) == (4, ())


@pytest.mark.slow
@pytest.mark.parametrize("sharpness", [1.0, 2.0])
def test_coverage_by_simulation(sharpness):
    """Of 300 samples of 500 images, how many intervals hold the value of 2,000,000 images. Bars: 95 % less 4.5 sigma.

    Sharpness 1 is calibrated: its true ECE is 0, where percentiles of the ECE hold the truth in none of the samples.
    """
    probs, labels, nll_terms = sample(2_000_000, sharpness=sharpness, seed=999)
    preds = probs.argmax(axis=1)
    truth = {
        "nll": nll_terms.mean(),
        "brier": oracle.brier_score_loss(labels, probs, scale_by_half=False),
        "balanced_accuracy": (preds == labels).mean(),  # the classes are even
        "macro_f1": oracle.f1_score(labels, preds, average="macro"),
        "matthews": oracle.matthews_corrcoef(labels, preds),
        "ece": 0.0 if sharpness == 1 else ece_equal_width(probs, labels),
        "ece_equal_mass": 0.0 if sharpness == 1 else ece_equal_mass(probs, labels),
        "classwise_ece": 0.0 if sharpness == 1 else classwise_ece(probs, labels),
        "auroc": oracle.roc_auc_score(labels[:200_000], probs[:200_000], multi_class="ovr"),
        "average_precision": oracle.average_precision_score(np.eye(4)[labels[:200_000]], probs[:200_000]),
    }
    names = tuple(truth)
    covered = dict.fromkeys(names, 0)
    for seed in range(300):
        intervals = bootstrap_intervals(*sample(500, sharpness=sharpness, seed=seed), num_resamples=400, seed=seed)
        for name in names:
            low, high = intervals.intervals[name]
            covered[name] += low <= truth[name] <= high
    for name in names:
        assert covered[name] / 300 > 0.95 - 4.5 * (0.95 * 0.05 / 300) ** 0.5, (name, covered)
    print(sharpness, covered)


def scored(num_images=80, seed=0):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=num_images), 1)  # with ties
    return scores, rng.random(num_images) < 1 / (1 + np.exp(-scores))


def table_of(scores, is_own):
    return RankTable.of(scores, is_own, images=np.arange(len(scores)), num_images=len(scores))


def test_with_every_image_once_it_is_scikit_learns():
    scores, is_own = scored()
    auroc, precision = table_of(scores, is_own).measures(np.ones((80, 1)))
    assert auroc[0] == pytest.approx(oracle.roc_auc_score(is_own, scores), abs=1e-12)
    assert precision[0] == pytest.approx(oracle.average_precision_score(is_own, scores), abs=1e-12)


def test_counts_are_weights():
    scores, is_own = scored()
    counts = np.random.default_rng(1).integers(0, 4, (80, 5)).astype(float)
    auroc, precision = table_of(scores, is_own).measures(counts)
    for b in range(5):
        weighted = {"sample_weight": counts[:, b]}
        assert auroc[b] == pytest.approx(oracle.roc_auc_score(is_own, scores, **weighted), abs=1e-12)
        assert precision[b] == pytest.approx(oracle.average_precision_score(is_own, scores, **weighted), abs=1e-12)


def test_by_hand():
    # own 0.9 and 0.5, others 0.7 and 0.5: of 4 pairs 0.9 wins 2, 0.5 loses to 0.7 and ties: 2.5 of 4; the own images come with
    # precision 1 of 1 and, the equal other entering too, 2 of 4
    auroc, precision = table_of(np.array([0.9, 0.5, 0.7, 0.5]), np.array([True, True, False, False])).measures(
        np.ones((4, 1))
    )
    assert (auroc[0], precision[0]) == (2.5 / 4, (1 + 2 / 4) / 2)


@pytest.mark.parametrize("is_own", [np.zeros(3, dtype=bool), np.ones(3, dtype=bool)])
def test_without_own_or_others_there_is_no_value(is_own):
    auroc, precision = table_of(np.array([0.1, 0.2, 0.3]), is_own).measures(np.ones((3, 2)))
    assert np.isnan([auroc, precision]).all()


def test_pairs_of_one_image_are_drawn_together():
    scores, is_own = scored(60)
    images = np.repeat(np.arange(20), 3)
    counts = np.random.default_rng(2).integers(0, 3, (20, 1)).astype(float)
    auroc, _ = RankTable.of(scores, is_own, images=images, num_images=20).measures(counts)
    assert auroc[0] == pytest.approx(oracle.roc_auc_score(is_own, scores, sample_weight=counts[images, 0]), abs=1e-12)


@pytest.mark.parametrize(("num_images", "num_classes"), [(24, 12), (60, 20), (300, 30)])
def test_every_interval_contains_its_estimate(num_images, num_classes):
    """Classwise ECE has many small bins, whose gaps are chance: the plausible true values lie below the estimate."""
    for seed in range(3):
        probs, labels, nll_terms = sample(num_images, num_classes, seed=seed)
        found = bootstrap_intervals(probs, labels, nll_terms, num_resamples=200)
        own = resample_measures(probs, labels, nll_terms, num_resamples=2, seed=0)
        estimates = {name: values[0] for name, values in own.sample_values.items()}
        estimates |= {name: np.abs(gaps).sum() for name, gaps in own.sample_gaps.items()}
        assert estimates["classwise_ece"] == pytest.approx(classwise_ece(probs, labels))
        assert estimates["nll"] == pytest.approx(nll_terms.mean())
        for name, interval in found.intervals.items():
            assert interval is None or interval[0] <= estimates[name] + 1e-12, name
            assert interval is None or interval[1] >= estimates[name] - 1e-12, name
        for name, of_classes in found.class_intervals.items():
            for k, interval in enumerate(of_classes):
                own_value = own.sample_class_values[name][k, 0]
                assert interval is None or interval[0] <= own_value <= interval[1]
