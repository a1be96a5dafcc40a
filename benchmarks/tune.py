"""`recog tune` beside random search and the recipe without a search, each with the same time for the whole command.

    python benchmarks/tune.py CIFAR10 [--budget 10m] [--repeats 3] [--per-class 1000] [--name tune_cifar10]

Of the training images the first `--per-class` of each class are used; all test images measure the final run. Every repeat has
its own seed. Completed runs are kept in NAME.jsonl in the folder that RECOG_TUNE names, so that the benchmark can be continued.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import tempfile
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import Repeats, recog, write_result
from scipy.stats import t

from recog.core.files import natural_key
from recog.evaluation.measures.counts import wilson_interval

KINDS: Mapping[str, tuple[str, ...]] = {
    "tune (TPE)": ("tune", "--test"),
    "random search": ("tune", "--test", "--sampler", "random"),
    "default": ("train",),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one command: accuracy of its final run on val and test, and what the search did."""

    val: float
    test: float
    num_test: int
    seconds: float
    trials: str = ""
    corrected: float | None = None  # what the study expects on new images


def subset(source: Path, folder: Path, per_class: int) -> Path:
    """`source`, a zip of train/CLASS and test/CLASS, unpacked with `per_class` training images of each class."""
    target, taken = folder / f"{source.stem}-{per_class}", Counter[str]()
    if target.is_dir():
        return target
    partial = folder / f"{target.name}.partial"
    with zipfile.ZipFile(source) as archive:
        for name in sorted(archive.namelist(), key=natural_key):
            parts = Path(name).parts
            split = "train" if "train" in parts else "test"
            if name.endswith("/") or (split == "train" and taken[parts[-2]] >= per_class):
                continue
            taken[parts[-2]] += split == "train"
            path = partial / split / parts[-2] / parts[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))
    partial.rename(target)
    return target


def run(kind: str, data: Path, budget: str, seed: int, repeats: Repeats, folder: Path) -> Outcome:
    command = recog(KINDS[kind][0], str(data), *KINDS[kind][1:], "--budget", budget, "--seed", str(seed), "--json")
    timing = repeats.timing(f"{data.name} {budget} {kind} {seed}", command, cwd=folder)
    found = json.loads(timing.stdout)
    final = found if "run" in found else found["refit"]
    report = final["report"]
    with (folder / final["run"] / "results.csv").open(encoding="utf-8") as file:
        val = max(float(row["val_accuracy"]) for row in csv.DictReader(file))
    is_study = "trials" in found
    return Outcome(
        val=val,
        test=report["accuracy"],
        num_test=report["num_images"],
        seconds=timing.median_s,
        trials=", ".join(f"{count} {state}" for state, count in found["trials"].items()) if is_study else "",
        corrected=found["optimism"]["corrected"] if is_study and found["optimism"] else None,
    )


def row(kind: str, outcomes: Sequence[Outcome]) -> str:
    def of(values: Sequence[float]) -> str:
        return f"{statistics.fmean(values):.2%} ({min(values):.2%}-{max(values):.2%})"

    tests = [each.test for each in outcomes]
    n = outcomes[0].num_test
    low, high = wilson_interval(round(statistics.fmean(tests) * n), n)
    corrected = [each.corrected for each in outcomes if each.corrected is not None]
    expected = f"{statistics.fmean(corrected):.2%}" if corrected else ""
    seconds = max(each.seconds for each in outcomes)
    trials = "; ".join(each.trials for each in outcomes)
    val = of([each.val for each in outcomes])
    return f"| {kind} | {val} | {of(tests)} | {low:.2%}-{high:.2%} | {expected} | {seconds:.0f} | {trials} |"


def difference(name: str, ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Paired by seed, with Student's 95 % interval over the repeats, and in words."""
    gaps = [100 * (a - b) for a, b in zip(ours, theirs, strict=True)]
    mean = statistics.fmean(gaps)
    if len(gaps) < 2:
        return f"- {name}: {mean:+.2f} points, n = 1, so no interval"
    half = float(t.ppf(0.975, len(gaps) - 1)) * statistics.stdev(gaps) / len(gaps) ** 0.5
    word = "better" if mean - half > 0 else "worse" if mean + half < 0 else "a tie within the interval"
    return (
        f"- {name}: {mean:+.2f} points (95% interval {mean - half:+.2f} to {mean + half:+.2f}, n = {len(gaps)}): {word}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--per-class", type=int, default=1000)
    parser.add_argument("--name", default="tune_cifar10")
    options = parser.parse_args()
    folder = Path(os.environ.get("RECOG_TUNE") or tempfile.mkdtemp(prefix="recog-tune-"))
    data = subset(options.data, folder, options.per_class)
    repeats = Repeats(path=folder / f"{options.name}.jsonl")
    found: dict[str, list[Outcome]] = {kind: [] for kind in KINDS}
    for seed in range(options.repeats):  # all kinds in turn, so that a machine whose speed drifts is the same for them
        for kind in KINDS:
            found[kind].append(run(kind, data, options.budget, seed, repeats, folder))
    ours = found["tune (TPE)"]
    lines = [
        f"{sum(1 for _ in data.glob('train/*/*')):,} training images of {options.data.stem}, of which 15 % validate; "
        f"--budget {options.budget}; n = {options.repeats} seeds.",
        "",
        "| | val accuracy, mean (range) | test accuracy, mean (range) | 95% of the mean on test | expected by the study "
        "| longest, s | trials |",
        "|---|---|---|---|---|---|---|",
        *(row(kind, outcomes) for kind, outcomes in found.items()),
        "",
    ]
    for other in ("random search", "default"):
        for split in ("val", "test"):
            pairs = [[getattr(each, split) for each in outcomes] for outcomes in (ours, found[other])]
            lines.append(difference(f"tune less {other}, {split}", *pairs))
    write_result(options.name, "recog tune beside random search and the default", "\n".join(lines))


if __name__ == "__main__":
    main()
