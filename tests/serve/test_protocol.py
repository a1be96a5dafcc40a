"""The Open Inference Protocol with a real client, and each of its rules by hand."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest

from recog.runtime.prediction import MultilabelPrediction
from recog.serve.bodies import RequestError
from recog.serve.config import ServeLimits
from recog.serve.messages import Ready
from recog.serve.protocol import Inference, encode_inference, metadata, parse_inference

READY = Ready(
    digest="0123456789abcdef" * 4,
    task="multiclass",
    class_names=("a", "b"),
    image_shape=(2, 3, 1),
    has_sets=False,
    can_reject=False,
    engine="onnxruntime",
    architecture="tiny",
    num_reference_images=0,
    max_prob_difference=None,
    baseline=None,
    report_html=b"",
)
PIXELS = {"name": "pixels", "shape": [1, 2, 3, 1], "datatype": "UINT8", "data": [0, 1, 2, 3, 4, 255]}


@pytest.fixture
def client(service):
    http = pytest.importorskip("tritonclient.http")
    return http.InferenceServerClient(f"127.0.0.1:{service.port}")


def test_triton_client_health_and_metadata(client):
    assert (client.is_server_live(), client.is_server_ready(), client.is_model_ready("digits")) == (True, True, True)
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    found = client.get_model_metadata("digits")
    version = found["versions"][0]
    assert client.is_model_ready("digits", version)
    assert client.get_model_metadata("digits", version) == found
    assert not client.is_model_ready("digits", "0")


def test_triton_client_binary_images(client, digits, expected):
    import tritonclient.http as http

    images = http.InferInput("image", [8], "BYTES")
    images.set_data_from_numpy(np.array(digits[:8], object))
    result = client.infer("digits", [images], request_id="r-1")
    np.testing.assert_allclose(result.as_numpy("probabilities"), [p.probs for p in expected[:8]], atol=1e-4)
    assert [label.decode() for label in result.as_numpy("label")] == [str(i) for i in range(8)]
    np.testing.assert_array_equal(result.as_numpy("label_set"), [p.in_set for p in expected[:8]])
    np.testing.assert_array_equal(result.as_numpy("is_unknown"), [p.is_unknown for p in expected[:8]])
    assert result.get_response()["id"] == "r-1"
    assert len(result.get_response()["parameters"]["digest"]) == 64


@pytest.mark.slow
@pytest.mark.skipif("RECOG_KSERVE_PYTHON" not in os.environ, reason="RECOG_KSERVE_PYTHON names no Python with kserve")
def test_kserve_client(service, digits, expected, tmp_path):
    """In an environment of its own, as kserve needs pandas < 3: pip install kserve."""
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, data in zip(files, digits, strict=False):
        file.write_bytes(data)
    program = Path(__file__).parents[2] / "benchmarks" / "peers" / "kserve_client.py"
    command = [os.environ["RECOG_KSERVE_PYTHON"], str(program), f"http://127.0.0.1:{service.port}", "digits"]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert [answer[f"{name}_ready"] for name in ("server", "model", "other_model")] == [True, True, False]
    assert answer["id"] == "from-kserve"
    assert answer["outputs"]["label"] == ["0", "1", "2"]
    np.testing.assert_allclose(answer["outputs"]["probabilities"], [p.probs for p in expected[:3]], atol=1e-4)
    assert "400 Bad Request" in answer["error"]


@pytest.mark.parametrize("binary", [True, False])
def test_triton_client_pixels(client, golden, digits, expected, binary):
    import tritonclient.http as http

    from recog.runtime.predictor import load

    pixels = np.stack([load(golden).preprocess.read(image) for image in digits[:3]])
    tensor = http.InferInput("pixels", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=binary)
    wanted = [http.InferRequestedOutput("probabilities", binary_data=binary)]
    result = client.infer(
        "digits", [tensor], outputs=wanted, model_version=client.get_model_metadata("digits")["versions"][0]
    )
    assert [output["name"] for output in result.get_response()["outputs"]] == ["probabilities"]
    np.testing.assert_allclose(result.as_numpy("probabilities"), [p.probs for p in expected[:3]], atol=1e-4)


def test_triton_client_errors(client):
    import tritonclient.http as http

    images = http.InferInput("image", [1], "BYTES")
    images.set_data_from_numpy(np.array([b"no image"], object))
    with pytest.raises(http.InferenceServerException, match=r"image\[0\]: it is not an image") as error:
        client.infer("digits", [images])
    assert error.value.status() == "400"
    with pytest.raises(http.InferenceServerException, match="no model") as error:
        client.infer("other", [images])
    assert error.value.status() == "404"


def test_base64_images_in_json(service, digits, expected):
    data = [base64.b64encode(image).decode() for image in digits[:2]]
    tensor = {
        "name": "image",
        "shape": [2],
        "datatype": "BYTES",
        "data": data,
        "parameters": {"content_type": "base64"},
    }
    reply = service.infer({"inputs": [tensor], "id": "x"})
    table = reply.json()
    assert reply.headers["content-type"] == "application/json"
    assert (table["model_name"], table["id"]) == ("digits", "x")
    outputs = {output["name"]: output for output in table["outputs"]}
    assert outputs["label"]["data"] == ["0", "1"]
    assert outputs["probabilities"]["shape"] == [2, 10]
    np.testing.assert_allclose(
        outputs["probabilities"]["data"], np.concatenate([p.probs for p in expected[:2]]), atol=1e-4
    )


def parse(table, binary=b"", header=None):
    body = json.dumps(table).encode()
    return parse_inference(body + binary, str(len(body)) if binary and header is None else header, READY, ServeLimits())


def test_metadata_has_free_batch_sizes():
    assert metadata("m", READY) == {
        "name": "m",
        "versions": ["0123456789ab"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "pixels", "datatype": "UINT8", "shape": [-1, 2, 3, 1]},
        ],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def test_several_labels_per_image_are_a_row_of_truths():
    ready = msgspec.structs.replace(READY, task="multilabel")
    assert [output["name"] for output in metadata("m", ready)["outputs"]] == ["probabilities", "predicted"]
    answers = [
        MultilabelPrediction(
            name="",
            class_names=("a", "b"),
            probs=np.array(probs),
            logits=np.zeros(2, np.float32),
            preds=np.array(probs) >= 0.5,
        )
        for probs in ([0.9, 0.6], [0.2, 0.1])
    ]
    wanted = Inference(images=(), id=None, outputs={"predicted": False, "probabilities": True})
    body, size = encode_inference("m", ready, wanted, answers)
    predicted, probabilities = json.loads(body[:size])["outputs"]
    assert (predicted["shape"], predicted["data"]) == ([2, 2], [True, True, False, False])
    assert probabilities["parameters"] == {"binary_data_size": 16}
    np.testing.assert_allclose(np.frombuffer(body[size:], "<f4"), [0.9, 0.6, 0.2, 0.1], rtol=1e-6)


@pytest.mark.parametrize("data", [[0, 1, 2, 3, 4, 255], [[[[0], [1], [2]], [[3], [4], [255]]]]])
def test_pixels_flat_or_nested_row_major(data):
    (image,) = parse({"inputs": [{**PIXELS, "data": data}]}).images
    assert (image.data, image.is_pixels) == (bytes([0, 1, 2, 3, 4, 255]), True)


def test_binary_bytes_have_a_length_before_each_element():
    tensor = {"name": "image", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 11}}
    found = parse({"inputs": [tensor]}, b"\x01\0\0\0a\x02\0\0\0bc")
    assert [image.data for image in found.images] == [b"a", b"bc"]


def test_wanted_outputs_and_their_form():
    table = {"inputs": [PIXELS], "parameters": {"binary_data_output": True}}
    assert parse(table).outputs == {"probabilities": True, "label": True}
    outputs = [{"name": "label", "parameters": {"binary_data": False}}]
    assert parse({**table, "outputs": outputs}).outputs == {"label": False}


IMAGE = {"name": "image", "shape": [1], "datatype": "BYTES"}
BAD = {
    "no inputs": ({}, "inputs is missing"),
    "empty inputs": ({"inputs": []}, "has 0 inputs"),
    "two inputs": ({"inputs": [PIXELS, PIXELS]}, "has 2 inputs"),
    "list": ([PIXELS], "the record is a list"),
    "unknown input": ({"inputs": [{**PIXELS, "name": "x"}]}, "there is no input 'x'"),
    "unknown datatype": ({"inputs": [{**PIXELS, "datatype": "UINT9"}]}, "datatype 'UINT9'"),
    "fp16 in json": ({"inputs": [{**PIXELS, "datatype": "FP16"}]}, "has datatype FP16; expected UINT8"),
    "bytes for pixels": ({"inputs": [{**PIXELS, "datatype": "BYTES"}]}, "has datatype BYTES"),
    "negative shape": ({"inputs": [{**PIXELS, "shape": [-1, 2, 3, 1]}]}, "has shape"),
    "zero shape": ({"inputs": [{**PIXELS, "shape": [0, 2, 3, 1]}]}, "has shape"),
    "huge shape": ({"inputs": [{**PIXELS, "shape": [2**63, 2, 3, 1]}]}, "images; 1 to 16 are allowed"),
    "float shape": ({"inputs": [{**PIXELS, "shape": [1.5, 2, 3, 1]}]}, r"shape\[0\] is a number; expected a whole number"),
    "other length": ({"inputs": [{**PIXELS, "data": [1, 2]}]}, "has 2 values"),
    "other nesting": ({"inputs": [{**PIXELS, "data": [[[[0, 1, 2], [3, 4, 5]]]]}]}, "is nested as"),
    "ragged": ({"inputs": [{**PIXELS, "data": [[1], [2, 3]]}]}, "whole numbers from 0 to 255"),
    "above 255": ({"inputs": [{**PIXELS, "data": [0, 1, 2, 3, 4, 256]}]}, "whole numbers"),
    "negative": ({"inputs": [{**PIXELS, "data": [0, 1, 2, 3, 4, -1]}]}, "whole numbers"),
    "floats": ({"inputs": [{**PIXELS, "data": [0.5] * 6}]}, "whole numbers"),
    "texts": ({"inputs": [{**PIXELS, "data": ["a"] * 6}]}, "whole numbers"),
    "booleans": ({"inputs": [{**PIXELS, "data": [True] * 6}]}, "whole numbers"),
    "no data": ({"inputs": [{**PIXELS, "data": None}]}, "whole numbers"),
    "unknown output": ({"inputs": [PIXELS], "outputs": [{"name": "x"}]}, "there is no output 'x'"),
    "output twice": ({"inputs": [PIXELS], "outputs": [{"name": "label"}, {"name": "label"}]}, "wanted twice"),
    "id is no text": ({"inputs": [PIXELS], "id": 5}, "id is a whole number"),
    "id of half a character": ({"inputs": [PIXELS], "id": "\ud800"}, "cannot be printed"),
    "bad base64": ({"inputs": [{**IMAGE, "data": ["%%%"]}]}, "not base64"),
    "data url": ({"inputs": [{**IMAGE, "data": ["data:image/png;base64,aGk="]}]}, "not base64"),
    "address": ({"inputs": [{**IMAGE, "data": ["http://169.254.169.254/"]}]}, "not base64"),
    "file": ({"inputs": [{**IMAGE, "data": ["file:///etc/passwd"]}]}, "not base64"),
    "numbers for files": ({"inputs": [{**IMAGE, "data": [1]}]}, "list of base64 texts"),
    "other content type": ({"inputs": [{**IMAGE, "data": ["aGk="], "parameters": {"content_type": "url"}}]}, "base64"),
    "fewer files": ({"inputs": [{**IMAGE, "shape": [2], "data": ["aGk="]}]}, "has 1 elements"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name):
    table, reason = BAD[name]
    with pytest.raises(RequestError, match=reason) as error:
        parse(table)
    assert error.value.status == 400


BODIES = {
    "no json": (b"{", "not valid JSON"),
    "not utf-8": (b'{"a": "\xff"}', "not UTF-8|not valid JSON"),
    "same key twice": (b'{"inputs": [], "inputs": []}', "a key occurs twice"),
    "nan": (b'{"inputs": NaN}', "NaN is not JSON"),
    "infinity": (b'{"inputs": [-Infinity]}', "Infinity is not JSON"),
    "1e400": (b'{"inputs": 1e400}', "expected a list"),
    "depth 101": (b"[" * 101 + b"]" * 101, "expected an object"),
    "depth a million": (b"[" * 1_000_000, "deep|not valid JSON"),
    "deep inside": (
        b'{"inputs": [{"name": "pixels", "shape": [1, 2, 3, 1], "datatype": "UINT8", "data": '
        + b"[" * 90
        + b"]" * 90
        + b"}]}",
        "whole numbers",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_json_that_is_refused(name):
    body, reason = BODIES[name]
    with pytest.raises(RequestError, match=reason):
        parse_inference(body, None, READY, ServeLimits())


@pytest.mark.parametrize("header", ["-1", "9" * 30, "1000000", "1.5", "x", "", "٣"])
def test_header_lengths_that_are_refused(header):
    with pytest.raises(RequestError, match="must be a number of bytes") as error:
        parse({"inputs": [PIXELS]}, header=header)
    assert error.value.status == 400


@pytest.mark.parametrize(
    ("size", "binary", "reason"),
    [
        (-1, b"abc", "does not fit"),
        (4, b"abc", "does not fit"),
        (True, b"a", "does not fit"),
        (2, b"abc", "belong to no input"),
        (6, b"\xff\xff\xff\xffab", "longer than"),
        (3, b"abc", "longer than"),
        (10, b"\x01\0\0\0a\x01\0\0\0b", "has 2 elements"),
    ],
)
def test_binary_data_that_is_refused(size, binary, reason):
    with pytest.raises(RequestError, match=reason):
        parse({"inputs": [{**IMAGE, "parameters": {"binary_data_size": size}}]}, binary)
