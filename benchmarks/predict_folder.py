"""`recog predict FOLDER` on 1,000 photos beside a script with torch and a DataLoader, from process start to exit.

    python benchmarks/predict_folder.py RUN PHOTOS [ENGINE ...]

RUN was trained with `--set head.layers=last` or by `finetune`, so that timm loads its bundle too. PHOTOS is a folder; its files
are hard-linked under as many names as make 1,000. Without ENGINE: the recorded one (`recog bench`).
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from harness import TIMING_HEADER, peer, recog, time_in_turn, write_result

NUM_PHOTOS = 1000
RUNS = 3


def link_photos(photos: Path, folder: Path) -> None:
    files = sorted(path for path in photos.rglob("*") if path.suffix == ".jpg")
    if not files:
        raise SystemExit(f"{photos} has no .jpg file.")
    folder.mkdir()
    for number in range(NUM_PHOTOS):
        os.link(files[number % len(files)], folder / f"{number:04d}.jpg")


def main() -> None:
    run, photos = (Path(argument).resolve() for argument in sys.argv[1:3])
    engines = sys.argv[3:] or ["auto"]
    with tempfile.TemporaryDirectory(dir=photos.parent) as place:  # hard links need one file system
        folder = Path(place) / "photos"
        link_photos(photos, folder)
        commands = {
            f"recog predict --engine {name}": recog("predict", str(run), str(folder), "--csv", "--engine", name)
            for name in engines
        }
        script = "timm, torch, DataLoader"
        commands[script] = peer("timm_predict_folder.py", str(run / "bundle"), str(folder))
        timings = time_in_turn(commands, runs=RUNS, warmup=1)
    rows = [timings[name].row(name, timings[script]) for name in commands]
    speeds = [f"- {name}: {NUM_PHOTOS / timing.median_s:.0f} photos/s" for name, timing in timings.items()]
    title = f"{NUM_PHOTOS:,} photos of a folder, from process start to exit"
    write_result("predict_folder", title, "\n".join([TIMING_HEADER, *rows, "", *speeds]))


if __name__ == "__main__":
    main()
