import numpy as np
import pytest

from recog.core.errors import DataError, ShapeError
from recog.core.task import TASKS
from recog.evaluation.measures.task import TASK_MEASURES, is_correct, task_of

MULTICLASS, MULTILABEL = TASK_MEASURES["multiclass"], TASK_MEASURES["multilabel"]


def test_every_task_has_its_object():
    assert tuple(TASK_MEASURES) == TASKS
    assert all(measures.task == task for task, measures in TASK_MEASURES.items())


def test_targets_say_their_task_and_the_classes_of_each_image():
    labels = MULTICLASS.targets([(1,), (0,)], 3)
    several = MULTILABEL.targets([(0, 2), ()], 3)
    assert (task_of(labels), task_of(several)) == (MULTICLASS, MULTILABEL)
    assert MULTICLASS.is_class(labels, 2, 3).tolist() == [[False, True, False], [True, False, False]]
    assert MULTILABEL.is_class(several, 2, 3).tolist() == [[True, False, True], [False, False, False]]


@pytest.mark.parametrize("targets", [np.array([0, 3]), np.array([0.5, 1.0]), np.array([0])])
def test_labels_outside_the_classes_or_of_another_shape_are_refused(targets):
    with pytest.raises((DataError, ShapeError)):
        MULTICLASS.is_class(targets, 2, 3)


def test_predictions_by_hand():
    probs = np.array([[0.4, 0.4, 0.2], [0.1, 0.2, 0.7]])
    assert MULTICLASS.preds(probs).tolist() == [[True, False, False], [False, False, True]]  # among equals the first
    assert MULTILABEL.preds(probs).tolist() == [[False, False, False], [False, False, True]]
    assert MULTILABEL.preds(probs, (0.4, 0.5, 0.2)).tolist() == [[True, False, True], [False, False, True]]


def test_probabilities_of_the_truth_by_hand():
    probs = np.array([[0.5, 0.3, 0.2]])
    assert MULTICLASS.truth_probs(probs, np.array([[False, True, False]])).tolist() == [0.3]
    # of the truths (no, yes, no) with 0.5, 0.3 and 0.8 the least
    assert MULTILABEL.truth_probs(probs, np.array([[False, True, False]])).tolist() == [0.3]
    assert MULTILABEL.truth_probs(probs, np.array([[False, False, True]])).tolist() == [0.2]


def test_scores_by_hand():
    logits = np.array([[2.0, 0.0], [0.0, 2.0]])
    assert MULTICLASS.accuracy(logits, np.array([0, 0])) == MULTICLASS.selection_score(logits, np.array([0, 0])) == 0.5
    assert MULTICLASS.confusion(logits, np.array([0, 0])).tolist() == [[1, 1], [0, 0]]
    assert MULTICLASS.mean_average_precision(logits, np.array([0, 0])) is None
    several = np.array([[1, 0], [0, 1]], np.float32)
    assert MULTILABEL.accuracy(logits, several) == 0.0  # a logit of 0 is a probability of 0.5, which predicts
    assert MULTILABEL.selection_score(logits, several) == 1.0  # each label's own image comes first
    assert MULTILABEL.mean_average_precision(logits, np.ones((2, 2))) is None
    # log(1 + e^-2) for the shown, log 2 for the other
    assert MULTILABEL.nll(logits, several) == pytest.approx((np.log1p(np.exp(-2)) + np.log(2)) / 2)
    assert MULTICLASS.nll(logits, np.array([0, 1])) == pytest.approx(np.log1p(np.exp(-2)))


def test_right_is_an_image_with_exactly_its_classes():
    preds = np.array([[True, False], [True, True], [False, False]])
    assert is_correct(preds, np.array([[True, False], [True, False], [False, False]])).tolist() == [True, False, True]
