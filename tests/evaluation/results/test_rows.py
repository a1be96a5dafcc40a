import importlib

import numpy as np
import pytest

from recog.core.errors import MissingExtraError
from recog.evaluation.results.rows import ConfusionMatrix, Predictions

ONE = Predictions(
    task="multiclass",
    paths=("a.jpg", "b.jpg"),
    class_names=("cat", "dog"),
    is_class=np.array([[True, False], [True, False]]),
    preds=np.array([[True, False], [False, True]]),
    probs=np.array([[0.75, 0.25], [0.375, 0.625]]),
    in_set=np.array([[True, False], [True, True]]),
    is_unknown=np.array([False, True]),
)
SEVERAL = Predictions(
    task="multilabel",
    paths=("a.jpg",),
    class_names=("cat", "dog", "eel"),
    is_class=np.array([[True, True, False]]),
    preds=np.array([[True, True, False]]),
    probs=np.array([[0.5, 0.75, 0.25]]),
)


def test_image_by_image():
    first, second = ONE
    assert (first.path, first.true, first.predicted, first.is_correct) == ("a.jpg", ("cat",), ("cat",), True)
    assert (second.predicted, second.is_correct, second.label_set) == (
        ("dog",),
        False,
        ("dog", "cat"),
    )  # the likelier first
    assert (first.is_unknown, second.is_unknown, list(second.probs)) == (False, True, [0.375, 0.625])
    assert (len(ONE), ONE[-1].path, [result.path for result in ONE[:1]]) == (2, "b.jpg", ["a.jpg"])
    (only,) = SEVERAL
    assert (only.true, only.predicted, only.is_correct) == (("dog", "cat"), ("dog", "cat"), True)
    assert (only.label_set, only.is_unknown) == (None, None)
    assert repr(SEVERAL) == "Predictions(num_images=1, num_classes=3)"


def test_a_confusion_matrix_by_name_and_as_an_array():
    matrix = ConfusionMatrix(("cat", "dog"), np.array([[5, 1], [0, 4]]))
    assert (matrix["cat", "dog"], matrix["dog", "cat"]) == (1, 0)
    assert np.array_equal(np.asarray(matrix), [[5, 1], [0, 4]])


def test_tables_of_pandas():
    frame = ONE.to_dataframe()
    fields = ["path", "true", "predicted", "is_correct", "label_set", "is_unknown"]  # as of ImageResult
    assert list(frame.columns) == [*fields, "prob_cat", "prob_dog"]
    assert set(fields) < set(vars(ONE[0]))
    assert frame["true"].tolist() == ["cat", "cat"]
    assert frame["label_set"].tolist() == [["cat"], ["dog", "cat"]]
    assert frame.loc[frame["is_correct"], "path"].tolist() == ["a.jpg"]
    assert SEVERAL.to_dataframe()["true"].tolist() == [["dog", "cat"]]
    table = ConfusionMatrix(("cat", "dog"), np.array([[5, 1], [0, 4]])).to_dataframe()
    assert table.loc["cat", "dog"] == 1


def test_without_pandas_the_remedy_is_named(monkeypatch):
    def no_pandas(name):
        raise ModuleNotFoundError(name="pandas")

    monkeypatch.setattr(importlib, "import_module", no_pandas)
    with pytest.raises(MissingExtraError, match="this needs pandas.*pip install pandas"):
        ONE.to_dataframe()
