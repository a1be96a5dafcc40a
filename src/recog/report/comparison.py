"""A comparison in the terminal: what follows in words first, then the numbers and the images behind it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recog.evaluation.results.comparison import Changed, Comparison, PairedMeasure
from recog.report.text import percent, percent_range, plural, visible

MAX_SHOWN = 10
FEW_CHANGED = 20  # images; below, a bootstrap has too little to resample, and the exact test is the one to trust


def verdict(comparison: Comparison) -> str:
    """What the images say of A and B, in words, with how sure it is."""
    n = plural(comparison.num_images, "image")
    lost, gained = comparison.num_only_a_right, comparison.num_only_b_right
    if lost + gained == 0:
        return f"No difference can be told from n = {n}: A and B are right and wrong on the same ones."
    p = f"{p_text(comparison.p_value)} (McNemar's exact test)"
    if comparison.better is None:
        return (
            f"No difference can be told from n = {n}: B is right on {gained:,} that A gets wrong and wrong on {lost:,} "
            f"that A gets right, as chance alone may have it; {p}."
        )
    winner, loser = ("B", "A") if comparison.better == "B" else ("A", "B")
    wins, losses = max(lost, gained), min(lost, gained)
    return (
        f"{winner} is better: of n = {n} it is right on {wins:,} that {loser} gets wrong and wrong on {losses:,} "
        f"that {loser} gets right; {p}."
    )


def p_text(p_value: float) -> str:
    """'p = 0.013', 'p < 0.0001'."""
    return "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.2g}"


def points(difference: float) -> str:
    """A difference of two rates in percentage points: '+2.1', '-0.4'."""
    return f"{100 * difference:+.1f}"


def print_comparison(comparison: Comparison, console: Console, *, name_a: str, name_b: str, title: str) -> None:
    """Verdict, accuracies, difference, and the images that changed. Names are text, not markup."""
    console.print(Text(visible(title), style="bold"))
    console.print(Text(verdict(comparison)))
    console.print(_accuracies(comparison, name_a, name_b))
    low, high = comparison.difference_ci95
    num_changed = comparison.num_only_a_right + comparison.num_only_b_right
    narrow = f"; too narrow, as only {num_changed} changed" if 0 < num_changed < FEW_CHANGED else ""
    console.print(
        f"B less A: {points(comparison.difference)} points; 95% interval {points(low)} to {points(high)} "
        f"(paired bootstrap{narrow})"
    )
    if (precision := comparison.mean_average_precision) is not None:
        console.print(_mean_precision(precision))
    for words, images, total in (
        ("Right by A, wrong by B", comparison.lost, comparison.num_only_a_right),
        ("Wrong by A, right by B", comparison.gained, comparison.num_only_b_right),
    ):
        if total:
            console.print(_changed(f"{words}: {plural(total, 'image')}", images))
            if total > MAX_SHOWN:
                console.print(f"  and {total - MAX_SHOWN:,} more")


def _mean_precision(measure: PairedMeasure) -> str:
    text = f"mAP: A {percent(measure.a)}, B {percent(measure.b)}; B less A: {points(measure.difference)} points"
    if measure.difference_ci95 is None:
        return text
    low, high = measure.difference_ci95
    return f"{text}; 95% interval {points(low)} to {points(high)} (paired bootstrap)"


def _accuracies(comparison: Comparison, name_a: str, name_b: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("")
    table.add_column("Bundle", overflow="fold")
    accuracy_name = "Accuracy" if comparison.task == "multiclass" else "All labels right"
    for name in (accuracy_name, "95%", "Right"):
        table.add_column(name, justify="right", no_wrap=True)
    for side, name, accuracy, interval, count in (
        ("A", name_a, comparison.accuracy_a, comparison.accuracy_a_ci95, comparison.num_correct_a),
        ("B", name_b, comparison.accuracy_b, comparison.accuracy_b_ci95, comparison.num_correct_b),
    ):
        right = f"{count:,} of {comparison.num_images:,}"
        table.add_row(side, Text(visible(name)), percent(accuracy), percent_range(interval), right)
    return table


def _changed(title: str, images: Sequence[Changed]) -> Table:
    table = Table(title=title, title_style="bold", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("Image", "Is", "A said", "B said"):
        table.add_column(name, overflow="fold")
    for image in images[:MAX_SHOWN]:
        cells = (image.name, image.true_class, image.answer_a, image.answer_b)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return table
