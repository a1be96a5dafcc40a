import csv
import json

from recog.cli.output import print_cells, print_csv_row, print_json, print_lines, print_note

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


def test_csv_is_escaped_raw_or_not(capsys):
    print_csv_row([EVIL, "=1", "-1"])
    print_csv_row([EVIL, "=1", "-1"], raw=True)
    rows = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert rows == [[ESCAPED, "'=1", "-1"], [ESCAPED, "=1", "-1"]]
