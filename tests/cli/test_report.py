"""`recog report`: the page's path, and when a browser is started."""

import pytest
import typer

from recog.cli import report as report_module
from recog.cli.report import report


@pytest.fixture
def here(digits_run, tmp_path, monkeypatch):
    """A folder with runs/digits-1."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "digits-1").symlink_to(digits_run.folder.absolute())
    monkeypatch.chdir(tmp_path)
    return digits_run


@pytest.mark.parametrize(
    ("is_terminal", "screen", "wanted", "opened"),
    [(True, ":0", True, 1), (True, "", True, 0), (False, ":0", True, 0), (True, ":0", False, 0)],
)
def test_a_report_is_opened_on_a_terminal_with_a_screen(here, monkeypatch, capsys, is_terminal, screen, wanted, opened):
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


def test_an_unknown_run_ends_with_exit_code_4(here, capsys):
    with pytest.raises(typer.Exit) as ended:
        report("digit-1")
    assert ended.value.exit_code == 4
    assert "there is no run 'digit-1'. Did you mean 'digits-1'?" in capsys.readouterr().err


def test_figures_are_written_and_named(here, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    report("digits-1", png=tmp_path / "png")
    out, err = capsys.readouterr()
    names = ["confusion_matrix.png", "curves.png", "errors.png", "reliability.png"]
    assert out.splitlines() == [str(tmp_path / "png" / name) for name in names]
    assert err == ""
