"""Training batches per second: recog's decoded store and TrainLoader beside torchvision's ImageFolder and DataLoader.

FLOWERS CIFAR10: folders that hold train/CLASS/*. Both sides: random resized crop (area 0.35 to 1, aspect 3/4 to 4/3), mirror,
normalise, float32 batches. Ours end at the same point: the network's first operation, the normalisation, is done here too.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from harness import peer, write_result
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from recog.core.chance import uniforms
from recog.core.hardware import num_cores
from recog.core.preprocess import Preprocess
from recog.data.augment.geometry import CROP_COINS, random_boxes
from recog.data.augment.policies import AugmentConfig
from recog.data.loader import TrainLoader
from recog.data.sources import read_folder
from recog.data.store import ImageStore, read_images, read_larger
from recog.models.classifier import normalise

ROUNDS = 5
PHOTO_SIZE = (4000, 3000)
NUM_PHOTOS = 48
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
POLICY = AugmentConfig(policy="standard", geometry="crop", mirror=True)
WORKER = "ours"


def run_ours(folder: str, image_size: int, batch_size: int, epochs: int) -> None:
    """One JSON line per epoch; the first counts reading and decoding, as it does for the peer."""
    started = time.perf_counter()
    torch.set_num_threads(num_cores())
    samples = read_folder(Path(folder)).samples
    reader = read_larger(Preprocess(image_size=(image_size, image_size)))
    images = [image for image in read_images(samples, reader) if isinstance(image, np.ndarray)]
    loader = TrainLoader(
        store=ImageStore(images),
        targets=np.array([sample.label for sample in samples]),
        augment=POLICY,
        image_size=(image_size, image_size),
        batch_size=batch_size,
        seed=0,
    )
    del images
    mean, scale = 255 * torch.tensor(MEAN), 1 / (255 * torch.tensor(STD))
    for epoch in range(epochs):
        num_images = 0
        for pixels, _ in loader.batches(epoch):
            num_images += len(normalise(pixels, mean, scale))
        print(json.dumps({"images": num_images, "seconds": time.perf_counter() - started}), flush=True)
        started = time.perf_counter()


def run(command: list[str]) -> tuple[list[float], float]:
    """(images per second of each epoch, peak MiB of the process and its largest worker)."""
    script = f"import resource, subprocess, sys\nout = subprocess.run({command!r}, check=True, stdout=subprocess.PIPE).stdout\n"
    script += "sys.stdout.buffer.write(out)\nprint(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    *lines, peak_kib = output.splitlines()
    epochs = [json.loads(line) for line in lines]
    return [epoch["images"] / epoch["seconds"] for epoch in epochs], int(peak_kib) / 1024


def compare(folder: Path, image_size: int, batch_size: int, *, epochs: int, first: bool = False) -> list[str]:
    """Rows of the table: both sides in turn, ROUNDS times; the ratio is taken within each round."""
    arguments = [str(folder), str(image_size), str(batch_size), str(1 if first else epochs)]
    commands = {
        "recog": [sys.executable, __file__, WORKER, *arguments],
        "torchvision": peer("imagefolder_loader.py", *arguments),
    }
    speeds: dict[str, list[float]] = {name: [] for name in commands}
    peaks = dict.fromkeys(commands, 0.0)
    for _ in range(ROUNDS):
        for name, command in commands.items():
            epochs_per_s, peak = run(command)
            speeds[name].append(epochs_per_s[0] if first else max(epochs_per_s[1:]))
            peaks[name] = max(peaks[name], peak)
    ratios = [ours / theirs for ours, theirs in zip(speeds["recog"], speeds["torchvision"], strict=True)]
    best = max(speeds["recog"]) / max(speeds["torchvision"])
    rows = []
    for name, values in speeds.items():
        is_ours = name == "recog"
        in_turn = f"{statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})" if is_ours else "1"
        rows.append(
            f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f}-{max(values):,.0f} | {ROUNDS} "
            f"| {in_turn} | {best if is_ours else 1:.1f} | {peaks[name]:,.0f} |"
        )
    return rows


def make_photos(flowers: Path, folder: Path) -> float:
    """12-megapixel JPEGs, quality 90: photos enlarged, with a sensor's noise; returns the mean size in megabytes."""
    sources = sorted(flowers.glob("train/*/*.jpg"))
    chosen = [sources[i] for i in np.linspace(0, len(sources) - 1, NUM_PHOTOS).astype(int)]

    def make(number: int) -> int:
        picture = Image.open(chosen[number]).convert("RGB").resize(PHOTO_SIZE, Image.Resampling.BICUBIC)
        noise = np.random.default_rng(number).normal(0, 4, (PHOTO_SIZE[1], PHOTO_SIZE[0], 1))
        noisy = np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
        path = folder / ("a" if number % 2 else "b") / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noisy).save(path, quality=90)
        return path.stat().st_size

    with ThreadPoolExecutor(num_cores()) as pool:
        return sum(pool.map(make, range(NUM_PHOTOS))) / NUM_PHOTOS / 1e6


def compare_crops(height: int, width: int, count: int = 20_000) -> list[str]:
    """Quantiles of the crops' part of the area and of their width : height, ours and torchvision's."""
    sizes = np.broadcast_to(np.array([height, width]), (count, 2))
    coins = uniforms(0, 0, np.arange(count), "crop", CROP_COINS)
    ours = random_boxes(sizes, coins, min_area=0.35, max_aspect=4 / 3)[:, 2:]
    torch.manual_seed(0)
    blank = torch.empty(3, height, width)
    drawn = [RandomResizedCrop.get_params(blank, [0.35, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(count)]
    theirs = np.array(drawn)
    rows = []
    for name, boxes in (("recog", ours), ("torchvision", theirs)):
        areas = boxes.prod(axis=1) / (height * width)
        aspects = boxes[:, 1] / boxes[:, 0]
        cells = [f"{v:.3f}" for values in (areas, aspects) for v in np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))]
        rows.append(f"| {width} x {height}, {name} | {' | '.join(cells)} |")
    return rows


HEADER = "| | images/s | range | rounds | ratio in turn (range) | ratio of the best | peak MiB |\n" + "|---" * 7 + "|"


def measure_photos(flowers: Path, cifar: Path) -> list[str]:
    rows = compare(flowers / "train", 224, 32, epochs=6)
    return ["## Epochs after the first, 224 px, flower photos, batch 32", HEADER, *rows]


def measure_small(flowers: Path, cifar: Path) -> list[str]:
    rows = compare(cifar / "train", 32, 128, epochs=3)
    return ["## Epochs after the first, 32 px, CIFAR-10 files (its 50,000 training images), batch 128", HEADER, *rows]


def measure_first_pass(flowers: Path, cifar: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        size = make_photos(flowers, Path(folder))
        title = f"## First pass, {NUM_PHOTOS} JPEGs of 12 megapixels (mean {size:.1f} MB), 224 px, batch 16"
        return [title, HEADER, *compare(Path(folder), 224, 16, epochs=1, first=True)]


def measure_crops(flowers: Path, cifar: Path) -> list[str]:
    columns = "| | area 5 % | 25 % | 50 % | 75 % | 95 % | aspect 5 % | 25 % | 50 % | 75 % | 95 % |"
    rows = [*compare_crops(375, 500), *compare_crops(32, 32)]
    return ["## The crops of both: quantiles over 20,000", "", columns, "|---" * 11 + "|", *rows]


SECTIONS = {
    "photos": measure_photos,
    "small": measure_small,
    "first-pass": measure_first_pass,
    "crops": measure_crops,
}


def main() -> None:
    """Everything, or after the two folders the names of SECTIONS to measure, which then have a result file of their own."""
    flowers, cifar = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    chosen = sys.argv[3:] or list(SECTIONS)
    body = [line for name in chosen for line in [*SECTIONS[name](flowers, cifar), ""]]
    body += [
        "Each round is a fresh process per side, in turn; a round's images/s is that of its fastest epoch. 'In turn' is the",
        "median of the ratios within a round; 'of the best' compares the fastest rounds, which other work on the machine",
        f"disturbed least (load average over the last 15 minutes: {os.getloadavg()[2]:.1f} on {num_cores()} cores). Peak memory",
        "is that of the main process or its largest worker; torchvision's two workers come on top of its main process. Ours",
        "holds the decoded images; both import torch (about 300 MiB).",
    ]
    name = "_".join(["loader", *sys.argv[3:]])
    write_result(name, "Training batches: recog beside torchvision's ImageFolder and DataLoader", "\n".join(body))


if __name__ == "__main__":
    if sys.argv[1] == WORKER:
        run_ours(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        main()
