"""`recog train --budget T` beside the plan without a budget, stopped at T: time of the whole command, and test accuracy.

    python benchmarks/budget.py FLOWERS CIFAR10 [T ...]

Completed runs are kept in budget.jsonl in the folder that RECOG_BUDGET names, so that the benchmark can be stopped and continued;
RECOG_REPEATS is the number of runs of each, with the seeds 0, 1, ....
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import Repeats, Timing, recog, write_result

from recog.evaluation.measures.counts import wilson_interval
from recog.recipes.cost import parse_budget

BUDGETS = ("30s", "2m")
TOO_SHORT, TIMED_OUT = 2, 124  # exit codes of recog, and of timeout(1)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The runs of one command on one data set within one time."""

    data: str
    budget: str
    planned: tuple[Timing, ...]
    unplanned: tuple[Timing, ...]


def measure(sources: Sequence[Path], budgets: Sequence[str], folder: Path, num_repeats: int) -> Iterator[Cell]:
    repeats = Repeats(path=folder / "budget.jsonl")
    for budget in budgets:
        for source in sources:
            runs = {}
            for kind, options, prefix in (
                ("planned", ("--budget", budget), ()),
                ("unplanned", (), ("timeout", "-s", "INT", f"{parse_budget(budget):g}")),
            ):
                runs[kind] = tuple(
                    repeats.timing(
                        f"{source.stem} {budget} {kind} {seed}",
                        [*prefix, *recog("train", str(source), *options, "--seed", str(seed), "--json")],
                        cwd=folder,
                        codes=(0, TOO_SHORT, TIMED_OUT, 130),
                    )
                    for seed in range(num_repeats if kind == "planned" else 1)
                )
            yield Cell(data=source.stem, budget=budget, **runs)


def outcomes(timings: Sequence[Timing]) -> list[dict[str, float]]:
    """accuracy, correct and n of each run that ended with a bundle."""
    found = []
    for timing in timings:
        if timing.stdout.strip():
            report = json.loads(timing.stdout)["report"]
            found.append({"accuracy": report["accuracy"], "n": report["num_images"]})
    return found


def row(cell: Cell) -> str:
    seconds = parse_budget(cell.budget)
    planned, other = outcomes(cell.planned), outcomes(cell.unplanned)
    if not planned:
        refused = f"too short, exit code 2 after {cell.planned[0].median_s:.0f} s"
        return f"| {cell.data} | {cell.budget} | {refused} | | | {_of(other)} |"
    times = [timing.median_s for timing in cell.planned]
    late = max(times) / seconds - 1
    mean = statistics.fmean(found["accuracy"] for found in planned)
    n = int(planned[0]["n"])
    low, high = wilson_interval(round(mean * n), n)
    return (
        f"| {cell.data} | {cell.budget} | {statistics.median(times):.1f} ({min(times):.1f}-{max(times):.1f}, n = {len(times)}) "
        f"| {late:+.0%} | {mean:.1%} ({low:.1%}-{high:.1%}) | {_of(other)} |"
    )


def _of(found: Sequence[dict[str, float]]) -> str:
    return f"{found[0]['accuracy']:.1%}" if found else "no bundle"


def main() -> None:
    sources = [Path(argument).resolve() for argument in sys.argv[1:3]]
    budgets = tuple(sys.argv[3:]) or BUDGETS
    with tempfile.TemporaryDirectory(prefix="recog-budget-") as temporary:
        folder = Path(os.environ.get("RECOG_BUDGET", temporary))
        folder.mkdir(parents=True, exist_ok=True)
        cells = list(measure(sources, budgets, folder, int(os.environ.get("RECOG_REPEATS", "3"))))
    columns = ("data", "budget", "s, whole command", "latest", "test accuracy, mean (95 %)", "no budget, stopped then")
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    write_result(
        "budget",
        "Training within a time budget",
        "The clock runs from process start to exit. `latest` is the end of the latest run against the budget.\n\n"
        + "\n".join([head, *map(row, cells)]),
    )


if __name__ == "__main__":
    main()
