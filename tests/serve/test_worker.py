"""What the inference process does with a batch, without the process."""

from __future__ import annotations

import json
import shutil

import numpy as np

from recog.core.errors import BadImage
from recog.runtime.engine import REFERENCE_ENGINE
from recog.runtime.predictor import load
from recog.serve.messages import Image, pack, unpack_from_worker
from recog.serve.worker import answer, open_bundle, read_baseline, read_image


def test_ready_names_the_sealed_bundle(golden):
    predictor, ready = open_bundle(golden, "auto", 1)
    assert ready.digest == json.loads((golden / "recog.json").read_text())["digest"]
    assert ready.image_shape == (8, 8, 1)
    assert (ready.num_reference_images, ready.can_reject, ready.has_sets) == (16, True, True)
    assert ready.max_prob_difference < 1e-4
    assert ready.report_html == (golden.parent / "report.html").read_bytes()
    assert predictor.engine_name == "onnxruntime-no-spinning"
    assert open_bundle(golden, REFERENCE_ENGINE, 1)[1].engine == REFERENCE_ENGINE


def test_a_bundle_without_evidence_has_no_baseline(golden, tmp_path, reseal):
    folder = shutil.copytree(golden, tmp_path / "bundle")
    (folder / "report.json").write_text(json.dumps({"format_version": 1, "evidence": "none", "reason": "as asked for"}))
    reseal(folder)
    assert read_baseline(folder, load(folder)) is None


def test_images_and_pixels(golden, digits):
    predictor = load(golden)
    pixels = predictor.preprocess.read(digits[0])
    np.testing.assert_array_equal(read_image(predictor, Image(digits[0], "a")), pixels)
    np.testing.assert_array_equal(read_image(predictor, Image(pixels.tobytes(), "a", True)), pixels)
    for bad in (Image(b"", "a"), Image(b"text", "a"), Image(b"\0" * 63, "a", True)):
        assert isinstance(read_image(predictor, bad), BadImage)


def test_rows_are_those_of_the_good_images(golden, digits):
    predictor = load(golden)
    images = [read_image(predictor, Image(data, "x")) for data in (digits[0], b"bad", digits[1], b"bad")]
    found = answer(predictor, 7, images, reject=True)
    assert unpack_from_worker(pack(found)[4:]) == found
    assert (found.number, sorted(found.errors)) == (7, [1, 3])
    probs = np.frombuffer(found.probs, "<f8").reshape(2, 10)
    np.testing.assert_allclose(probs, predictor.predict_proba(digits[:2]), atol=1e-6)
    nothing = answer(predictor, 8, images[1:2], reject=True)
    assert (sorted(nothing.errors), nothing.probs) == ([0], b"")
