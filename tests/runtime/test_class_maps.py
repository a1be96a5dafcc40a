"""Maps of a bundle whose ONNX file gives the feature map: as torch makes them, without torch."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from mapped_bundles import GOLDEN, class_map, write_mapped_bundle
from small_subjects import noise

from recog.core.errors import BundleError, ConfigError
from recog.runtime.engine import open_engine
from recog.runtime.predictor import load, verify


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_map_of_the_label_is_that_of_torch(mapped_bundle, engine):
    if engine == "openvino":
        pytest.importorskip("openvino")
    images = noise(3, 8, 8, 1)
    predictor = load(mapped_bundle, engine=engine)
    for image, found in zip(images, predictor.predict(list(images), explain=True), strict=True):
        assert found.map_labels == (found.label,)
        expected = class_map(mapped_bundle, image[None], found.class_names.index(found.label))
        np.testing.assert_allclose(found.maps, expected, atol=1e-4 * expected.max())
        np.testing.assert_array_equal(found.seen, image)
        assert found.to_dict()["maps"][found.label] == found.maps[0].astype(float).round(5).tolist()


def test_without_the_question_there_is_none(mapped_bundle):
    found = load(mapped_bundle).predict(noise(8, 8, 1))
    assert found.maps is None
    assert found.seen is None
    assert "maps" not in found.to_dict()
    assert open_engine(mapped_bundle / "model.onnx")(noise(1, 8, 8, 1)).feature_map is None


def test_the_answers_are_those_of_the_bundle_without_it(mapped_bundle):
    images = list(noise(4, 8, 8, 1))
    one, other = load(mapped_bundle).predict_proba(images), load(GOLDEN / "digits-format-1").predict_proba(images)
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert verify(mapped_bundle).num_reference_images > 0


def test_several_labels_have_a_map_each(tmp_path):
    bundle = write_mapped_bundle("digits-labels-format-1", tmp_path / "bundle")
    images = noise(6, 8, 8, 1)
    numbers = set()
    for image, found in zip(images, load(bundle).predict(list(images), explain=True), strict=True):
        assert found.map_labels == (found.labels or (found.top(1)[0][0],))
        for label, shown in zip(found.map_labels, found.maps, strict=True):
            expected = class_map(bundle, image[None], found.class_names.index(label))[0]
            # a map near 0 is what large terms leave of each other, of which float32 keeps some 1e-6
            np.testing.assert_allclose(shown, expected, atol=1e-4 * max(0.02, expected.max()))
        numbers.add(len(found.labels))
        assert list(found.to_dict()["maps"]) == list(found.map_labels)
    assert len(numbers) > 1


def test_a_bundle_without_a_feature_map_says_what_to_do():
    with pytest.raises(ConfigError, match=r"carries no feature map.*export.feature_map=true, or use recog explain"):
        load(GOLDEN / "digits-format-1").predict(noise(8, 8, 1), explain=True)


def test_a_copy_for_another_process_makes_maps_too(mapped_bundle):
    assert copy.deepcopy(load(mapped_bundle)).predict(noise(8, 8, 1), explain=True).maps is not None


def test_weights_that_are_not_there_are_reported(mapped_bundle, tmp_path, reseal):
    import shutil

    from safetensors.numpy import load_file, save_file

    bundle = shutil.copytree(mapped_bundle, tmp_path / "bundle")
    weights = load_file(bundle / "model.safetensors")
    save_file({"other": weights["fc.weight"]}, bundle / "model.safetensors")
    reseal(bundle)
    with pytest.raises(BundleError, match="gives no weights 'fc.weight' for maps"):
        load(bundle).predict(noise(8, 8, 1), explain=True)


def test_neither_torch_nor_the_rest_of_training_is_imported(mapped_bundle, tmp_path):
    """predict --explain --json in a fresh process; without --explain not even the drawing code is loaded."""
    from PIL import Image

    Image.fromarray(noise(8, 8)).save(tmp_path / "a.png")
    code = (
        "import json, sys; from recog.__main__ import main\n"
        "try: main()\nexcept SystemExit as end: code = end.code\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)"
    )

    def modules(*options):
        command = [sys.executable, "-c", code, "predict", str(mapped_bundle), str(tmp_path / "a.png"), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        end, names = json.loads(done.stderr.splitlines()[-1])
        assert not end
        return done.stdout, names

    _, plain = modules("--json")
    text, explained = modules("--json", "--explain", "--sheet", str(tmp_path / "s.html"), "--save", str(tmp_path / "o"))
    assert list(json.loads(text)[0]["maps"]) == [json.loads(text)[0]["label"]]
    assert not {"torch", "timm", "captum", "onnx"} & set(explained)
    assert not {"recog.attribution.overlay", "recog.answers.annotate"} & set(plain)
    assert (tmp_path / "o" / "a.png.jpg").is_file()
    assert 'class="map"' in (tmp_path / "s.html").read_text()
