import io

import numpy as np
import pytest
from rich.console import Console

from recog.evaluation.results.comparison import PairedMeasure, compare
from recog.report.comparison import p_text, points, print_comparison, print_paired, verdict


def comparison(num_both, lost, gained, names=None):
    n = num_both + lost + gained
    labels = np.ones(n, dtype=np.int64)
    a, b = np.ones(n, dtype=int), np.ones(n, dtype=int)
    b[:lost] = 0
    a[lost : lost + gained] = 0
    probs = np.eye(2)[a], np.eye(2)[b]
    return compare(
        probs,
        (probs[0] == 1, probs[1] == 1),
        labels,
        class_names=("c", "[red]d"),
        names=names or list(map(str, range(n))),
    )


def printed(result, **options):
    buffer = io.StringIO()
    names = {"name_a": "runs/old", "name_b": "runs/new", "title": "pets: images"} | options
    print_comparison(result, Console(file=buffer, width=80, highlight=False), **names)
    return buffer.getvalue()


def test_the_verdict_in_words():
    assert verdict(comparison(80, 3, 17)) == (
        "B is better: of 100 images, 17 correct only with B, 3 correct only with A; "
        "p = 0.0026 (McNemar's exact test)."  # 2 (1 + 20 + 190 + 1140) / 2^20
    )
    assert verdict(comparison(80, 17, 3)).startswith("A is better: of 100 images, 17 correct only with A")
    assert verdict(comparison(5, 2, 3)).startswith("No significant difference on 10 images: 3 correct only with B")
    assert "on the same ones" in verdict(comparison(5, 0, 0))


def test_small_numbers():
    assert (p_text(0.01234), p_text(1.0), p_text(1e-9)) == ("p = 0.012", "p = 1", "p < 0.0001")
    assert (points(0.0212), points(-0.004)) == ("+2.1", "-0.4")


def test_prints_the_main_results():
    text = printed(comparison(80, 3, 17))
    assert "B is better" in text
    assert "A   runs/old      83.0%" in text
    assert "B   runs/new      97.0%" in text
    assert "B - A: +14.0 points; 95% interval" in text
    assert "too narrow" not in text
    assert "Correct only with A: 3 images" in text
    assert "Correct only with B: 17 images" in text
    assert "and 7 more" in text
    assert "too narrow: only 4 differ" in " ".join(printed(comparison(80, 1, 3)).split())


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "a\u202eb\x1b[31m"])
def test_names_are_text(name):
    text = printed(comparison(1, 1, 0, names=[name, "other"]), name_a=name, title=name)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert name in text or r"a\u202eb\x1b[31m" in text
    assert "[red]d" in text


def test_several_labels_have_a_map():
    targets = np.array([[1, 0], [0, 1], [0, 0]] * 5, dtype=bool)
    better, worse = np.where(targets, 0.9, 0.1), np.tile([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2]], (5, 1))
    result = compare(
        (worse, better), (worse >= 0.5, better >= 0.5), targets, class_names=("c", "d"), names=list(map(str, range(15)))
    )
    text = printed(result)
    assert "Subset accuracy" in text
    # worse: what shows c comes last, 5 of 15; what shows d after five others, 5 of 10
    assert "mAP: A 41.7%, B 100%; B - A: +58.3 points; 95% interval +" in " ".join(text.split())
    assert "(no label)" in text


def test_paired_rows_are_in_points():
    buffer = io.StringIO()
    rows = {
        "jpeg_quality": PairedMeasure(a=0.5, b=0.625, difference_ci95=(0.05, 0.2)),
        "fog": PairedMeasure(a=1, b=1, difference_ci95=None),
    }
    print_paired(rows, Console(file=buffer, width=80, highlight=False), title="[b]two")
    words = " ".join(buffer.getvalue().split())
    assert words.startswith("[b]two")
    assert "jpeg quality 50.0% 62.5% +12.5 +5.0 to +20.0" in words
    assert "fog 100% 100% +0.0" in words
