"""Routes over real HTTP: the same answers as in Python, several images, several models, errors without internals."""

from __future__ import annotations

import numpy as np
import pytest
from service import GOLDEN, multipart, serving

from recog.serve.app import Service, build_app
from recog.serve.config import ServeConfig


def assert_same(answer, prediction):
    probs = {row["label"]: row["prob"] for row in answer["top"]}
    assert list(probs.values()) == sorted(probs.values(), reverse=True)
    known = [probs[name] for name in prediction.class_names]
    np.testing.assert_allclose(known, prediction.probs, atol=1e-4)
    assert answer["label"] == prediction.class_names[int(prediction.preds.argmax())]
    assert answer["confidence"] == pytest.approx(prediction.top(1)[0][1], abs=1e-4)
    assert answer["label_set"] == list(prediction.label_set)
    assert answer["is_unknown"] == prediction.is_unknown
    assert answer["unknown_score"] == pytest.approx(prediction.unknown_score, abs=1e-3)


def test_one_image_is_the_body(service, digits, expected):
    reply = service.predict(digits[0])
    assert reply.status == 200
    table = reply.json()
    assert (table["model"], table["version"], len(table["digest"])) == ("digits", table["digest"][:12], 64)
    (answer,) = table["predictions"]
    assert_same(answer, expected[0])


def test_several_images_are_answered_in_order(service, digits, expected):
    body, headers = multipart([(f"{i}.png", image) for i, image in enumerate(digits[:16])])
    answers = service.request("POST", "/predict", body, headers).json()["predictions"]
    assert [answer["name"] for answer in answers] == [f"{i}.png" for i in range(16)]
    for answer, prediction in zip(answers, expected, strict=False):
        assert_same(answer, prediction)


def test_a_bad_image_among_good_ones_is_the_only_error(service, digits):
    body, headers = multipart([("good.png", digits[0]), ("bad.png", b"<html>"), ("also.png", digits[1])])
    reply = service.request("POST", "/predict", body, headers)
    good, bad, also = reply.json()["predictions"]
    assert reply.status == 200
    assert bad.keys() == {"name", "error"}
    assert "it is not an image" in bad["error"]
    assert (good["label"], also["label"]) == ("0", "1")


def test_a_single_bad_image_is_a_client_error(service):
    reply = service.predict(b"no image")
    assert reply.status == 400
    assert "not an image" in reply.json()["error"]


def test_top_shortens_the_list(service, digits):
    (answer,) = service.predict(digits[0], "?top=2").json()["predictions"]
    assert len(answer["top"]) == 2
    assert service.predict(digits[0], "?top=0").status == 400
    assert service.predict(digits[0], "?top=many").json()["error"].startswith("top: ")


def test_unknown_models_routes_and_methods(service, digits):
    assert service.predict(digits[0], "?model=other").status == 404
    for method, path, status in (("GET", "/none", 404), ("GET", "/predict", 405), ("DELETE", "/v2", 405)):
        reply = service.request(method, path)
        assert (reply.status, list(reply.json())) == (status, ["error"])


def test_request_ids_are_kept_or_made(service):
    assert service.get("/v2", **{"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = service.get("/v2", **{"X-Request-ID": "a b"}).headers["x-request-id"]
    assert len(made) == 32


def test_several_bundles_answer_by_name(golden, digits):
    with serving(f"a={golden}", f"b={GOLDEN.parent / 'digits-format-1'}") as service:
        assert [model["name"] for model in service.facts["models"]] == ["a", "b"]
        first, other = (service.predict(digits[3], f"?model={name}").json() for name in "ab")
        assert service.predict(digits[3]).json() == first
        assert first["digest"] != other["digest"]
        logged = service.logged(3, "/predict")
        assert [row["model"] for row in logged] == ["a", "b", "a"]
        assert all(row.keys() >= {"request_id", "status", "ms", "images", "version"} for row in logged)


def test_a_fault_is_a_500_without_its_text(golden):
    gate = build_app(Service({"digits": str(golden)}, ServeConfig(access_log=False)))
    app = gate._app

    @app.get("/fault")
    async def fault():
        raise ZeroDivisionError("a secret path /srv/x")

    from starlette.testclient import TestClient

    reply = TestClient(gate, raise_server_exceptions=False).get("/fault")
    assert (reply.status_code, reply.json()) == (500, {"error": "internal error"})


def test_the_openapi_document_names_every_route(service):
    document = service.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert {"/predict", "/metrics", "/v2", "/v2/models/{model}/infer"} <= document["paths"].keys()
