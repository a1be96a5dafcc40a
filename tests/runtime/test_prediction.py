import json
from dataclasses import replace

import numpy as np

from recog.runtime.prediction import MultilabelPrediction, Prediction

CLASSES = ("dark", "middle", "bright")


def prediction_of(names, probs):
    preds = np.arange(len(probs)) == probs.argmax()
    logits = np.zeros(len(probs), np.float32)
    return Prediction(name="x", class_names=names, probs=probs, preds=preds, logits=logits)


def test_ties_go_by_class_order():
    probs = np.array([0.25, 0.375, 0.375])
    prediction = prediction_of(CLASSES, probs)
    assert prediction.label == "middle"
    assert [name for name, _ in prediction.top(3)] == ["middle", "bright", "dark"]


def test_many_ties_keep_class_order_too():
    """An unstable sort shows only above some 16 entries. Three levels in turn: 1, 2, 3, 1, 2, 3, ..."""
    names = tuple(f"class {i}" for i in range(300))
    probs = np.tile([1.0, 2.0, 3.0], 100) / 600
    prediction = prediction_of(names, probs)
    assert tuple(name for name, _ in prediction.top(300)) == names[2::3] + names[1::3] + names[0::3]


def test_predictions_are_equal_where_all_fields_are():
    dark, same, bright = (
        prediction_of(CLASSES, np.array(probs)) for probs in ([0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8])
    )
    assert dark == dark
    assert dark == same
    assert hash(dark) == hash(same)
    assert dark != bright
    assert dark != "a"
    assert {dark, same, bright} == {dark, bright}
    assert dark != replace(dark, in_set=np.ones(3, bool))
    assert dark != replace(dark, is_unknown=False)
    assert dark != replace(dark, probs=dark.probs + 1e-12)


def test_a_prediction_as_plain_values():
    answer = prediction_of(CLASSES, np.array([0.1, 0.2, 0.7]))
    table = answer.to_dict(top=2)
    assert json.loads(json.dumps(table)) == table
    assert (table["label"], table["confidence"]) == ("bright", answer.confidence)
    assert table["top"] == [{"label": label, "prob": prob} for label, prob in answer.top(2)]
    assert len(answer.to_dict()["top"]) == 3
    unknown = replace(answer, is_unknown=True, unknown_score=4.0).to_dict()
    assert (unknown["label"], unknown["confidence"], unknown["unknown_score"]) == ("unknown", None, 4.0)
    several = MultilabelPrediction(**vars(answer) | {"preds": np.array([True, False, True])}).to_dict()
    assert several["labels"] == ["bright", "dark"]
    assert several["probs"] == dict(zip(CLASSES, answer.probs.tolist(), strict=True))


def test_the_label_is_the_one_that_a_threshold_chose():
    chosen = replace(prediction_of(("good", "defect"), np.array([0.7, 0.3])), preds=np.array([False, True]))
    assert (chosen.label, chosen.labels, chosen.confidence) == ("defect", ("defect",), 0.3)
    assert chosen.top(2) == [("defect", 0.3), ("good", 0.7)]
    assert chosen.to_dict()["label"] == "defect"
