import io
import re

import numpy as np
import pytest
from rich.console import Console

from recog.evaluation.report import DataFacts, evaluate
from recog.report.table import print_report


def report_of(class_names, preds, labels, data):
    return evaluate(
        np.eye(len(class_names))[preds] * 3,
        np.array(labels),
        class_names=class_names,
        names=[f"{i}.jpg" for i in range(len(labels))],
        data=data,
    )


def printed(report, width=80, **options):
    buffer = io.StringIO()
    print_report(report, Console(file=buffer, width=width, **options))
    return buffer.getvalue()


FLOWERS = report_of(
    ("daisy", "roses", "tulips"),
    [0, 0, 0, 1, 1, 1, 1],
    [0, 0, 1, 1, 1, 1, 0],
    DataFacts(
        name="flowers",
        split="test",
        excluded=(("a.jpg", "truncated"),),
        num_seen_in_training=2,
        test_openings=2,
    ),
)


def test_says_what_matters():
    text = printed(FLOWERS)
    assert "flowers, test split: 7 images, 3 classes" in text
    assert "71.4%  5 of 7; 95% interval 35.9-91.8%" in text  # scipy's binomtest(5, 7), method wilson
    table = text[text.index("Class ") : text.index("Confused")]
    rows = {line.split()[0]: line.split() for line in table.splitlines() if line.strip()}
    assert rows["daisy"] == ["daisy", "3", "66.7%", "21-94%", "66.7%", "21-94%", "66.7%"]
    assert rows["roses"] == ["roses", "4", "75.0%", "30-95%", "75.0%", "30-95%", "75.0%"]
    assert rows["tulips"] == ["tulips", "0", "n/a", "n/a", "n/a"]
    assert rows["Macro"] == ["Macro", "mean", "70.8%", "70.8%", "70.8%"]  # (2/3 + 3/4) / 2
    assert rows["Weighted"] == ["Weighted", "mean", "71.4%", "71.4%", "71.4%"]  # (3 * 2/3 + 4 * 3/4) / 7
    assert "1 of 3" in text  # daisy as roses
    assert "Warning: 2 of 7 images were also trained on." in text
    assert "Warning: The test split has been opened 2 times." in text
    assert "Warning: 1 of 8 files left out." in text
    assert "- a.jpg: truncated" in text
    assert "Warning: 1 of 3 classes without an image here." in text


HOSTILE = ("[red]x[/red]", "line\nbreak\x1b[31m", "a\u202eb", "y" * 255, "日本語")


@pytest.mark.parametrize("width", [80, 200])
def test_names_are_text_not_markup_and_fit(width):
    labels = list(range(5)) * 4
    report = report_of(HOSTILE, [(label + 1) % 5 for label in labels], labels, DataFacts(name="[bold]d"))
    text = printed(report, width=width, force_terminal=False)
    assert "[red]x[/red]" in text
    assert r"line\nbreak\x1b[31m" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]d" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_no_color(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(FLOWERS, force_terminal=True)
    assert not re.search(r"\x1b\[(\d+;)*[349]\d", text)  # SGR 30-49 and 90-97 are colours; 1 is bold
    assert "71.4%" in text


def test_many_classes_show_the_weakest():
    names = tuple(f"class{i:03d}" for i in range(100))
    labels = list(range(100)) * 2
    preds = [*range(100), 1, 0, *range(2, 100)]  # class000 and class001 are taken for each other once
    text = printed(report_of(names, preds, labels, DataFacts(name="d")))
    assert "The 10 classes with the lowest F1 of 100" in text
    assert text.index("class000") < text.index("class001") < text.index("class002")
    assert "class050" not in text.split("Macro mean")[0]


def test_no_errors_no_table_of_errors():
    report = report_of(("a", "b"), [0, 1] * 100, [0, 1] * 100, DataFacts(name="d", num_seen_in_training=0))
    text = printed(report)
    assert "Confused" not in text
    assert "Warning" not in text


def test_a_long_list_of_exclusions_is_cut():
    excluded = tuple((f"{i}.jpg", "truncated") for i in range(200))
    report = report_of(("a", "b"), [0, 1], [0, 1], DataFacts(name="d", excluded=excluded))
    text = printed(report)
    assert text.count("truncated") == 10
    assert "and 190 more, listed in report.json" in text
