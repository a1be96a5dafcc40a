import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.slices import slice_by_name
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


def test_prints_the_main_results():
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
    assert "Warning: 2 of 7 images used in training." in text
    assert "Warning: The test split has been used 2 times." in text
    assert "Warning: 1 of 8 images could not be used." in text
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
    text = printed(replace(report, calibration_method="temperature"))
    assert "Confused" not in text
    assert "Warning" not in text


def test_a_long_list_of_exclusions_is_cut():
    excluded = tuple((f"{i}.jpg", "truncated") for i in range(200))
    report = report_of(("a", "b"), [0, 1], [0, 1], DataFacts(name="d", excluded=excluded))
    text = printed(report)
    assert text.count("truncated") == 10
    assert "and 190 more, listed in report.json" in text


def graded(num_images=200, num_classes=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % num_classes
    return evaluate(
        rng.normal(0, 1, (num_images, num_classes)) + 2 * np.eye(num_classes)[labels],
        labels,
        class_names=[f"class {c}" for c in range(num_classes)],
        names=[f"{i}.jpg" for i in range(num_images)],
        data=DataFacts(name="d", num_seen_in_training=0),
    )


def test_measures_come_with_their_intervals():
    report = graded()
    text = " ".join(printed(report, width=120).split())
    low, high = report.interval("matthews")
    assert f"Matthews correlation {report.matthews:.3f} 1 is best; chance level: 0; 95% {low:.3f}-{high:.3f}" in text
    assert "Top-5 accuracy" in text
    assert f"Brier score {report.brier:.3f} 0 is best, 2 is worst; 95%" in text
    assert f"ECE {100 * report.ece:.1f}% gap between confidence and accuracy; 95%" in text
    assert f"NLL {report.nll:.3f} uniform guess: 1.792; 95%" in text  # ln 6


def test_thresholds_say_what_is_automated_at_what_error():
    report = graded()
    text = printed(report)
    for cut in report.scores.thresholds:
        assert f"{cut.num_automated} of 200" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_slices_are_cut_and_the_low_ones_named():
    report = graded(600)
    names = ["[b]bad"] * 20 + [f"place {i % 14}" for i in range(580)]
    is_correct = np.array([False] * 20 + [True] * 580)
    text = printed(replace(report, slices=(slice_by_name("source-folder", names, is_correct),)))
    assert "By source-folder, the worst first: 10 of 15" in text
    line = next(line for line in text.splitlines() if "[b]bad" in line)
    assert "0 of 20" in line
    assert "below the whole" in line
