"""Terminal output of `recog compare`: verdict, accuracies, and the images on which the two bundles differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recog.core.text import visible
from recog.evaluation.results.comparison import Changed, Comparison, PairedMeasure
from recog.report.text import percent, percent_range, plural

ACCURACY_NAMES = {"multiclass": "Accuracy", "multilabel": "Subset accuracy"}
MAX_LISTED = 10
FEW_CHANGED = 20  # images; below, the bootstrap interval is too narrow; use the exact test


def verdict(comparison: Comparison) -> str:
    """Which bundle is better, with the p-value, in a sentence."""
    n = plural(comparison.num_images, "image")
    lost, gained = comparison.num_only_a_right, comparison.num_only_b_right
    if lost + gained == 0:
        return f"No difference on {n}: A and B are correct on the same ones."
    p = f"{p_text(comparison.p_value)} (McNemar's exact test)"
    if comparison.better is None:
        return f"No significant difference on {n}: {gained:,} correct only with B, {lost:,} correct only with A; {p}."
    winner, loser = ("B", "A") if comparison.better == "B" else ("A", "B")
    wins, losses = max(lost, gained), min(lost, gained)
    return (
        f"{winner} is better: of {n}, {wins:,} correct only with {winner}, {losses:,} correct only with {loser}; {p}."
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
    console.print(
        f"B - A: {points(comparison.difference)} points; 95% interval {points(low)} to {points(high)} ({_method(comparison)})"
    )
    if (precision := comparison.mean_average_precision) is not None:
        console.print(_mean_precision(precision))
    for title, images, total in (
        ("Correct only with A", comparison.lost, comparison.num_only_a_right),
        ("Correct only with B", comparison.gained, comparison.num_only_b_right),
    ):
        if total:
            console.print(_changed(f"{title}: {plural(total, 'image')}", images))
            if total > MAX_LISTED:
                console.print(f"  and {total - MAX_LISTED:,} more")


def print_paired(rows: Mapping[str, PairedMeasure], console: Console, *, title: str) -> None:
    """A line per accuracy of both: its name, A, B, and the difference with its interval."""
    console.print(Text(visible(title), style="bold"))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("Images", overflow="fold")
    for name in ("A", "B", "B - A", "95%"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in rows.items():
        bounds = row.difference_ci95
        interval = "" if bounds is None else f"{points(bounds[0])} to {points(bounds[1])}"
        table.add_row(name.replace("_", " "), percent(row.a), percent(row.b), points(row.difference), interval)
    console.print(table)
    console.print("B - A in points; intervals are paired by image, and do not allow for the number of rows.")


def _method(comparison: Comparison) -> str:
    """How the interval of the difference was found; see `paired_interval`."""
    num_changed = comparison.num_only_a_right + comparison.num_only_b_right
    if num_changed == 0:
        return f"Wilson's bound for 0 of {comparison.num_images:,}, as no image differs"
    narrow = f"; too narrow: only {num_changed} differ" if num_changed < FEW_CHANGED else ""
    return f"paired bootstrap{narrow}"


def _mean_precision(measure: PairedMeasure) -> str:
    text = f"mAP: A {percent(measure.a)}, B {percent(measure.b)}; B - A: {points(measure.difference)} points"
    if measure.difference_ci95 is None:
        return text
    low, high = measure.difference_ci95
    return f"{text}; 95% interval {points(low)} to {points(high)} (paired bootstrap)"


def _accuracies(comparison: Comparison, name_a: str, name_b: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("")
    table.add_column("Bundle", overflow="fold")
    for name in (ACCURACY_NAMES[comparison.task], "95%", "Correct"):
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
    for name in ("Image", "Label", "A", "B"):
        table.add_column(name, overflow="fold")
    for image in images[:MAX_LISTED]:
        cells = (image.name, image.true_class, image.answer_a, image.answer_b)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return table
