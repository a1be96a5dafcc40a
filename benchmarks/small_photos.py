"""Small photos (up to 64 px), few of them: the head on pretrained features beside a small network from scratch.

    python benchmarks/small_photos.py DATA

DATA holds flowers.zip and cifar10.zip. Both recipes train on the same images and are measured on the same test images.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path

from harness import recog, time_in_turn, write_result
from PIL import Image

NUM_TEST = 60  # of each class of CIFAR-10
SETS = {"flowers at 64 px": 64, "CIFAR-10, 20 a class": 20, "CIFAR-10, 100 a class": 100}


def write_flowers(archive: Path, folder: Path, side: int) -> None:
    with zipfile.ZipFile(archive) as images:
        for name in filter(lambda name: name.endswith(".jpg"), images.namelist()):
            image = Image.open(io.BytesIO(images.read(name))).convert("RGB")
            image.thumbnail((side, side))
            path = folder.joinpath(*Path(name).parts[1:]).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)


def write_cifar(archive: Path, folder: Path, num_train: int) -> None:
    limits = {"train": num_train, "test": NUM_TEST}
    with zipfile.ZipFile(archive) as images:
        for name in filter(lambda name: name.endswith(".jpg"), images.namelist()):
            _, split, label, file = Path(name).parts
            if int(Path(file).stem) < limits[split]:
                path = folder / split / label / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(images.read(name))


def main() -> None:
    data = Path(sys.argv[1]).resolve()
    lines = ["| images | recipe | train | test accuracy | 95 % interval | n | s |", "|---|---|---|---|---|---|---|"]
    for title, number in SETS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "photos"
            if number == SETS["flowers at 64 px"]:
                write_flowers(data / "flowers.zip", folder, number)
            else:
                write_cifar(data / "cifar10.zip", folder, number)
            num_train = sum(path.is_file() for path in (folder / "train").rglob("*"))
            commands = {
                recipe: recog("train", str(folder), "--recipe", recipe, "--json") for recipe in ("head", "scratch")
            }
            timings = time_in_turn(commands, runs=1, warmup=0, cwd=Path(place))
        for recipe, timing in timings.items():
            report = json.loads(timing.stdout)["report"]
            low, high = report["accuracy_ci95"]
            lines.append(
                f"| {title} | {recipe} | {num_train:,} | {report['accuracy']:.1%} | {low:.1%}-{high:.1%} "
                f"| {report['num_images']} | {timing.median_s:.0f} |"
            )
        print(*lines, sep="\n", flush=True)
    write_result("small_photos", "Few small photos: head and scratch", "\n".join(lines))


if __name__ == "__main__":
    main()
