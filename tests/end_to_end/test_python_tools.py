"""recog within other tools: DataFrames, scikit-learn, process pools, joblib and Ray. See `make test-extras`."""

import importlib
import multiprocessing
import os

import numpy as np
import pytest

import recog

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(flowers):
    """60 photos of three kinds, and their names."""
    files = [
        file for kind in ("daisy", "roses", "tulips") for file in sorted((flowers / "train" / kind).iterdir())[:20]
    ]
    return files, [file.parent.name for file in files]


@pytest.fixture(scope="module")
def bundle(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    before = os.getcwd()
    os.chdir(folder)
    try:
        return recog.train(photos, recipe="head", threads=1, verbose=False).bundle.resolve()
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def clf(bundle):
    return recog.load(bundle)


@pytest.fixture(scope="module")
def expected(clf, photos):
    return clf.predict_proba(photos[0][:6])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_dataframe_in_and_out(library, bundle, photos):
    frame = importlib.import_module(library).DataFrame({"photo path": list(map(str, photos[0])), "species": photos[1]})
    columns = {"path_column": "photo path", "label_column": "species"}
    layout = recog.DataLayout(**columns)
    assert recog.scan(frame, layout=layout).report.num_images == 60
    report = recog.evaluate(bundle, frame, layout=layout, include_seen=True).report
    table = report.predictions.to_dataframe()
    assert table["is_correct"].mean() == pytest.approx(report.accuracy)
    assert table.groupby("true").size().to_dict() == {"daisy": 20, "roses": 20, "tulips": 20}


def test_cross_validation_of_scikit_learn(photos):
    from sklearn.model_selection import cross_val_score

    scores = cross_val_score(recog.ImageClassifier(recipe="head", threads=1), *photos, cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.5  # chance: 1/3


def test_a_spawned_pool(clf, photos, expected):
    files = photos[0][:6]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        parts = pool.map(clf.predict_proba, [files[:3], files[3:]])
    assert np.array_equal(np.concatenate(parts), expected)


def test_joblib(clf, photos, expected):
    from joblib import Parallel, delayed

    files = photos[0][:6]
    parts = Parallel(n_jobs=2)(delayed(clf.predict_proba)(part) for part in (files[:3], files[3:]))
    assert np.array_equal(np.concatenate(parts), expected)


def test_ray(clf, photos, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray keeps its token
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        answer = ray.remote(lambda model, files: model.predict_proba(files)).remote(clf, photos[0][:6])
        assert np.array_equal(ray.get(answer, timeout=300), expected)
    finally:
        ray.shutdown()
