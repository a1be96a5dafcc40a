"""How faithful the methods of `recog explain` are on networks of several kinds.

`python benchmarks/explain_faithfulness.py RUN...`: each RUN is a run folder whose data are where it found them. Prints one table
per network: the checks of every method on test images of all classes, for their predicted labels, with 95% intervals, beside a
random map and an edge map of equal smoothness.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from recog.attribution.check import MethodCheck, check_methods, most_faithful
from recog.attribution.table import EXPLAINERS
from recog.core.hardware import cpu_name, num_cores
from recog.verbs import explain_choice
from recog.verbs.explain_choice import Choice, Opened, choose_items, read_items

HEADINGS = ("Method", "Deletion", "Insertion", "Gain over random", "Gain over edges", "Random weights", "Two halves")
HEADINGS = (*HEADINGS, "Gap of the sum", "s per image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--methods", nargs="+", default=list(EXPLAINERS), choices=list(EXPLAINERS))
    options = parser.parse_args()
    names = ("torch", "timm", "captum", "onnxruntime", "numpy")
    print(
        f"{cpu_name()}, {num_cores()} cores, Python {platform.python_version()}, "
        + ", ".join(f"{n} {version(n)}" for n in names)
    )
    for run in options.runs:
        for line in table(run, options.images, options.methods):
            print(line, flush=True)


def table(run: Path, num_images: int, methods: list[str]) -> Iterator[str]:
    opened = Opened.load(run)
    num_classes = len(opened.predictor.class_names)
    explain_choice.PER_CLASS = -(-num_images // num_classes)
    items, _, _ = choose_items(opened, Choice())
    items, images, _ = read_items(opened.predictor, items[:num_images])
    labels = opened.subject.logits(images).argmax(axis=1)
    right = np.mean([label in (item.labels or ()) for label, item in zip(labels, items, strict=True)])
    manifest = opened.predictor.manifest
    height, width = manifest.preprocess.image_size
    yield f"\n## {run.name}: {manifest.architecture}, {width} x {height} px, n = {len(images)}, {right:.0%} of them right\n"
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|---|" + "---:|" * (len(HEADINGS) - 1)
    checks = []
    started = time.perf_counter()
    for check in check_methods(opened.subject, images, labels, methods):
        checks.append(check)
        yield row(check)
    best = most_faithful(checks)
    yield f"\nUsed: {best.method if best else 'none'}."
    print(f"{run.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)


def row(check: MethodCheck) -> str:
    found, point, similarity = check.faithfulness, check.pointing, check.weight_similarity
    gains = (f"{g.mean:+.3f} ({g.low:+.3f} to {g.high:+.3f})" for g in (found.over_random, found.over_edges))
    cells = [
        check.method,
        f"{found.deletion:.3f}",
        f"{found.insertion:.3f}",
        *gains,
        "-" if similarity is None else f"{similarity:+.2f}{' (flagged)' if check.ignores_weights else ''}",
        "-"
        if point is None
        else "{} of {} ({:.0%} to {:.0%})".format(point.num_right, point.num_cases, *point.interval),
        "-" if check.completeness_gap is None else f"{check.completeness_gap:.1%}",
        f"{check.seconds_per_image:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
