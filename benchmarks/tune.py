"""`recog tune` beside random search and the recipe without a search, each with the same time for the whole command.

    python benchmarks/tune.py CIFAR10.zip [--budget 10m] [--repeats 3] [--per-class 1000] [--at-once 1] [--name tune_cifar10]
    python benchmarks/tune.py FLOWERS.zip --budget 3m --at-once 2 --name tune_flowers

Of the training images the first `--per-class` of each class are used; all test images measure the final run. Every repeat has
its own seed. `--at-once K` keeps K commands running, each with its share of the cores. Completed runs are kept in NAME.jsonl
in the folder that RECOG_TUNE names, so that the benchmark can be continued.
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

from harness import Repeats, Timing, recog, write_result
from scipy.stats import t

from recog.core.files import natural_key
from recog.evaluation.measures.counts import wilson_interval
from recog.runs.folder import RUN_CONFIG, load_run_config

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
    epochs: int = 0  # of the final run, as planned
    is_default: bool = False  # the search found nothing better
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


def run_all(data: Path, budget: str, seeds: int, repeats: Repeats, at_once: int) -> dict[str, list[Outcome]]:
    """The outcomes of each kind by seed. All kinds in turn, so that a machine whose speed drifts is the same for them."""
    threads = str(max(1, (os.cpu_count() or 1) // at_once))
    os.environ["OMP_NUM_THREADS"] = threads
    commands = {
        f"{data.name} {budget} {threads} threads, {kind}, seed {seed}": recog(
            verb, str(data), *options, "--budget", budget, "--seed", str(seed), "--threads", threads, "--json"
        )
        for seed in range(seeds)
        for kind, (verb, *options) in KINDS.items()
    }
    folder = repeats.path.parent
    outcomes = [read_outcome(timing, folder) for timing in repeats.together(commands, at_once, cwd=folder).values()]
    return {kind: outcomes[index :: len(KINDS)] for index, kind in enumerate(KINDS)}


def read_outcome(timing: Timing, folder: Path) -> Outcome:
    found = json.loads(timing.stdout)
    final = found if "run" in found else found["refit"]
    report = final["report"]
    is_study = "trials" in found
    return Outcome(
        val=read_val(folder / final["run"]),
        test=report["accuracy"],
        num_test=report["num_images"],
        seconds=timing.median_s,
        trials=", ".join(f"{count} {state}" for state, count in found["trials"].items()) if is_study else "",
        epochs=read_epochs(folder / final["run"]),
        is_default=is_study and found["best"]["number"] == found["default"]["number"],
        corrected=found["optimism"]["corrected"] if is_study and found["optimism"] else None,
    )


def read_val(run: Path) -> float:
    """The best accuracy of the run on its validation split; of a head, the one that chose it."""
    with (run / "results.csv").open(encoding="utf-8") as file:
        return max(float(row["val_accuracy"]) for row in csv.DictReader(file))


def read_epochs(run: Path) -> int:
    return load_run_config(run / RUN_CONFIG).optim.epochs or 0


def row(kind: str, outcomes: Sequence[Outcome]) -> str:
    def of(values: Sequence[float]) -> str:
        return f"{statistics.fmean(values):.2%} ({min(values):.2%}-{max(values):.2%})"

    tests = [each.test for each in outcomes]
    n = outcomes[0].num_test
    low, high = wilson_interval(round(statistics.fmean(tests) * n), n)
    corrected = [each.corrected for each in outcomes if each.corrected is not None]
    expected = f"{statistics.fmean(corrected):.2%}" if corrected else ""
    seconds = max(each.seconds for each in outcomes)
    trials = "; ".join(
        f"{each.trials}{', the default is best' if each.is_default else ''}" for each in outcomes if each.trials
    )
    epochs = ", ".join(str(each.epochs) for each in outcomes)
    val = of([each.val for each in outcomes])
    return f"| {kind} | {val} | {of(tests)} | {low:.2%}-{high:.2%} | {expected} | {epochs} | {seconds:.0f} | {trials} |"


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
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--name", default="tune_cifar10")
    options = parser.parse_args()
    folder = Path(os.environ.get("RECOG_TUNE") or tempfile.mkdtemp(prefix="recog-tune-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    data = subset(options.data, folder, options.per_class)
    repeats = Repeats(path=folder / f"{options.name}.jsonl")
    found = run_all(data, options.budget, options.repeats, repeats, options.at_once)
    ours = found["tune (TPE)"]
    way = "The commands ran one after the other."
    if options.at_once > 1:
        way = f"{options.at_once} commands ran at any time, {os.environ['OMP_NUM_THREADS']} of {os.cpu_count()} cores each."
    lines = [
        f"{sum(1 for _ in data.glob('train/*/*')):,} training images of {options.data.stem}, of which 15 % validate; "
        f"--budget {options.budget}; n = {options.repeats} seeds. {way}",
        "",
        "| | val accuracy, mean (range) | test accuracy, mean (range) | 95% of the mean on test | expected by the study "
        "| epochs of the final run | longest, s | trials |",
        "|---|---|---|---|---|---|---|---|",
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
