from __future__ import annotations

import re

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image, ImageOps

import recog
from recog.bundle.manifest import Manifest, TrainingData
from recog.core.preprocess import Preprocess
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.report.card import render_card

PREPROCESS = Preprocess(image_size=(224, 192))
HOSTILE = '<img src=x onerror=alert(1)> |`*_\n---\n"x": y'


def card(name="flowers", class_names=("rose", "tulip"), *, library="timm", split="test", preprocess=PREPROCESS):
    report = evaluate(
        np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
        np.array([0, 1, 1]),
        class_names=class_names,
        names=["a", "b", "c"],
        data=DataFacts(name=name, split=split),
    )
    manifest = Manifest(
        task="multiclass",
        architecture="tf_efficientnet_lite0",
        class_names=class_names,
        preprocess=preprocess,
        data=TrainingData(name=name, fingerprint="sha256:0", num_images={"train": 5, "test": 3}),
        seed=7,
        files={},
    )
    return render_card(report, manifest, origin=("PyPI package", "Apache-2.0"), recipe="head", library=library)


def test_the_metadata_are_what_hugging_face_reads():
    data = ModelCard(card()).data
    assert data.pipeline_tag == "image-classification"
    assert data.library_name == "timm"
    results = {result.metric_type: result for result in data.eval_results}
    assert results["accuracy"].metric_value == pytest.approx(2 / 3, abs=1e-6)  # two of the three images are right
    assert results["accuracy"].dataset_split == "test"
    # F1 of rose: 1 right, 1 false alarm, none missed: 2/3; of tulip: 1 right, 1 missed: 2/3
    assert results["f1"].metric_value == pytest.approx(2 / 3, abs=1e-6)


def test_the_text_has_numbers_with_their_n_and_origins():
    text = card()
    assert "| Metric | Test split, n = 3 |" in text
    assert "train 5, test 3 images" in text
    assert "PyPI package; Apache-2.0" in text
    assert "uint8 images [B, 224, 192, 3]" in text
    assert 'timm.create_model("local-dir:' in text
    assert "local-dir:" not in card(library="recog")


def test_cross_validated_numbers_are_called_so():
    text = card(split="cross-validated")
    assert "| Metric | Cross-validated, n = 3 |" in text
    assert "No image was held out" in text
    assert "No image was held out" not in card()


def test_untrusted_names_are_escaped():
    text = card(name=HOSTILE, class_names=(HOSTILE, "plain"))
    parsed = ModelCard(text)
    assert parsed.data.eval_results[0].dataset_name == HOSTILE
    body = text.split("\n---\n", 1)[1]
    assert "\n---\n" not in body  # no second block of metadata
    assert not re.search(r"(?<!\\)<img", body)


@pytest.mark.parametrize(
    "name", ["\N{CAT FACE}\N{DOG FACE} pets", "caf\u00e9\u2028\u0085\ufeff", r"a\ud83d\udc31 'b': \\"]
)
def test_any_name_comes_back_from_the_metadata(name):
    assert ModelCard(card(name=name)).data.eval_results[0].dataset_name == name


def test_the_card_describes_the_calibration():
    text = card()
    assert "**Calibration:** Probabilities are the softmax of the logits." in text
    assert re.search(r"- Test, n = 3: NLL before \d\.\d{3}, after \d\.\d{3}, ECE before [\d.]+%, after [\d.]+%\n", text)
    assert "Prediction sets" not in text
    assert "--reject" not in text


def test_the_multilabel_card_has_the_map_and_the_thresholds():
    from label_batches import NAMES, label_report

    report, *_ = label_report()
    manifest = Manifest(
        task="multilabel",
        architecture="resnet8",
        class_names=NAMES,
        preprocess=Preprocess(image_size=(20, 20)),
        data=TrainingData(name="pets", fingerprint="sha256:0", num_images={"train": 5, "test": 3}),
        seed=7,
        files={},
    )
    text = render_card(report, manifest, origin=("none", "none"), recipe="scratch", library=False)
    found = {result.metric_name: result.metric_value for result in ModelCard(text).data.eval_results}
    assert found["mAP"] == pytest.approx(report.mean_average_precision, abs=1e-6)
    assert found["micro F1"] == pytest.approx(report.micro.f1, abs=1e-6)
    assert "4 labels" in text
    assert "to maximise F1 on val" in text


def snippet(text):
    """The Python code of the card, without its last line, which predicts photo.jpg."""
    code = re.search("```python\n(.*?)```", text, re.DOTALL)[1]
    assert code.rstrip().endswith('print(predict("photo.jpg"))')
    return code.rstrip().rpartition("\n")[0]


def test_the_code_on_the_card_predicts_as_recog_does(digits_run, tmp_path, monkeypatch):
    """Only onnxruntime, NumPy and Pillow are imported; the bundle's own probabilities to 1e-4."""
    code = snippet((digits_run.bundle / "README.md").read_text())
    assert set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE)) == {
        "json",
        "math",
        "numpy",
        "onnxruntime",
        "PIL",
    }
    monkeypatch.chdir(digits_run.bundle)
    space = {}
    exec(code, space)  # noqa: S102  our own card
    rng = np.random.default_rng(0)
    predictor = recog.load(digits_run.bundle)
    for i, shape in enumerate([(8, 8), (30, 20), (9, 40, 3)]):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
        expected = predictor.predict(path)
        found = space["predict"](path)
        assert list(found) == list(expected.class_names)
        assert np.abs(np.array(list(found.values())) - expected.probs).max() < 1e-4


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("image_size", [(32, 32), (24, 40)])
@pytest.mark.parametrize(("crop_pct", "fill"), [(0.875, ()), (1.25, (9, 8, 7))])
def test_the_code_on_the_card_reads_as_recog_does(crop_mode, image_size, crop_pct, fill, tmp_path):
    """The same pixels, bit for bit, of PNG, rotated JPEG and a JPEG that is reduced while it is decoded."""
    preprocess = Preprocess(image_size=image_size, crop_mode=crop_mode, crop_pct=crop_pct, fill=fill)
    space = {}
    code = snippet(card(preprocess=preprocess))
    begin, end = code.index("def scaled_size"), code.index("def predict")
    height, width = image_size
    space |= {"np": np, "Image": Image, "ImageOps": ImageOps, "height": height, "width": width}
    space |= {"scaled_height": int(height / crop_pct), "scaled_width": int(width / crop_pct)}
    exec(code[begin:end], space)  # noqa: S102  our own card
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[274] = 6  # lies on its side
    for i, (shape, options) in enumerate([((50, 90, 3), {}), ((90, 50, 3), {"exif": exif}), ((400, 700, 3), {})]):
        path = tmp_path / f"{i}.{'jpg' if options or shape[0] > 200 else 'png'}"
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path, **options)
        assert (space["read"](path)[0] == preprocess.read(path)).all()


@pytest.mark.parametrize(("library", "lines"), [("timm", 5), ("recog", 3), ("own", 3)])
def test_the_card_names_what_loads_the_bundle(library, lines):
    text = card(library=library)
    listed = text.partition("This bundle loads in:")[2].partition("## Limits")[0]
    assert listed.count("\n- ") == lines
    assert ("transformers: `Auto" in listed) == (library == "timm")
