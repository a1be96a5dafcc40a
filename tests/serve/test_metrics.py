"""Counters, and what the evaluation found beside them."""

from __future__ import annotations

import json

import numpy as np

from recog.runtime.prediction import Prediction
from recog.serve.inference import Model
from recog.serve.metrics import Metrics


def prediction(probs, *, is_unknown=None):
    values = np.array(probs)
    return Prediction(
        name="",
        class_names=("a", "b"),
        probs=values,
        logits=np.log(values).astype(np.float32),
        preds=values == values.max(),
        is_unknown=is_unknown,
    )


def lines(text):
    rows = [line.rpartition(" ") for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


def test_counts():
    metrics = Metrics([])
    metrics.count("m", [prediction([0.75, 0.25]), prediction([0.5, 0.25], is_unknown=True), "it is empty"])
    metrics.count_batch("m", 3)
    found = lines(metrics.text())
    assert found['recog_images_total{model="m"}'] == 2
    assert found['recog_bad_images_total{model="m"}'] == 1
    assert found['recog_unknown_total{model="m"}'] == 1
    assert found['recog_confidence_sum_total{model="m"}'] == 1.25
    assert found['recog_predicted_total{label="a",model="m"}'] == 2
    assert found['recog_batch_images_bucket{le="2.0",model="m"}'] == 0
    assert found['recog_batch_images_bucket{le="4.0",model="m"}'] == 1


def test_a_model_that_is_not_loaded():
    found = lines(Metrics([Model("m", "nowhere", None)]).text())
    assert found['recog_model_ready{model="m"}'] == 0


def test_the_evaluation_stands_beside_them(service, golden):
    found = lines(service.get("/metrics").body)
    report = json.loads((golden / "report.json").read_text())
    row = report["classes"][3]
    key = f'recog_evaluation_class_share{{label="{row["name"]}",model="digits"}}'
    assert found[key] == row["num_predicted"] / report["num_images"]
    assert found['recog_evaluation_unknown_share{model="digits"}'] == report["trust"]["unknown"]["reject_rate"]
    bins = [b for b in report["reliability"] if b["num_images"]]
    mean = sum(b["num_images"] * b["mean_confidence"] for b in bins) / report["num_images"]
    assert abs(found['recog_evaluation_mean_confidence{model="digits"}'] - mean) < 1e-12
    assert found['recog_model_ready{model="digits"}'] == 1
