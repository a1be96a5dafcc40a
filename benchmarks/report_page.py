"""Size of report.html and the seconds it takes, for 10,000 test images: small ones, and photos.

    python benchmarks/report_page.py CIFAR10.zip FLOWERS.zip

The predictions are made up (accuracy 95 to 98 %), as the page does not depend on what made them. There are fewer than 10,000
photos, so each stands for several; every thumbnail is decoded anew. No other tool writes such a page, so there is no peer.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from harness import write_result

from recog.core.images.decode import DEFAULT_LIMITS
from recog.data.dataset import Dataset, Sample
from recog.data.sources import open_source
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.report import Report
from recog.evaluation.results.rows import Predictions
from recog.report.html import render_html
from recog.report.page.facts import PageFacts, overview
from recog.report.page.gallery import Gallery, build_gallery

NUM_IMAGES, RUNS = 10_000, 5


def tested(source: str) -> tuple[Dataset, tuple[Sample, ...]]:
    """The data, and 10,000 images to test on."""
    dataset = open_source(source)
    samples = dataset.subset("test") or dataset.samples
    named = (replace(s, name=f"{i:05d}-{Path(s.name).name}") for i, s in enumerate(islice(cycle(samples), NUM_IMAGES)))
    return dataset, tuple(named)


def answered(dataset: Dataset, samples: tuple[Sample, ...]) -> tuple[Report, Predictions]:
    """Made-up logits: the true class has 3.5 standard deviations more."""
    num_classes, rng = len(dataset.class_names), np.random.default_rng(0)
    labels = np.array([sample.label for sample in samples])
    is_class = labels[:, None] == np.arange(num_classes)
    logits = (rng.normal(0, 1, is_class.shape) + 3.5 * is_class).astype(np.float32)
    probs = np.exp(logits.astype(np.float64))
    probs /= probs.sum(axis=1, keepdims=True)
    names = tuple(sample.name for sample in samples)
    report = evaluate(
        logits, labels, class_names=dataset.class_names, names=names, data=DataFacts(name=dataset.name, split="test")
    )
    preds = probs.argmax(axis=1)[:, None] == np.arange(num_classes)
    return report, Predictions(
        task="multiclass", paths=names, class_names=dataset.class_names, is_class=is_class, preds=preds, probs=probs
    )


def measure(source: str, page: Path) -> list[str]:
    """The rows of the table for one data set."""
    dataset, samples = tested(source)
    report, results = answered(dataset, samples)
    by_name = {sample.name: sample for sample in samples}
    facts = PageFacts(data=overview(dataset))
    rows = []
    for name, with_pictures in (("page", True), ("page, --no-images", False)):
        seconds = []
        for _ in range(RUNS):
            begun = time.perf_counter()
            gallery = Gallery()
            if with_pictures:
                gallery = build_gallery(report, results, by_name, limits=DEFAULT_LIMITS, data=facts.data)
            page.write_text(render_html(report, gallery, facts), encoding="utf-8")
            seconds.append(time.perf_counter() - begun)
        num_pictures = len(gallery.pictures) + sum(len(images) for _, images in gallery.strip)
        rows.append(
            f"| {dataset.name}: {name} | {report.accuracy:.1%} | {num_pictures} | {page.stat().st_size / 1e6:.2f} "
            f"| {statistics.median(seconds):.2f} | {min(seconds):.2f}-{max(seconds):.2f} | {RUNS} |"
        )
    return rows


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for source in sys.argv[1:] for row in measure(source, Path(folder) / "report.html")]
    head = "| 10,000 test images | accuracy | thumbnails | MB | median s | range | n |\n|---|---|---|---|---|---|---|\n"
    aims = "Aims: below 5 MB, below 10 s on two cores. Seconds are of reading the images and writing the page."
    write_result("report_page", "Size and time of the report page", f"{head}{chr(10).join(rows)}\n\n{aims}")


if __name__ == "__main__":
    main()
