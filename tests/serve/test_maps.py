"""Maps of where images count, by the service: those of `Predictor.predict`, and only where they are asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from service import multipart, serving

from recog.runtime.predictor import load
from recog.serve.messages import Image, pack, unpack_from_worker
from recog.serve.worker import answer, read_image


@pytest.fixture(scope="module")
def both(golden, mapped_bundle):
    with serving(f"mapped={mapped_bundle}", f"plain={golden}", "--quiet") as running:
        yield running


@pytest.fixture(scope="module")
def explained(mapped_bundle, digits):
    return load(mapped_bundle).predict(digits[:3], explain=True)


def test_predict_with_explain(both, digits, explained):
    body, headers = multipart([("a.png", digits[0]), ("bad.png", b"<html>"), ("b.png", digits[1])])
    one, bad, other = both.request("POST", "/predict?explain=true", body, headers).json()["predictions"]
    assert bad.keys() == {"name", "error"}
    for found, expected in zip((one, other), explained, strict=False):
        assert list(found["maps"]) == [found["label"]] == list(expected.map_labels)
        np.testing.assert_allclose(found["maps"][found["label"]], expected.maps[0], atol=2e-5)
    (plain,) = both.predict(digits[0]).json()["predictions"]
    assert "maps" not in plain


def test_a_model_without_a_feature_map_refuses(both, digits):
    reply = both.predict(digits[0], "?model=plain&explain=true")
    assert reply.status == 400
    assert "the model 'plain' carries no feature map" in reply.json()["error"]


def test_the_models_tell_what_they_can(both, mapped_bundle):
    mapped, plain = both.request("GET", "/models").json()
    assert (mapped["has_maps"], plain["has_maps"]) == (True, False)
    rules = load(mapped_bundle).preprocess
    assert mapped["crop"] == {"mode": rules.crop_mode, "pct": rules.crop_pct, "height": 8, "width": 8}


def test_the_inference_protocol_gives_it_as_an_output(both, digits, explained):
    import base64

    grid = explained[0].maps.shape[1:]
    outputs = {row["name"]: row for row in both.request("GET", "/v2/models/mapped").json()["outputs"]}
    assert outputs["class_map"] == {"name": "class_map", "datatype": "FP32", "shape": [-1, *grid]}
    data = [base64.b64encode(image).decode() for image in digits[:3]]
    images = {"name": "image", "shape": [3], "datatype": "BYTES", "data": data}
    request = {"inputs": [images], "outputs": [{"name": "class_map"}]}
    (found,) = both.request("POST", "/v2/models/mapped/infer", json.dumps(request).encode()).json()["outputs"]
    assert found["shape"] == [3, *grid]
    expected = np.stack([prediction.maps[0] for prediction in explained])
    np.testing.assert_allclose(np.reshape(found["data"], found["shape"]), expected, atol=1e-5)
    everything = both.request("POST", "/v2/models/mapped/infer", json.dumps({"inputs": [images]}).encode()).json()
    assert "class_map" not in {row["name"] for row in everything["outputs"]}


def test_only_the_images_that_ask_get_one(mapped_bundle, digits):
    predictor = load(mapped_bundle)
    images = [read_image(predictor, Image(data, "x")) for data in (digits[0], b"bad", digits[1])]
    found = answer(predictor, 1, images, reject=False, explained=frozenset((1, 2)))
    assert unpack_from_worker(pack(found)[4:]) == found
    assert list(found.maps) == [2]
    assert not answer(predictor, 2, images, reject=False).maps
