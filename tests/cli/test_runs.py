"""`recog runs` as it prints."""

import json
from datetime import datetime
from pathlib import Path

import pytest
import typer

from recog.cli import runs as report_module
from recog.cli.runs import COLUMNS, _print_table, report, runs
from recog.runs.listing import RunSummary


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


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
@pytest.mark.parametrize("length", [8, 30, 50])
def test_no_name_is_broken_at_any_width(width, length, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    names = [f"run-{'x' * (length - 5)}{i}" for i in range(2)]
    found = [
        RunSummary(
            name=name, folder=Path(name), data="photographs", recipe="finetune", model="tf_efficientnet_lite0",
            when=datetime(2026, 1, 31, 12, 0), state="finished", measure="accuracy", value=0.875, split="val",
        )
        for name in names
    ]  # fmt: skip
    _print_table(found)
    header, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names
    assert all("87.5% (val)" in line for line in lines)  # not measured on a test split
    assert header.split()[0] == "run"
    if width >= length + 13:
        assert max(map(len, lines)) <= width
    if width == 120:
        assert header.split() == list(COLUMNS)


def test_no_runs_are_not_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runs()
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    assert shown.err == "no runs in runs; start one with: recog train DATA\n"


@pytest.fixture
def one_run(digits_run, tmp_path, monkeypatch):
    """A folder with runs/digits-1."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits-1").symlink_to(digits_run.folder.absolute())
    monkeypatch.chdir(tmp_path)
    return digits_run


@pytest.mark.parametrize(
    ("is_terminal", "screen", "wanted", "opened"),
    [(True, ":0", True, 1), (True, "", True, 0), (False, ":0", True, 0), (True, ":0", False, 0)],
)
def test_a_report_is_opened_on_a_terminal_with_a_screen(
    one_run, monkeypatch, capsys, is_terminal, screen, wanted, opened
):
    pages = []
    monkeypatch.setattr(report_module.webbrowser, "open", pages.append)
    monkeypatch.setattr(report_module.sys, "platform", "linux")
    monkeypatch.setattr(report_module.sys.stdout, "isatty", lambda: is_terminal, raising=False)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    if screen:
        monkeypatch.setenv("DISPLAY", screen)
    report("digits-1", open_page=wanted)
    assert capsys.readouterr().out == "runs/digits-1/report.html\n"
    assert len(pages) == opened
    assert all(page.startswith("file:///") and page.endswith("/runs/digits-1/report.html") for page in pages)


def test_an_unknown_run_ends_with_exit_code_4(one_run, capsys):
    with pytest.raises(typer.Exit) as ended:
        report("digit-1")
    assert ended.value.exit_code == 4
    assert "there is no run 'digit-1'. Did you mean 'digits-1'?" in capsys.readouterr().err


def test_figures_are_written_and_named(one_run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    report("digits-1", png=tmp_path / "png")
    out, err = capsys.readouterr()
    names = ["confusion_matrix.png", "curves.png", "errors.png", "reliability.png"]
    assert out.splitlines() == [str(tmp_path / "png" / name) for name in names]
    assert err == ""
