"""Writes the golden bundles anew: `python tests/golden/make_golden.py`. Only for a deliberate change of the format.

`digits-format-1` is ResNet-8 on scikit-learn's digits without prediction sets and 'unknown'; `-trust` has both, 'unknown' by
the nearest training images. `digits-labels-format-1` has several labels per image: even, round and below five. Takes about a
minute on two cores; names of bundles as arguments write these alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

GOLDEN = Path(__file__).resolve().parent
SOURCES = GOLDEN.parents[1] / "src"
BUNDLES = {
    "digits-format-1": ("digits", "--set", "calibration.conformal=none", "--set", "calibration.unknown=none"),
    "digits-format-1-trust": ("digits", "--set", "calibration.conformal=lac", "--set", "calibration.unknown=knn"),
    "digits-labels-format-1": ("labels.csv", "--label-separator", "|", "--recipe", "scratch"),
}
LABELS = {"even": {0, 2, 4, 6, 8}, "round": {0, 6, 8, 9}, "below five": {0, 1, 2, 3, 4}}


def write_labels(folder: Path, num_images: int = 900) -> None:
    """The first digits as PNG files, and labels.csv: a file and its labels a line, '|' between them; 7 has none."""
    digits = load_digits()
    rows = ["path,label"]
    for i, digit in enumerate(digits.target[:num_images]):
        Image.fromarray(np.round(digits.images[i] * (255 / 16)).astype(np.uint8)).save(folder / f"{i:04d}.png")
        rows.append(f"{i:04d}.png,{'|'.join(name for name, digits_of in LABELS.items() if digit in digits_of)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def main() -> None:
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    for name in sys.argv[1:] or BUNDLES:
        with tempfile.TemporaryDirectory() as folder:
            write_labels(Path(folder))
            train = [sys.executable, "-m", "recog", "train", *BUNDLES[name], "--epochs", "12", "--name", name]
            subprocess.run(train, cwd=folder, env=environment, check=True)
            bundle = Path(folder) / "runs" / name / "bundle"
            shutil.rmtree(GOLDEN / name, ignore_errors=True)
            shutil.copytree(bundle, GOLDEN / name)
            print(f"wrote {GOLDEN / name}")


if __name__ == "__main__":
    main()
