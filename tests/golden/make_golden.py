"""Writes the golden bundles anew: `python tests/golden/make_golden.py`. Only for a deliberate change of the format.

`digits-format-1` is ResNet-8 on scikit-learn's digits without prediction sets and 'unknown'; `-trust` has both, 'unknown' by
the nearest training images. Takes about a minute on two cores.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent
SOURCES = GOLDEN.parents[1] / "src"
BUNDLES = {
    "digits-format-1": ("calibration.conformal=none", "calibration.unknown=none"),
    "digits-format-1-trust": ("calibration.conformal=lac", "calibration.unknown=knn"),
}


def main() -> None:
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    for name, settings in BUNDLES.items():
        with tempfile.TemporaryDirectory() as folder:
            options = [option for setting in settings for option in ("--set", setting)]
            train = [sys.executable, "-m", "recog", "train", "digits", "--epochs", "12", "--name", name]
            subprocess.run([*train, *options], cwd=folder, env=environment, check=True)
            bundle = Path(folder) / "runs" / name / "bundle"
            shutil.rmtree(GOLDEN / name, ignore_errors=True)
            shutil.copytree(bundle, GOLDEN / name)
            print(f"wrote {GOLDEN / name}")


if __name__ == "__main__":
    main()
