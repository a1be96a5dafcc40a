"""Whole commands on 1,000 to 100,000 generated images: CPU seconds and peak memory of each further image.

    python benchmarks/growth.py [NUM_IMAGES ...]

Times are those of the processor, of the whole command. The cost of an image is the difference between two sizes, so that
start-up, which is the same for all, does not hide growth. Completed runs are kept in growth.jsonl beside the generated images,
in the folder that RECOG_GROWTH names, so that the benchmark can be stopped and continued.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from harness import RESULTS, Repeats, Timing, recog, write_result
from PIL import Image

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
MAX_TRAINED = 10_000  # training takes minutes of the processor for 10,000 images
NUM_CLASSES = 10
SIDE = 32  # px
FLAT = 0.15  # how much the cost of an image may grow from one size to the next
MILLION = 1_000_000


def write_image(folder: Path, number: int) -> None:
    """A noisy picture whose brightness tells its class; every one differs."""
    label = number % NUM_CLASSES
    rng = np.random.default_rng(number)
    pixels = rng.integers(20 * label, 20 * label + 60, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"class-{label}" / f"{number:06d}.png")


def write_images(folder: Path, num_images: int) -> Path:
    """Once: a folder that is complete has its final name."""
    if folder.exists():
        return folder
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for label in range(NUM_CLASSES):
        (unfinished / f"class-{label}").mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(write_image, unfinished), range(num_images), chunksize=500))
    return unfinished.rename(folder)


def commands(data: Path, name: str, first: int) -> Mapping[str, Sequence[str]]:
    scratch = ("train", str(data), "--recipe", "scratch", "--model", "resnet8", "--epochs", "1")
    head = ("train", str(data), "--recipe", "head", "--set", "model.image_size=32")
    return {
        "scan": recog("scan", str(data), "--json"),
        "train scratch, 1 epoch": recog(*scratch, "--name", name),
        "train head, 32 px": recog(*head, "--name", f"{name}-head"),
        "predict to CSV": recog("predict", f"n{first}", str(data), "--output", f"{name}.csv"),
    }


def measure(folder: Path, sizes: Sequence[int]) -> dict[str, list[Timing]]:
    """By command, the run at each of `sizes`."""
    repeats, found = Repeats(path=folder / "growth.jsonl"), {}
    for num_images in sizes:
        data = write_images(folder / f"data-{num_images}", num_images)
        for command, arguments in commands(data, f"n{num_images}", sizes[0]).items():
            if command.startswith("train") and num_images > MAX_TRAINED:
                continue
            (folder / f"n{num_images}.csv").unlink(missing_ok=True)  # of a run that was stopped
            timing = repeats.timing(f"{command} {num_images}", arguments, cwd=folder)
            found.setdefault(command, []).append(timing)
    return found


def costs(timings: Sequence[Timing], sizes: Sequence[int]) -> Iterator[tuple[float, float]]:
    """From each size to the next: CPU microseconds and bytes of memory for one image more."""
    for i in range(1, len(timings)):
        more = sizes[i] - sizes[i - 1]
        seconds = timings[i].median_cpu_s - timings[i - 1].median_cpu_s
        memory = timings[i].peak_mib - timings[i - 1].peak_mib
        yield 1e6 * seconds / more, 2**20 * memory / more


def rows(found: Mapping[str, Sequence[Timing]], sizes: Sequence[int]) -> Iterator[str]:
    for command, timings in found.items():
        changes = [("", ""), *((f"{cpu:.0f}", f"{memory:,.0f}") for cpu, memory in costs(timings, sizes))]
        for num_images, timing, (cpu, memory) in zip(sizes, timings, changes, strict=False):
            wall, total = f"{timing.median_s:.1f}", f"{timing.median_cpu_s:.1f}"
            yield f"| {command} | {num_images:,} | {wall} | {total} | {timing.peak_mib:.0f} | {cpu} | {memory} |"


def verdicts(found: Mapping[str, Sequence[Timing]], sizes: Sequence[int]) -> Iterator[str]:
    """Whether the last steps cost the same for an image, and what a million would take."""
    for command, timings in found.items():
        if len(timings) < 3:
            yield f"- {command}: three sizes or more are needed to compare two steps"
            continue
        (before, _), (after, memory) = list(costs(timings, sizes))[-2:]
        change = after / before - 1
        verdict = "flat" if change <= FLAT else "not flat"
        left = MILLION - sizes[len(timings) - 1]
        seconds, mib = timings[-1].median_cpu_s + 1e-6 * after * left, timings[-1].peak_mib + memory * left / 2**20
        yield f"- {command}: {change:+.0%} per image in the last step, {verdict}; a million: {seconds:,.0f} CPU s, {mib:,.0f} MiB"


def plot(found: Mapping[str, Sequence[Timing]], sizes: Sequence[int]) -> str:
    """SVG: CPU seconds and peak memory over images, both axes logarithmic."""
    panels = [
        _panel(30, "CPU seconds", found, sizes, [[t.median_cpu_s for t in timings] for timings in found.values()]),
        _panel(430, "peak memory, MiB", found, sizes, [[t.peak_mib for t in timings] for timings in found.values()]),
    ]
    style = "text{font:12px sans-serif;fill:#333}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 330"><style>{style}</style>'
        f'<rect width="820" height="330" fill="white"/>{"".join(panels)}</svg>\n'
    )


COLOURS = ("#1b6ca8", "#c8553d", "#588157", "#7b5ea7")


def _panel(
    left: int, title: str, found: Mapping[str, Sequence[Timing]], sizes: Sequence[int], lines: Sequence[Sequence[float]]
) -> str:
    values = [value for line in lines for value in line]
    low, high = np.floor(np.log10(min(values))), np.ceil(np.log10(max(values)))
    width, height, top = 340, 220, 40

    def place(size: float, value: float) -> tuple[float, float]:
        x = np.log10(size / sizes[0]) / np.log10(sizes[-1] / sizes[0])
        y = (np.log10(value) - low) / (high - low)
        return left + 30 + x * (width - 40), top + height - y * height

    parts = [f'<text x="{left + 30}" y="24" font-weight="bold">{title}</text>']
    for power in range(int(low), int(high) + 1):
        _, y = place(sizes[0], 10.0**power)
        parts.append(f'<path d="M{left + 30} {y:.0f}h{width - 40}" stroke="#ddd"/>')
        parts.append(f'<text x="{left + 26}" y="{y + 4:.0f}" text-anchor="end">{10**power:g}</text>')
    for size in sizes:
        x, _ = place(size, 10.0**low)
        parts.append(f'<text x="{x:.0f}" y="{top + height + 18}" text-anchor="middle">{size:,}</text>')
    for number, (name, values) in enumerate(zip(found, lines, strict=True)):
        points = " ".join("{:.1f},{:.1f}".format(*place(s, v)) for s, v in zip(sizes, values, strict=False))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[number]}" stroke-width="2"/>')
        x, y = left + 40, top + 14 + 16 * number
        parts.append(f'<path d="M{x} {y - 4}h18" stroke="{COLOURS[number]}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 24}" y="{y}">{name}</text>')
    return "".join(parts)


def main() -> None:
    sizes = tuple(int(argument.replace(",", "")) for argument in sys.argv[1:]) or SIZES
    kept = os.environ.get("RECOG_GROWTH")
    with tempfile.TemporaryDirectory(prefix="recog-growth-") as temporary:
        folder = Path(kept or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(folder, sizes)
    head = (
        "| command | images | s | CPU s | peak MiB | CPU µs per further image | bytes per further image |\n"
        "|---|---|---|---|---|---|---|"
    )
    (RESULTS / "growth.svg").write_text(plot(found, sizes), encoding="utf-8")
    write_result(
        "growth",
        "Time and memory against the number of images",
        f"Generated PNG images of {SIDE} x {SIDE} px in {NUM_CLASSES} class folders; n = 1. Wall times are beside other "
        "load on the machine; CPU times are of all threads.\n\n![growth](growth.svg)\n\n"
        + "\n".join([head, *rows(found, sizes), "", *verdicts(found, sizes)]),
    )


if __name__ == "__main__":
    main()
