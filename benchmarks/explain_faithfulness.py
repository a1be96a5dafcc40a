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
import torch

from recog.attribution.check import MethodCheck, check_methods, most_faithful
from recog.attribution.table import EXPLAINERS, attribute
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
    parser.add_argument("--speed", action="store_true", help="only the time of one Grad-CAM beside a forward pass")
    options = parser.parse_args()
    names = ("torch", "timm", "captum", "onnxruntime", "numpy")
    print(
        f"{cpu_name()}, {num_cores()} cores, Python {platform.python_version()}, "
        + ", ".join(f"{n} {version(n)}" for n in names)
    )
    for run in options.runs:
        if options.speed:
            print(speed(run), flush=True)
            continue
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
        if isinstance(check, MethodCheck):
            checks.append(check)
            yield row(check)
    best = most_faithful(checks)
    yield f"\nUsed: {best.method if best else 'none'}."
    print(f"{run.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)


def speed(run: Path, num_rounds: int = 9) -> str:
    """Grad-CAM of one image beside a forward pass of the same torch network, in turns on one thread: medians and the ratio.

    CPU time of the thread, so that other work on the machine counts little.
    """
    torch.set_num_threads(1)
    opened = Opened.load(run)
    classifier, shape = opened.subject.classifier, (*opened.subject.image_size, opened.predictor.preprocess.channels)
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    forward, cam = [], []
    for number in range(num_rounds + 2):
        started = time.thread_time()
        with torch.inference_mode():
            classifier(torch.as_tensor(image))
        middle = time.thread_time()
        attribute("gradcam", opened.subject, image, np.array([0]))
        if number >= 2:  # the first calls allocate, and choose the layer
            forward.append(middle - started)
            cam.append(time.thread_time() - middle)
    ratios = np.array(cam) / np.array(forward)
    return (
        f"{run.name}: forward {1000 * np.median(forward):.1f} ms, Grad-CAM {1000 * np.median(cam):.1f} ms, ratio "
        f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}), {num_rounds} rounds"
    )


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
