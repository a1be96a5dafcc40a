"""The runs of a folder, and the page of one of them."""

import json
import os

import pytest

from recog.core.errors import BundleError
from recog.runs.listing import find_page, list_runs

TOML = 'recipe = "scratch"\n[data]\nsource = "../../photos"\n[model]\nname = "resnet8"\n'


def write_run(folder, *, report=None, toml=TOML, at=0):
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text(toml)
    if report is not None:
        (folder / "report.json").write_text(report if isinstance(report, str) else json.dumps(report))
        (folder / "report.html").write_text("<html>")
    for path in folder.iterdir():
        os.utime(path, (at, at))
    return folder


def report_of(task="multiclass", **measures):
    return {"task": task, "data": {"name": "photos", "split": "test"}, "num_images": 40, **measures}


def test_runs_are_listed_the_newest_first_with_their_headline(tmp_path):
    write_run(tmp_path / "photos-1", report=report_of(accuracy=0.875), at=100)
    write_run(tmp_path / "photos-2", at=300)
    write_run(tmp_path / "photos-3", report=report_of("multilabel", accuracy=0.2, mean_average_precision=0.5), at=200)
    (tmp_path / "no-run").mkdir()
    two, three, one = list_runs(tmp_path)
    assert [run.name for run in (one, two, three)] == ["photos-1", "photos-2", "photos-3"]
    assert (one.data, one.recipe, one.model, one.measure, one.value) == (
        "photos",
        "scratch",
        "resnet8",
        "accuracy",
        0.875,
    )
    assert (one.split, one.num_images, one.state, one.when.timestamp()) == ("test", 40, "finished", 100)
    assert (two.data, two.measure, two.value, two.state) == ("photos", None, None, "unfinished")
    assert (three.measure, three.value) == ("mAP", 0.5)


@pytest.mark.parametrize("report", ["{", "[]", '{"task": "multiclass"}', json.dumps(report_of(accuracy="high"))])
def test_a_damaged_report_is_a_state_of_its_run(tmp_path, report):
    write_run(tmp_path / "photos-1", report=report)
    (run,) = list_runs(tmp_path)
    assert run.value is None
    assert "report.json" in run.state


def test_a_damaged_run_config_is_a_state_of_its_run(tmp_path):
    write_run(tmp_path / "photos-1", report=report_of(accuracy=1.0), toml="recipe = ")
    (run,) = list_runs(tmp_path)
    assert "is not valid TOML" in run.state


def test_no_folder_has_no_runs(tmp_path):
    assert list_runs(tmp_path / "runs") == []
    (tmp_path / "runs").write_text("")
    with pytest.raises(BundleError, match="cannot be listed"):
        list_runs(tmp_path / "runs")


def test_the_page_of_a_run_a_bundle_and_an_evaluation(tmp_path):
    run = write_run(tmp_path / "runs" / "photos-1", report=report_of(accuracy=1.0))
    evaluation = write_run(run / "evaluations" / "others-1", report=report_of(accuracy=1.0))
    runs = tmp_path / "runs"
    assert find_page("photos-1", runs) == run / "report.html"
    assert find_page(run, runs) == run / "report.html"
    assert find_page(run / "report.html", runs) == run / "report.html"
    assert find_page(evaluation, runs) == evaluation / "report.html"


def test_why_there_is_no_page(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "photos-1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"photos-1 is unfinished .* recog train --resume .*photos-1"):
        find_page("photos-1", runs)
    with pytest.raises(BundleError, match=r"there is no run 'photo-1'. Did you mean 'photos-1'\?"):
        find_page("photo-1", runs)
    with pytest.raises(BundleError, match=r"empty has no report.html"):
        find_page(tmp_path / "empty", runs)
    with pytest.raises(BundleError, match=r"there is no run 'a\\0b'|there is no run"):
        find_page("a\0b", runs)
