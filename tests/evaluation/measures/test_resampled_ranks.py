import numpy as np
import pytest
from sklearn import metrics

from recog.evaluation.measures.resampled_ranks import RankTable


def case(num_images=80, seed=0):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=num_images), 1)  # with ties
    return scores, rng.random(num_images) < 1 / (1 + np.exp(-scores))


def table_of(scores, is_own):
    return RankTable.of(scores, is_own, images=np.arange(len(scores)), num_images=len(scores))


def test_with_every_image_once_it_is_scikit_learns():
    scores, is_own = case()
    auroc, precision = table_of(scores, is_own).measures(np.ones((80, 1)))
    assert auroc[0] == pytest.approx(metrics.roc_auc_score(is_own, scores), abs=1e-12)
    assert precision[0] == pytest.approx(metrics.average_precision_score(is_own, scores), abs=1e-12)


def test_counts_are_weights():
    scores, is_own = case()
    counts = np.random.default_rng(1).integers(0, 4, (80, 5)).astype(float)
    auroc, precision = table_of(scores, is_own).measures(counts)
    for b in range(5):
        weighted = {"sample_weight": counts[:, b]}
        assert auroc[b] == pytest.approx(metrics.roc_auc_score(is_own, scores, **weighted), abs=1e-12)
        assert precision[b] == pytest.approx(metrics.average_precision_score(is_own, scores, **weighted), abs=1e-12)


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
    scores, is_own = case(60)
    images = np.repeat(np.arange(20), 3)
    counts = np.random.default_rng(2).integers(0, 3, (20, 1)).astype(float)
    auroc, _ = RankTable.of(scores, is_own, images=images, num_images=20).measures(counts)
    assert auroc[0] == pytest.approx(metrics.roc_auc_score(is_own, scores, sample_weight=counts[images, 0]), abs=1e-12)
