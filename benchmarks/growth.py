"""Whole commands on 1,000 to 100,000 generated images: seconds and peak memory of each further image.

    python benchmarks/growth.py [NUM_IMAGES ...]

Times are of the whole command. The cost of an image is the difference between two sizes, so that start-up, which is the same
for all, does not hide growth.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from harness import Timing, recog, time_in_turn, write_result
from PIL import Image

SIZES = (1_000, 10_000, 100_000)
NUM_CLASSES = 10
SIDE = 32  # px


def write_image(folder: Path, number: int) -> None:
    """A noisy picture whose brightness tells its class; every one differs."""
    label = number % NUM_CLASSES
    rng = np.random.default_rng(number)
    pixels = rng.integers(20 * label, 20 * label + 60, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"class-{label}" / f"{number:06d}.png")


def write_images(folder: Path, num_images: int) -> Path:
    for label in range(NUM_CLASSES):
        (folder / f"class-{label}").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(write_image, folder), range(num_images), chunksize=500))
    return folder


def commands(data: Path, name: str) -> dict[str, list[str]]:
    return {
        "scan": recog("scan", str(data), "--json"),
        "train scratch, 1 epoch": recog(
            *("train", str(data), "--recipe", "scratch", "--model", "resnet8", "--epochs", "1", "--name", name)
        ),
        "the same, images cached": recog(
            *(
                "train",
                str(data),
                "--recipe",
                "scratch",
                "--model",
                "resnet8",
                "--epochs",
                "1",
                "--name",
                f"{name}-again",
            )
        ),
        "train head, 32 px": recog(
            *("train", str(data), "--recipe", "head", "--set", "model.image_size=32", "--name", f"{name}-head")
        ),
        "predict to CSV": recog("predict", name, str(data), "--output", f"{name}.csv"),
    }


def rows(timings: Sequence[dict[str, Timing]], sizes: Sequence[int]) -> Iterator[str]:
    for command in timings[0]:
        for i, num_images in enumerate(sizes):
            timing = timings[i][command]
            cells = [command, f"{num_images:,}", f"{timing.median_s:.1f}", f"{timing.peak_mib:.0f}", "", ""]
            if i:
                before, more = timings[i - 1][command], num_images - sizes[i - 1]
                cells[4] = f"{1e6 * (timing.median_s - before.median_s) / more:.0f}"
                cells[5] = f"{1024 * (timing.peak_mib - before.peak_mib) / more:.1f}"
            yield f"| {' | '.join(cells)} |"


def main() -> None:
    sizes = tuple(int(argument.replace(",", "")) for argument in sys.argv[1:]) or SIZES
    timings = []
    with tempfile.TemporaryDirectory(prefix="recog-growth-") as folder:
        for num_images in sizes:
            data = write_images(Path(folder) / f"data-{num_images}", num_images)
            timings.append(time_in_turn(commands(data, f"n{num_images}"), runs=1, warmup=0, cwd=Path(folder)))
    head = (
        "| command | images | s | peak MiB | µs per further image | KiB per further image |\n|---|---|---|---|---|---|"
    )
    write_result(
        "growth",
        "Time and memory against the number of images",
        f"Generated PNG images of {SIDE} x {SIDE} px in {NUM_CLASSES} class folders; n = 1.\n\n"
        + "\n".join([head, *rows(timings, sizes)]),
    )


if __name__ == "__main__":
    main()
