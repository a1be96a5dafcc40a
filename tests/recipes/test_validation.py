import numpy as np
import pytest
from sklearn import metrics

from recog.core.errors import TrainingError
from recog.recipes.events import ValScores, score_answers


def test_labels_give_accuracy_and_nll():
    scores = score_answers(np.array([[2.0, 0.0], [0.0, 2.0]], np.float32), np.array([0, 0]))
    assert scores.accuracy == 0.5
    assert scores.mean_average_precision is None
    assert scores.rank == (0.5, -scores.nll)


def test_several_labels_give_the_map_which_ranks_first():
    rng = np.random.default_rng(0)
    logits, shown = rng.normal(size=(40, 3)).astype(np.float32), rng.random((40, 3)) < 0.4
    scores = score_answers(logits, shown.astype(np.float32))
    assert (
        scores.selection
        == scores.mean_average_precision
        == pytest.approx(metrics.average_precision_score(shown, logits))
    )
    assert scores.accuracy == metrics.accuracy_score(shown, logits >= 0)
    probs = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert scores.nll == pytest.approx(np.mean([metrics.log_loss(shown[:, k], probs[:, k]) for k in range(3)]))
    assert ValScores(accuracy=0.1, nll=1.0, selection=0.9).rank > ValScores(accuracy=0.9, nll=1.0, selection=0.8).rank


def test_a_network_that_has_diverged_is_an_error():
    with pytest.raises(TrainingError, match="not finite"):
        score_answers(np.array([[np.nan, 0.0]], np.float32), np.array([0]))
