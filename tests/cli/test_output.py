import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from recog.cli import output
from recog.cli.output import activity, from_here, print_cells, print_json, print_lines, print_note, print_rendered

EVIL = "a\x1b[31m\u202e\nb\t\udcff"
ESCAPED = r"a\x1b[31m\u202e\nb\t\udcff"


def test_foreign_text_is_one_printable_line_wherever_it_leaves(capsys):
    print_note(EVIL, EVIL, prefix=("error: ", "bold"))
    print_lines(EVIL, EVIL)
    print_cells([EVIL, EVIL])
    seen = capsys.readouterr()
    assert seen.err == f"error: {ESCAPED}\n{ESCAPED}\n"
    assert seen.out == f"{ESCAPED}\n{ESCAPED}\n{ESCAPED}\t{ESCAPED}\n"


def test_a_note_is_text_and_no_markup(capsys):
    print_note("[red]cat[/red]")
    assert capsys.readouterr().err == "[red]cat[/red]\n"


def test_json_is_ascii_and_has_the_names_as_they_are(capsys):
    print_json({"name": EVIL, "ü": 1})
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {"name": EVIL, "ü": 1}


NAME = "a name that is longer than any terminal " * 10


def render(console):
    table = Table(title="title", title_justify="left", box=None)
    table.add_column("name", overflow="fold")
    table.add_column("n")
    table.add_row(NAME.strip(), "1")
    console.print(table)


@pytest.mark.parametrize("to_stderr", [False, True])
def test_a_file_gets_whole_names_and_no_padding(capsys, monkeypatch, to_stderr):
    monkeypatch.setenv("COLUMNS", "40")
    print_rendered(render, to_stderr=to_stderr)
    shown = capsys.readouterr()
    text, other = (shown.err, shown.out) if to_stderr else (shown.out, shown.err)
    assert other == ""
    assert NAME.strip() in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert len(text.splitlines()) == 3


def test_a_terminal_gets_what_fits(capsys, monkeypatch):
    monkeypatch.setattr(output, "Console", lambda **options: Console(**options, width=40, force_terminal=True))
    print_rendered(render)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 40


def test_a_terminal_folds_notes_between_words_and_keeps_paths_whole(capsys, monkeypatch):
    """13 columns: 'error: one', 'two', then a path of 18 that no line can hold; what goes on is indented by two more."""
    monkeypatch.setattr(
        output, "notes", Console(stderr=True, highlight=False, force_terminal=True, width=13, no_color=True)
    )
    print_note("one two runs/a-long-name/b", "  three four", prefix=("error: ", ""))
    assert capsys.readouterr().err == "error: one\n  two\n  runs/a-long-name/b\n  three four\n"
    print_note("  three-four five")
    assert capsys.readouterr().err == "  three-four\n    five\n"


def test_a_path_below_the_current_folder_is_shown_from_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert from_here(tmp_path / "runs" / "a") == Path("runs/a")
    assert from_here(tmp_path.parent / "b") == tmp_path.parent / "b"


def test_a_terminal_shows_that_the_program_is_at_work(monkeypatch):
    for is_terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=is_terminal)
        monkeypatch.setattr(output, "notes", console)
        with activity("loading\nPyTorch"):
            pass
        assert (r"loading\nPyTorch" in console.file.getvalue()) == is_terminal
