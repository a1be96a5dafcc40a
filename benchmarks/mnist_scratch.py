"""MNIST from scratch to 99 %: `recog train`, from process start to exit, beside LeNet-5 until its first epoch of 99 %.

`python benchmarks/mnist_scratch.py FOLDER [REPEATS]`. FOLDER has MNIST's four idx files, gzipped. Completed runs are lines of
results/mnist_scratch.jsonl.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness import RESULTS, Repeats, peer, recog, write_result

WANTED = 0.99
MAX_EPOCHS = 40  # of the peer
OPTIONS = ("--epochs", "1")


def lay_out(folder: Path, root: Path) -> None:
    """The unpacked files where torchvision looks for them."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in sorted(folder.glob("*-ubyte.gz")):
        (raw / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(path.read_bytes()))


def row(name: str, runs: Sequence[dict[str, float]], base_s: float) -> str:
    seconds, accuracies = ([run[key] for run in runs] for key in ("seconds", "accuracy"))
    return (
        f"| {name} | {runs[0]['epochs']:.0f} | {len(runs)} | {statistics.mean(accuracies):.2%} | {min(accuracies):.2%}-"
        f"{max(accuracies):.2%} | {statistics.median(seconds):.1f} | {min(seconds):.1f}-{max(seconds):.1f} "
        f"| {base_s / statistics.median(seconds):.1f} |"
    )


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    num_repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    repeats = Repeats(path=RESULTS / "mnist_scratch.jsonl")
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as place:
        lay_out(folder, Path(place))
        for seed in range(num_repeats):
            command = recog("train", str(folder), *OPTIONS, "--seed", str(seed), "--json")
            timing = repeats.timing(f"recog {' '.join(OPTIONS)} {seed}", command, cwd=Path(place))
            report = json.loads(timing.stdout)["report"]
            ours.append({"seconds": timing.median_s, "accuracy": report["accuracy"], "epochs": 1})
        timing = repeats.timing("peer", peer("mnist_lenet5.py", place, str(WANTED), str(MAX_EPOCHS)))
        last = json.loads(timing.stdout.splitlines()[-1])
        theirs.append({"seconds": last["seconds"], "accuracy": last["accuracy"], "epochs": last["epoch"]})
    base_s = theirs[0]["seconds"]
    lines = [
        "| | epochs | n | test accuracy, mean | range | median s | range | peer / this |",
        "|---|---|---|---|---|---|---|---|",
        row(f"`recog train mnist {' '.join(OPTIONS)}`, whole command", ours, base_s),
        row(f"LeNet-5, batch 64, SGD 0.01 / 0.5, until {WANTED:.0%} on test", theirs, base_s),
    ]
    write_result("mnist_scratch", "MNIST from scratch to 99 %, 10,000 test images", "\n".join(lines))


if __name__ == "__main__":
    main()
