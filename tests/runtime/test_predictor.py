import copy
import io
import json
import multiprocessing
import pickle  # noqa: TID251
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from recog.bundle.manifest import Manifest, TrainingData
from recog.bundle.reference import read_reference, write_features
from recog.core.errors import BadImage, BundleError, ConfigError, DataError
from recog.core.preprocess import Preprocess
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.conformal import ConformalSets
from recog.evaluation.trust.unknown import UnknownRule, fit_statistics
from recog.runtime.engine import Outputs
from recog.runtime.predictor import Predictor, load

CLASSES = ("dark", "middle", "bright")


class BrightnessEngine:
    """Three logits by hand from an image's mean level m in [0, 255]: (255 - m) / 50, 2, m / 50. Keeps the batch sizes."""

    def __init__(self):
        self.batch_sizes = []

    def __call__(self, images):
        self.batch_sizes.append(len(images))
        level = images.reshape(len(images), -1).mean(axis=1)
        logits = np.stack([(255 - level) / 50, np.full_like(level, 2), level / 50], axis=1).astype(np.float32)
        return Outputs(logits=logits, features=level[:, None].astype(np.float32))


@pytest.fixture
def predictor():
    manifest = Manifest(
        task="multiclass",
        architecture="by hand",
        class_names=CLASSES,
        preprocess=Preprocess(image_size=(4, 4), channels=1),
        data=TrainingData(name="none", fingerprint="", num_images={}),
        seed=0,
        files={},
    )
    return Predictor(manifest=manifest, calibration=Calibration(), engine=BrightnessEngine())


@pytest.fixture(scope="module")
def trained(digits_run):
    return load(digits_run.bundle, num_threads=1)


def grey(level, size=(4, 4)):
    return np.full((*size, 1), level, dtype=np.uint8)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(file, "PNG")
    return file.getvalue()


def digit_images(num_images):
    digits = pytest.importorskip("sklearn.datasets").load_digits().images[:num_images]
    return [np.round(image * 255 / 16).astype(np.uint8)[:, :, None] for image in digits]


# one image


def test_probabilities_by_hand(predictor):
    prediction = predictor.predict(grey(255))
    exps = np.exp([0, 2, 5.1])
    np.testing.assert_allclose(prediction.probs, exps / exps.sum(), rtol=1e-6)
    np.testing.assert_allclose(prediction.logits, [0, 2, 5.1], rtol=1e-6)
    assert prediction.label == "bright"
    assert prediction.confidence == pytest.approx(exps[2] / exps.sum())
    assert prediction.probs.dtype == np.float64


def test_top_k_is_sorted_and_bounded(predictor):
    prediction = predictor.predict(grey(255))
    assert [name for name, _ in prediction.top(2)] == ["bright", "middle"]
    assert [name for name, _ in prediction.top(99)] == ["bright", "middle", "dark"]
    assert sum(prob for _, prob in prediction.top(3)) == pytest.approx(1)
    assert all(type(prob) is float for _, prob in prediction.top(3))  # goes into JSON
    for k in (0, -1):
        with pytest.raises(ConfigError, match=f"top takes 1 class or more; it got {k}"):
            prediction.top(k)


def test_every_kind_of_source_gives_the_same_answer(trained, tmp_path):
    image = digit_images(1)[0]
    path = tmp_path / "ä 1.png"
    path.write_bytes(png(image))
    with Image.open(path) as opened:
        sources = [path, str(path), path.read_bytes(), opened, image, image[:, :, 0]]
        answers = [trained.predict(source) for source in sources]
    answers += trained.predict([path, path.read_bytes()])
    answers += trained.predict(tmp_path)
    answers += trained.predict(str(tmp_path))
    assert len(answers) == 10
    for answer in answers:
        np.testing.assert_allclose(answer.probs, answers[0].probs, atol=1e-6)
        assert answer.label == "0"  # scikit-learn's first digit
    assert [answer.name for answer in answers] == [
        str(path), str(path), "<bytes>", "<image>", "<array>", "<array>", str(path), "<bytes>", str(path), str(path),
    ]  # fmt: skip


def test_a_list_gives_a_list_in_order(predictor):
    answers = predictor.predict([grey(0), grey(255), grey(0)])
    assert [answer.label for answer in answers] == ["dark", "bright", "dark"]
    assert predictor.predict([]) == []


def test_colour_for_a_grey_network_and_other_sizes(predictor):
    colour = np.full((9, 17, 3), 250, dtype=np.uint8)
    assert predictor.predict(colour).label == "bright"
    assert predictor.predict(grey(5, size=(1, 300))).label == "dark"


# many images


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_does_not_matter(trained, batch_size):
    """reliability.md, D4: the same labels, |dp| <= 1e-5."""
    images = digit_images(70)
    expected = [trained.predict(image) for image in images]
    answers = list(trained.predict_each(images, batch_size=batch_size))
    assert [answer.label for answer in answers] == [answer.label for answer in expected]
    for ours, theirs in zip(answers, expected, strict=True):
        np.testing.assert_allclose(ours.probs, theirs.probs, atol=1e-5)


def test_batches_are_as_large_as_asked_for(predictor):
    assert len(list(predictor.predict_each([grey(i) for i in range(10)], batch_size=4))) == 10
    assert predictor.engine.batch_sizes == [4, 4, 2]


def test_large_images_are_answered_four_at_a_time_as_their_maps_take_much_memory(predictor):
    manifest = replace(predictor.manifest, preprocess=Preprocess(image_size=(288, 288), channels=1))
    large = Predictor(manifest=manifest, calibration=Calibration(), engine=BrightnessEngine())
    assert len(large.predict([grey(1, (288, 288))] * 10)) == 10
    assert len(large.embed([grey(1, (288, 288))] * 5)) == 5
    assert large.engine.batch_sizes == [4, 4, 2, 1, 4, 1]  # the one: no image, for the number of features


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_nothing_is_refused_rather_than_answering_nothing(predictor, batch_size):
    with pytest.raises(ConfigError, match=f"batch_size is {batch_size}; it must be 1 or more"):
        list(predictor.predict_each([grey(0)], batch_size=batch_size))


@pytest.mark.parametrize("place", [0, 7, 15])
@pytest.mark.parametrize("bad", [b"", b"\xff\xd8\xff", b"<html></html>", np.zeros((0, 4), dtype=np.uint8)])
def test_one_bad_image_among_15_good_ones(predictor, place, bad):
    """reliability.md, 58: 15 answers and one error, each in its place."""
    sources = [grey(0) if i % 2 else grey(255) for i in range(15)]
    expected = ["dark" if i % 2 else "bright" for i in range(15)]
    sources.insert(place, bad)
    answers = list(predictor.predict_each(sources))
    assert isinstance(answers.pop(place), BadImage)
    assert [answer.label for answer in answers] == expected


def test_only_bad_images(predictor):
    answers = list(predictor.predict_each([b"", b"x", "missing.jpg"], batch_size=2))
    assert [type(answer) for answer in answers] == [BadImage] * 3
    assert answers[2].name == "missing.jpg"
    assert predictor.engine.batch_sizes == []


def test_predict_raises_what_predict_each_reports(predictor, tmp_path):
    with pytest.raises(BadImage, match=r"missing\.jpg: there is no such file"):
        predictor.predict("missing.jpg")
    with pytest.raises(BadImage, match="<bytes>"):
        predictor.predict([grey(0), b"x"])
    with pytest.raises(BadImage):
        predictor.predict("x" * 5000)
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(BadImage, match=r"bad\.png"):
        predictor.predict(tmp_path)


def test_sources_are_read_as_they_are_needed(predictor):
    """A folder of a million files must not be held in memory."""
    taken = []

    def sources():
        for i in range(100):
            taken.append(i)
            yield grey(0)

    answers = predictor.predict_each(sources(), batch_size=5)
    next(answers)
    assert len(taken) == 5
    answers.close()


def test_a_network_that_answers_nan_is_an_error_not_a_label(predictor):
    def broken(images):
        logits = np.full((len(images), 3), np.nan, dtype=np.float32)
        return Outputs(logits=logits, features=logits)

    predictor.engine = broken
    with pytest.raises(DataError, match="NaN"):
        predictor.predict(grey(0))


# folders


def test_a_folder_without_images_is_an_error(tmp_path, predictor):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="holds no image file"):
        predictor.predict(tmp_path)


# bundles


def test_a_bundle_answers_as_when_it_was_sealed(trained, digits_run):
    reference = read_reference(digits_run.bundle)
    probs = np.stack([prediction.probs for prediction in trained.predict(list(reference.images))])
    np.testing.assert_allclose(probs, reference.probs, atol=1e-6)


def test_a_run_folder_is_as_good_as_its_bundle(digits_run):
    assert load(digits_run.folder).class_names == load(str(digits_run.bundle)).class_names == tuple("0123456789")


@pytest.mark.parametrize("name", ["config.json", "calibration.json", "model.onnx"])
def test_what_is_read_is_checked(bundle, name):
    data = bytearray((bundle / name).read_bytes())
    data[-2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} is not the file that was sealed"):
        load(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"lacks {name}"):
        load(bundle)


def test_what_is_not_read_is_not_hashed(bundle):
    """design.md, section 4: on load only the files that are read are hashed."""
    for name in ("model.safetensors", "report.json", "README.md", "reference.safetensors"):
        (bundle / name).unlink()
    assert load(bundle).predict(grey(0, size=(8, 8))).label in "0123456789"


def change_metadata(bundle, value):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle / "model.onnx")
    (entry,) = [entry for entry in model.metadata_props if entry.key == "class_names"]
    entry.value = value
    onnx.save(model, bundle / "model.onnx")


@pytest.mark.parametrize("value", [json.dumps([*"1023456789"]), json.dumps([*"012345678"]), '"0123456789"', "garbage"])
def test_other_class_names_in_the_graph_are_refused_although_all_hashes_fit(bundle, reseal, value):
    change_metadata(bundle, value)
    reseal(bundle)
    with pytest.raises(BundleError, match="class.names"):
        load(bundle)


def test_a_graph_for_images_of_another_shape_is_refused_although_all_hashes_fit(bundle, reseal):
    manifest = json.loads((bundle / "recog.json").read_bytes())
    config = json.loads((bundle / "config.json").read_bytes())
    config["pretrained_cfg"]["input_size"] = [1, 16, 16]
    (bundle / "config.json").write_text(json.dumps(config))
    reseal(bundle, preprocess={**manifest["preprocess"], "image_size": [16, 16]})
    with pytest.raises(BundleError, match=r"disagree on the image shape: \(8, 8, 1\) and \(16, 16, 1\)"):
        load(bundle)


def test_a_graph_with_another_number_of_classes_is_refused_although_all_hashes_fit(bundle, reseal):
    names = [*"012345678"]
    change_metadata(bundle, json.dumps(names))
    config = json.loads((bundle / "config.json").read_bytes())
    (bundle / "config.json").write_text(json.dumps({**config, "label_names": names, "num_classes": 9}))
    reseal(bundle, class_names=names)
    with pytest.raises(BundleError, match="disagree on the number of classes: 10 and 9"):
        load(bundle)


def test_a_config_that_disagrees_is_refused_although_all_hashes_fit(bundle, reseal):
    config = json.loads((bundle / "config.json").read_bytes())
    (bundle / "config.json").write_text(json.dumps({**config, "label_names": config["label_names"][::-1]}))
    reseal(bundle)
    with pytest.raises(BundleError, match=r"config\.json and recog\.json disagree on class names"):
        load(bundle)


@pytest.mark.parametrize("calibration", ["{}", "[]", '{"method": "vector"}', '{"method": "none", "t": 2}', "x"])
def test_a_calibration_that_is_not_known_is_refused_although_all_hashes_fit(bundle, reseal, calibration):
    (bundle / "calibration.json").write_text(calibration)
    reseal(bundle)
    with pytest.raises(BundleError, match=r"calibration\.json"):
        load(bundle)


def test_it_loads_and_answers_without_torch(digits_run, tmp_path):
    path = tmp_path / "digit.png"
    path.write_bytes(png(digit_images(1)[0]))
    script = """
        import sys
        import recog
        prediction = recog.load(sys.argv[1]).predict(sys.argv[2])
        heavy = {"torch", "torchvision", "timm", "sklearn", "pandas", "matplotlib", "onnx"}
        print(prediction.label, sorted(heavy & {name.split(".")[0] for name in sys.modules}))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(digits_run.bundle), str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0 []\n"


# what is unlike every class


def with_rule(predictor, **changes):
    """Energy by hand: less log(exp((255 - m) / 50) + exp(2) + exp(m / 50)), least sure in the middle."""
    table = {
        "method": "energy",
        "threshold": -4.0,
        "false_alarm_rate": 0.05,
        "num_images": 40,
        "data": "val",
        "reason": "-",
    }
    predictor.calibration = Calibration(unknown=UnknownRule(**{**table, **changes}))
    return predictor


def test_unknown_by_hand(predictor):
    sure, unsure = with_rule(predictor).predict([grey(255), grey(128)], reject=True)
    assert sure.unknown_score == pytest.approx(-np.log(1 + np.exp(2) + np.exp(5.1)), abs=1e-4)
    assert unsure.unknown_score == pytest.approx(-np.log(np.exp(2.54) + np.exp(2) + np.exp(2.56)), abs=1e-4)
    assert (sure.is_unknown, sure.label) == (False, "bright")
    assert (unsure.is_unknown, unsure.label) == (True, "unknown")
    assert unsure.top(1)[0][0] == "bright"


def test_unknown_is_answered_only_where_it_is_asked_for(predictor):
    answer = with_rule(predictor).predict(grey(128))
    assert (answer.label, answer.is_unknown, answer.unknown_score) == ("bright", None, None)


def test_a_bundle_without_a_threshold_says_why(predictor):
    assert not predictor.can_reject
    with pytest.raises(ConfigError, match="does not tell what is unknown: it was trained without"):
        predictor.predict(grey(0), reject=True)
    without = with_rule(predictor, threshold=None, reason="5 calibration images are too few")
    assert not without.can_reject
    with pytest.raises(ConfigError):  # before the first answer is asked for
        without.predict_each([grey(0)], reject=True)
    with pytest.raises(ConfigError, match="does not tell what is unknown: 5 calibration images are too few"):
        without.predict(grey(0), reject=True)


def test_features_are_read_and_checked_where_they_are_needed(bundle, reseal):
    """Answering without --reject never opens the file; with it the hash must fit."""
    table = json.loads((bundle / "calibration.json").read_text())
    statistics = fit_statistics("knn", np.eye(64, dtype=np.float32), np.zeros(64, dtype=np.int64))
    write_features(bundle, statistics.to_tensors())
    table["unknown"] |= {"method": "knn", "threshold": 10.0, "num_neighbours": 3}
    (bundle / "calibration.json").write_text(json.dumps(table))
    reseal(bundle)
    image = digit_images(1)[0]
    assert load(bundle).predict(image, reject=True).is_unknown is False
    data = bytearray((bundle / "features.safetensors").read_bytes())
    data[-1] ^= 1
    (bundle / "features.safetensors").write_bytes(data)
    predictor = load(bundle)
    assert predictor.predict(image).label == "0"
    with pytest.raises(BundleError, match=r"features\.safetensors is not the file that was sealed"):
        predictor.predict(image, reject=True)


def test_a_bundle_loaded_by_a_relative_path_answers_after_a_change_of_folder(bundle, reseal, tmp_path, monkeypatch):
    """The features are read at the first `reject=True`, long after the bundle was loaded."""
    table = json.loads((bundle / "calibration.json").read_text())
    write_features(
        bundle, fit_statistics("knn", np.eye(64, dtype=np.float32), np.zeros(64, dtype=np.int64)).to_tensors()
    )
    table["unknown"] |= {"method": "knn", "threshold": 10.0, "num_neighbours": 3}
    (bundle / "calibration.json").write_text(json.dumps(table))
    reseal(bundle)
    monkeypatch.chdir(bundle.parent)
    (bundle.parent / "link").symlink_to(bundle.name)
    predictors = [load(bundle.name), load("link")]
    monkeypatch.chdir(tmp_path)
    (bundle.parent / "link").unlink()
    for predictor in predictors:
        assert predictor.predict(digit_images(1)[0], reject=True).is_unknown is False


def test_relative_paths_mean_what_they_meant_at_the_call(trained, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    for number, pixels in enumerate(digit_images(3)):
        Image.fromarray(pixels[:, :, 0]).save(tmp_path / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    names = ["0.png", "1.png", str(tmp_path / "2.png")]
    expected = trained.predict(names)
    answers = trained.predict_each(names, batch_size=1)
    first = next(answers)
    monkeypatch.chdir(tmp_path / "elsewhere")
    rest = list(answers)
    assert [a.name for a in (first, *rest)] == names
    for answer, same in zip((first, *rest), expected, strict=True):
        np.testing.assert_array_equal(answer.probs, same.probs)


def test_features_of_another_length_are_refused_although_all_hashes_fit(bundle, reseal):
    table = json.loads((bundle / "calibration.json").read_text())
    statistics = fit_statistics("knn", np.eye(5, dtype=np.float32), np.zeros(5, dtype=np.int64))
    write_features(bundle, statistics.to_tensors())
    table["unknown"] |= {"method": "knn", "threshold": 10.0, "num_neighbours": 3}
    (bundle / "calibration.json").write_text(json.dumps(table))
    reseal(bundle)
    with pytest.raises(BundleError, match="does not fit the 64 features"):
        load(bundle).predict(digit_images(1)[0], reject=True)


def test_sets_are_the_calibrations(predictor):
    predictor.calibration = Calibration(
        sets=ConformalSets(method="lac", alpha=0.1, quantile=0.7, num_images=9, data="val")
    )
    answer = predictor.predict(grey(128))  # probabilities 0.38, 0.22, 0.39: a class is in from 0.3 on
    assert answer.label_set == ("bright", "dark")
    assert predictor.predict(grey(255)).label_set == ("bright",)


def test_a_bundle_whose_task_and_thresholds_do_not_fit_is_not_used(bundle, reseal):
    reseal(bundle, task="multilabel")
    with pytest.raises(BundleError, match="the task is multilabel in recog.json and multiclass in calibration.json"):
        load(bundle)


@pytest.mark.parametrize("num_threads", [0, -1, 10**9])
def test_an_impossible_number_of_threads_is_refused(digits_run, num_threads):
    with pytest.raises(ConfigError, match=f"num_threads is {num_threads}; it must be a whole number from 1 to 1024"):
        load(digits_run.bundle, num_threads=num_threads)


# several images, copies, features


def test_every_collection_of_images_is_a_batch(predictor):
    levels, expected = [0, 255, 90], ["dark", "bright", "dark"]  # by hand: the largest of (255 - m) / 50, 2 and m / 50
    images = [grey(level) for level in levels]
    for several in (images, tuple(images), np.stack(images), dict.fromkeys(map(png, images))):
        answers = predictor.predict(several)
        assert [answer.label for answer in answers] == expected


def test_an_array_of_paths_is_a_batch(predictor, tmp_path):
    for level in (0, 255):
        (tmp_path / f"{level}.png").write_bytes(png(grey(level)))
    paths = np.array([str(tmp_path / "0.png"), str(tmp_path / "255.png")])
    assert [answer.label for answer in predictor.predict(paths)] == ["dark", "bright"]
    assert [answer.label for answer in predictor.predict(paths.astype(object))] == ["dark", "bright"]


def test_an_iterator_is_answered_lazily(predictor):
    taken = []

    def images():
        for level in range(100):
            taken.append(level)
            yield grey(level)

    answers = predictor.predict(images())
    assert taken == []
    next(answers)
    assert len(taken) == 32  # one batch


def test_probabilities_of_several_images(predictor):
    probs = predictor.predict_proba([grey(0), grey(255)])
    assert (probs.shape, probs.dtype) == ((2, 3), np.float64)
    logits = np.array([[5.1, 2, 0], [0, 2, 5.1]])
    assert np.allclose(probs, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), atol=1e-6)
    assert predictor.predict_proba([]).shape == (0, 3)
    with pytest.raises(BadImage, match="<bytes>"):
        predictor.predict_proba([grey(0), b"no image"])


def test_embed_gives_the_engines_features(predictor, trained):
    features = predictor.embed([grey(level) for level in range(70)], batch_size=32)
    assert (features.dtype, features.tolist()) == (np.float32, [[level] for level in range(70)])
    assert predictor.embed([]).shape == (0, 1)
    with pytest.raises(BadImage):
        predictor.embed([b"no image"])
    assert trained.embed(digit_images(3)).shape == (3, 64)  # resnet8's


def test_a_copy_answers_alike(trained, digits_run):
    image = digit_images(1)[0]
    expected = trained.predict(image)
    for other in (pickle.loads(pickle.dumps(trained)), copy.deepcopy(trained), copy.copy(trained)):  # noqa: TID251
        assert other.predict(image) == expected


@pytest.mark.slow
def test_a_spawned_process_answers_alike(trained):
    images = digit_images(4)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (answers,) = pool.map(trained.predict, [images])
    assert answers == trained.predict(images)


def test_a_copy_of_a_bundle_that_has_changed_is_refused(bundle, reseal):
    data = pickle.dumps(load(bundle))  # noqa: TID251
    (bundle / "README.md").write_text("other")
    reseal(bundle)
    with pytest.raises(BundleError, match="holds another bundle than when this Predictor was loaded; load it again"):
        pickle.loads(data)  # noqa: TID251


def test_a_predictor_without_a_bundle_cannot_be_copied(predictor):
    with pytest.raises(ConfigError, match="was not loaded from a bundle and cannot be copied"):
        copy.deepcopy(predictor)


@pytest.mark.parametrize("one", ["photo.jpg", b"...", np.zeros((4, 4), np.uint8)])
def test_one_image_in_place_of_several_is_refused(predictor, one):
    for method in (predictor.predict_proba, predictor.embed):
        with pytest.raises(ConfigError, match=r"a list of images is expected.*\[image\]"):
            method(one)
