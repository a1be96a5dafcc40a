"""Demo: train on handwritten digits, then evaluate and predict on image files written from the test split."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from recog.data.readers.named import read_digits


def run(*arguments: str, cwd: Path) -> None:
    print(f"\n$ recog {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "recog", *arguments], cwd=cwd, check=True)


def write_test_split(run_folder: Path, target: Path) -> list[Path]:
    """The run's test images as PNG files below one folder per class, in the order of splits.json."""
    arrays = {sample.name: sample.source for sample in read_digits().samples}
    rows = json.loads((run_folder / "splits.json").read_text())["splits"]["test"]
    files = []
    for row in rows:
        file = target / row["class"] / f"{Path(row['name']).name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(arrays[row["name"]]).save(file)
        files.append(file)
    return files


def main() -> None:
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "demo").resolve()
    demo.mkdir(parents=True, exist_ok=True)
    before = set(demo.glob("runs/digits-*"))
    run("train", "digits", cwd=demo)
    (run_folder,) = set(demo.glob("runs/digits-*")) - before
    files = write_test_split(run_folder, demo / f"{run_folder.name}-test")
    name = run_folder.name
    run("evaluate", name, f"{name}-test", cwd=demo)
    run("predict", name, *(str(file.relative_to(demo)) for file in files[:5]), "--top", "3", cwd=demo)
    run("verify", name, cwd=demo)
    print(f"\nbundle: {run_folder / 'bundle'}\nreport: {run_folder / 'report.html'}")
    command = os.path.relpath(Path(sys.executable).with_name("recog"), demo)  # the environment need not be activated
    print(f"next: cd {os.path.relpath(demo)} && {command} serve {name}    opens a page for your own images")


if __name__ == "__main__":
    main()
