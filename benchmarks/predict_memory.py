"""Peak memory and time of `recog predict` by the number of images: answers are taken one by one, only names are kept.

    python benchmarks/predict_memory.py RUN

RUN is one trained on `digits`. The images are 30 PNG files of 8 x 8 px, hard-linked under as many names.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import Timing, recog, time_in_turn, write_result
from PIL import Image

COUNTS = (1_000, 20_000, 100_000)
WAYS = (
    "--csv",
    "--output answers.csv --sort-into sorted --link",
    "--output answers.parquet --sheet sheet.html",
)


def make_images(folder: Path, count: int) -> None:
    folder.mkdir()
    originals = [folder.parent / f"{i}.png" for i in range(30)]
    pixels = np.random.default_rng(0).integers(0, 256, (len(originals), 8, 8), dtype=np.uint8)
    for original, image in zip(originals, pixels, strict=True):
        Image.fromarray(image).save(original)
    for i in range(count):
        os.link(originals[i % len(originals)], folder / f"img_{i:06d}.png")


def measure(run: Path, count: int) -> dict[str, Timing]:
    with tempfile.TemporaryDirectory() as place:
        make_images(Path(place) / "photos", count)
        commands = {way: recog("predict", str(run), "photos", *way.split()) for way in WAYS}
        return time_in_turn(commands, runs=1, warmup=0, cwd=Path(place))


def main() -> None:
    run = Path(sys.argv[1]).resolve()
    timings = {count: measure(run, count) for count in COUNTS}
    lines = ["| | images | peak MiB | against 1,000 | s |", "|---|---|---|---|---|"]
    for way in WAYS:
        base = timings[COUNTS[0]][way].peak_mib
        for count in COUNTS:
            timing = timings[count][way]
            growth = timing.peak_mib / base - 1
            lines.append(f"| `{way}` | {count:,} | {timing.peak_mib:.0f} | {growth:+.1%} | {timing.median_s:.1f} |")
    write_result("predict_memory", "Memory of recog predict by the number of images", "\n".join(lines))


if __name__ == "__main__":
    main()
