"""`recog runs` as it prints."""

import json

import pytest

from recog.cli.runs import runs


@pytest.fixture
def here(digits_run, tmp_path, monkeypatch):
    """A folder with runs/digits-1."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits-1").symlink_to(digits_run.folder.absolute())
    monkeypatch.chdir(tmp_path)
    return digits_run


def test_a_pipe_gets_one_tab_separated_line_per_run(here, capsys):
    runs()
    header, line = capsys.readouterr().out.splitlines()
    assert header.split("\t") == ["run", "data", "recipe", "network", "accuracy", "when"]
    name, data, recipe, network, accuracy, when = line.split("\t")
    assert (name, data, recipe, network) == ("digits-1", "digits", "scratch", "resnet8")
    assert accuracy == f"{here.report.accuracy:.1%}"
    assert len(when) == len("2026-01-31 12:00")


def test_json_has_what_the_table_rounds(here, capsys):
    runs(as_json=True)
    (run,) = json.loads(capsys.readouterr().out)
    assert (run["name"], run["value"], run["num_images"]) == ("digits-1", here.report.accuracy, 360)


def test_no_runs_are_not_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs()
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    assert shown.err == "no runs in runs; start one with: recog train DATA\n"
