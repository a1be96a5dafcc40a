import json
from dataclasses import replace

import numpy as np
import pytest

from recog.core.errors import ConfigError
from recog.models.listing import list_networks
from recog.runtime.engine import ENGINES, Outputs
from recog.runtime.predictor import load
from recog.verbs import bench as bench_module
from recog.verbs.bench import bench, measure_networks

QUICK = {"seconds": 0.01, "num_threads": 1}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Shifted:
    """The reference engine with logits that are a little off, faster by not computing: answers are kept."""

    def __init__(self, engine, shift):
        self.class_names, self.image_shape, self.num_classes = (
            engine.class_names,
            engine.image_shape,
            engine.num_classes,
        )
        self._engine, self._shift, self._known = engine, shift, {}

    def __call__(self, images):
        key = images.tobytes()
        if key not in self._known:
            outputs = self._engine(images)
            self._known[key] = Outputs(logits=self._shift(outputs.logits), features=outputs.features)
        return self._known[key]


def with_engines(monkeypatch, **shifts):
    """Engines of ENGINES by name, with '_' for '-', that are `shifts` of the reference engine; the others do not exist."""
    opened = bench_module.open_engine
    shifts = {name.replace("_", "-"): shift for name, shift in shifts.items()}
    monkeypatch.setattr(bench_module, "ENGINES", {n: s for n, s in ENGINES.items() if n in {"onnxruntime", *shifts}})
    monkeypatch.setattr(
        bench_module,
        "open_engine",
        lambda path, name, *, num_threads: (
            Shifted(opened(path, num_threads=num_threads), shifts[name])
            if name in shifts
            else opened(path, name, num_threads=num_threads)
        ),
    )


def test_every_engine_is_measured_and_the_fastest_recorded(digits_run):
    report = bench(digits_run.bundle, batch_sizes=(1, 4), **QUICK)
    assert [row.engine for row in report.rows] == list(ENGINES)
    reference = report.rows[0]
    assert (reference.max_prob_difference, reference.label_agreement, reference.is_eligible) == (0.0, 1.0, True)
    assert all(0 < speed.least <= speed.median <= speed.most for speed in reference.speeds.values())
    eligible = [row for row in report.rows if row.is_eligible]
    assert report.chosen == max(eligible, key=lambda row: row.speeds[4].median).engine
    assert load(digits_run.bundle, num_threads=1, engine="auto").engine_name == report.chosen
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["speeds"]["1"]["median"] == reference.speeds[1].median


def test_a_float32_engine_that_differs_is_not_chosen_however_fast(digits_run, monkeypatch):
    with_engines(monkeypatch, openvino=lambda logits: logits * 1.5)
    report = bench(digits_run.bundle, **QUICK)
    other = report.rows[1]
    assert other.speeds[32].median > report.rows[0].speeds[32].median
    assert (other.is_eligible, report.chosen) == (False, "onnxruntime")
    assert other.reason.startswith("probabilities differ by up to 0.")


def test_bfloat16_needs_labelled_images(digits_run, run_folder, monkeypatch):
    with_engines(monkeypatch, openvino_bf16=lambda logits: logits * 1.001)
    without = bench(digits_run.bundle, **QUICK)
    assert "bfloat16 needs 200 labelled images to be compared on, found 0" in without.rows[1].reason
    report = bench(run_folder, "digits", **QUICK)
    assert (report.num_labelled, report.num_images) == (360, 376)
    assert report.rows[1].accuracy_difference == 0
    assert report.chosen == "openvino-bf16"


def test_bfloat16_that_changes_labels_is_refused(run_folder, monkeypatch):
    """Of 376 images 99.5 % are 375: the class 0 becomes 1, which are some 36 of 360 images of digits."""

    def confuse(logits):
        return np.where(np.eye(10, dtype=bool)[0], logits - 100, logits)

    with_engines(monkeypatch, openvino_bf16=confuse)
    row = bench(run_folder, "digits", **QUICK).rows[1]
    assert row.reason.endswith("of the labels are equal; 99.5% are needed")
    assert row.label_agreement < 0.95


def test_an_engine_without_its_library_is_a_row_with_the_remedy(digits_run, monkeypatch):
    opened = bench_module.open_engine

    def open_without_openvino(path, name, *, num_threads):
        if name.startswith("openvino"):
            raise ModuleNotFoundError("No module named 'openvino'", name="openvino")
        return opened(path, name, num_threads=num_threads)

    monkeypatch.setattr(bench_module, "open_engine", open_without_openvino)
    report = bench(digits_run.bundle, **QUICK)
    row = next(row for row in report.rows if row.engine == "openvino")
    assert (dict(row.speeds), row.is_eligible) == ({}, False)
    assert "pip install 'recog[fast]'" in row.reason
    assert report.chosen.startswith("onnxruntime")


def test_nothing_is_recorded_unless_wanted(digits_run, tmp_path):
    assert bench(digits_run.bundle, record=False, **QUICK).recorded_in is None
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("settings", [{"batch_sizes": ()}, {"batch_sizes": (0,)}, {"seconds": 0}, {"seconds": 1e9}])
def test_impossible_settings_are_refused(digits_run, settings):
    with pytest.raises(ConfigError, match="expected"):
        bench(digits_run.bundle, **settings)


def test_milliseconds_per_image_and_none_for_what_cannot_be_trained():
    (first,) = list_networks("test_resnet")
    found, failed = measure_networks([first, replace(first, name="absent")], num_threads=1)
    assert found.ms is not None
    assert 0 < found.ms < 1000
    assert failed.ms is None


def test_too_many_networks_are_refused():
    (first,) = list_networks("test_resnet")
    with pytest.raises(ConfigError, match="takes up to 50 networks; the pattern matches 51"):
        list(measure_networks([first] * 51, num_threads=1))
