"""Eleven scenes in which an image classifier's tool easily gives a wrong number; what recog answers in each.

    python benchmarks/misleading_numbers.py [BEFORE]

BEFORE is the `src` folder of another checkout, whose answers stand beside; both run the same commands on the same images.
All images are generated, so the right answer of each scene follows from how it was made.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
TRAIN = ("--recipe", "scratch", "--model", "lenet5", "--optimizer", "adam", "--lr", "0.002")


class Tool:
    """The recog of one checkout, run as a command in one folder."""

    def __init__(self, source: Path, folder: Path):
        self.folder = folder
        cache = {"XDG_CACHE_HOME": str(folder / "cache"), "NO_COLOR": "1", "COLUMNS": "300"}
        self.environment = {**os.environ, **cache, "PYTHONPATH": str(source)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run("-m", "recog", *arguments)

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        return self._run("-c", code)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600, check=False
        )


def write_colours(
    folder: Path, per_class: int, seed: int, names: dict[str, str] | None = None, width: int = 90
) -> None:
    """`per_class` noisy images of each colour, 16 px, in one folder per class; `width` of the noise in grey levels."""
    draws = np.random.default_rng(seed)
    for colour, rgb in COLOURS.items():
        place = folder / (names or {}).get(colour, colour)
        place.mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            pixels = np.clip(np.array(rgb) + draws.integers(-width, width, (16, 16, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{seed}_{i}.png")


def summary(done: subprocess.CompletedProcess[str]) -> str:
    """'accuracy (k of n)' of a report on stdout, or the first line of the error."""
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return f"exit {done.returncode}: {(lines or ['nothing'])[-1][:110]}"
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return f"exit 0: {done.stdout[:80]}"
    return f"{report['accuracy']:.1%} of {report['num_images']}"


def accuracy_of(tool: Tool, name: str) -> str:
    """Of the report of the run `name`, or 'not possible' where there is none."""
    report = tool.folder / "runs" / name / "report.json"
    return f"{json.loads(report.read_text())['accuracy']:.1%}" if report.is_file() else "not possible"


def train_colours(tool: Tool, name: str = "colours") -> None:
    for split, count, seed in (("train", 40, 1), ("val", 15, 2), ("test", 15, 3)):
        write_colours(tool.folder / "data" / split, count, seed)
    done = tool.run("train", "data", *TRAIN, "--epochs", "5", "--name", name)
    if done.returncode:
        raise SystemExit(done.stderr)


def a1(tool: Tool) -> str:
    """120 new images, 40 of them in a wrong folder, 2 that the run knows (1 trained on): 66.9 % of 121."""
    train_colours(tool)
    write_colours(tool.folder / "new", 40, 9)
    wrong = sorted((tool.folder / "new" / "green").iterdir())
    for path in wrong:
        path.rename(tool.folder / "new" / "blue" / f"wrong{path.name}")
    for split, seed in (("train", 1), ("test", 3)):
        known = tool.folder / "data" / split / "red" / f"{seed}_0.png"
        (tool.folder / "new" / "red" / f"known_{split}.png").write_bytes(known.read_bytes())
    return summary(tool.run("evaluate", "colours", "new", "--json"))


def a2(tool: Tool) -> str:
    """45 images that chose the epoch and fitted calibration: the count of those named as such (45)."""
    train_colours(tool)
    done = tool.run("evaluate", "colours", "data/val", "--json")
    used = re.search(r"45[^.\n]*(selected|selection|chose|val)[^.\n]*", done.stderr)
    return f"named: {used.group().strip()[:70]}" if used else f"not named; {summary(done)}"


def a3(tool: Tool) -> str:
    """The same images as a folder and as torch's ImageFolder, classes cat and Dog: equal accuracies."""
    names = {"red": "cat", "green": "Dog", "blue": "fox"}
    for split, count, seed in (("train", 40, 1), ("val", 15, 2), ("test", 15, 3)):
        write_colours(tool.folder / "pets" / split, count, seed, names)
    tool.run("train", "pets", *TRAIN, "--epochs", "5", "--name", "pets")
    code = (
        "import recog; from torchvision.datasets import ImageFolder; from torch.utils.data import Subset\n"
        "d = ImageFolder('pets/test'); r = recog.evaluate('pets', Subset(d, range(len(d))))\n"
        "print(getattr(r, 'report', r).accuracy)"
    )
    done = tool.python(code)
    answer = f"{float(done.stdout.split()[-1]):.1%}" if not done.returncode else done.stderr.splitlines()[-1][:90]
    return f"folder {summary(tool.run('evaluate', 'pets', 'pets/test', '--json'))}; Subset {answer}"


LAYOUTS = {  # folders -> the classes, or None where two readings are possible and recog asks
    "seg_train/seg_train/{}|seg_test/seg_test/{}": True,
    "Train Data/{}|Test Data/{}": True,
    "train_images/{}|test_images/{}": True,
    "train1/{}|test1/{}": True,
    "train/{}|dev/{}": True,
    "train/{}|holdout/{}": True,
    "animals/{}|plants/{}": False,
    "a/b/{}": True,
}


def a4(tool: Tool) -> str:
    """Eight layouts with a level above the classes: the classes found, or a question; never other classes."""
    right = asked = wrong = 0
    for number, (layout, same) in enumerate(LAYOUTS.items()):
        root = f"layout{number}"
        for part, template in enumerate(layout.split("|")):
            names = {colour: colour if same else f"{colour}{part}" for colour in COLOURS}
            for colour, name in names.items():
                place = tool.folder / root / template.format(name)
                write_colours(tool.folder / "spare", 4, 20 + 2 * number + part)
                place.mkdir(parents=True)
                for path in (tool.folder / "spare" / colour).glob(f"{20 + 2 * number + part}_*"):
                    path.rename(place / path.name)
        done = tool.run("scan", root, "--json")
        classes = re.findall(r'"(red|green|blue)\d?"', done.stdout)
        if "--classes-at-depth" in done.stdout + done.stderr:
            asked += 1
        elif set(classes) == set(COLOURS):
            right += 1
        else:
            wrong += 1
    return f"{right} right, {asked} asked, {wrong} wrong"


def a5(tool: Tool) -> str:
    """Labels by chance, 10 images of one patient alike: accuracy with a warning, or about 50 % with --group."""
    draws = np.random.default_rng(5)
    for patient in range(24):
        colour = draws.integers(60, 190, 3)
        place = tool.folder / "scans" / ("benign", "malign")[patient % 2] / f"P{patient:03}"
        place.mkdir(parents=True)
        for i in range(10):
            pixels = np.clip(colour + draws.integers(-12, 12, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
    done = tool.run("train", "scans", *TRAIN, "--epochs", "40", "--name", "torn")
    warned = "warned" if re.search(r"--group", done.stderr + done.stdout) else "no warning"
    accuracy = accuracy_of(tool, "torn")
    tool.run("train", "scans", *TRAIN, "--epochs", "40", "--name", "whole", "--group", "subfolder")
    return f"{accuracy}, {warned}; by patient {accuracy_of(tool, 'whole')}"


def a6(tool: Tool) -> str:
    """Letters b and d, each the other's mirror image: accuracy of the default augmentation."""
    draws = np.random.default_rng(6)
    font = ImageFont.load_default(20)
    for letter in "bd":
        (tool.folder / "letters" / letter).mkdir(parents=True)
        for i in range(120):
            page = Image.new("L", (28, 28), 255)
            place = (8 + int(draws.integers(-4, 5)), 1 + int(draws.integers(-3, 4)))
            ImageDraw.Draw(page).text(place, "b", fill=0, font=font)
            pixels = np.asarray(page)[:, ::-1] if letter == "d" else np.asarray(page)
            noisy = np.clip(pixels.astype(int) + draws.integers(-20, 20, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tool.folder / "letters" / letter / f"{i}.png")
    tool.run("train", "letters", *TRAIN, "--epochs", "40", "--name", "letters")
    return accuracy_of(tool, "letters")


def a7(tool: Tool) -> str:
    """A CSV of 60 images, classes null, None and good: the number of images that scan counts (60)."""
    write_colours(tool.folder / "named", 20, 7)
    names = {"red": "null", "green": "None", "blue": "good"}
    rows = [f"named/{colour}/7_{i}.png,{name}" for colour, name in names.items() for i in range(20)]
    (tool.folder / "list.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    done = tool.run("scan", "list.csv")
    found = re.search(r"(\d+)[ ,]*images", done.stdout + done.stderr)
    return f"{found.group(1)} images" if found else summary(done)


def a8(tool: Tool) -> str:
    """Five settings that recipe head does not read, and a weights file that is absent: refused of six."""
    lines = [
        ["--epochs", "3"],
        ["--lr", "0.1"],
        ["--optimizer", "adam"],
        ["--set", "augment.mixup=0.2"],
        ["--set", "stop.patience=3"],
        ["--weights", "gone.safetensors"],
    ]
    write_colours(tool.folder / "few", 20, 8)
    codes = [
        tool.run("train", "few", "--recipe", "scratch" if line[0] == "--weights" else "head", "--name", f"n{i}", *line)
        for i, line in enumerate(lines)
    ]
    return f"{sum(done.returncode != 0 for done in codes)} of {len(codes)}"


def a9(tool: Tool) -> str:
    """Half of a class as JPEG 2000: images that scan counts (60)."""
    write_colours(tool.folder / "mixed", 20, 9)
    for path in sorted((tool.folder / "mixed" / "red").iterdir())[:10]:
        Image.open(path).save(path.with_suffix(".jp2"))
        path.unlink()
    done = tool.run("scan", "mixed")
    found = re.search(r"(\d+)[ ,]*images", done.stdout + done.stderr)
    return f"{found.group(1)} images" if found else summary(done)


def a10(tool: Tool) -> str:
    """Intervals of one report (colours that overlap) that do not contain their estimate."""
    for split, count, seed in (("train", 40, 1), ("val", 20, 2), ("test", 20, 3)):
        write_colours(tool.folder / "hard" / split, count, seed, width=254)
    tool.run("train", "hard", *TRAIN, "--epochs", "3", "--name", "hard")
    done = tool.run("evaluate", "hard", "hard/test", "--json", "--split", "test")
    if done.returncode:
        done = tool.run("evaluate", "hard", "hard/test", "--json")
    outside = list(estimates_outside(json.loads(done.stdout)))
    return f"{len(outside)} outside" + (f" ({', '.join(outside)})" if outside else "")


def estimates_outside(node: object, path: str = "") -> list[str]:
    """Names of values whose NAME_ci95 does not contain them, anywhere in a report."""
    found = []
    if isinstance(node, dict):
        for key, value in node.items():
            interval = node.get(f"{key}_ci95") or (node.get("bootstrap") or {}).get(f"{key}_ci95")
            if isinstance(value, float) and isinstance(interval, list) and None not in interval:
                found += [f"{path}{key}"] if not interval[0] - 1e-9 <= value <= interval[1] + 1e-9 else []
            found += estimates_outside(value, f"{path}{key}.")
    elif isinstance(node, list):
        for item in node:
            found += estimates_outside(item, path)
    return found


def a11(tool: Tool) -> str:
    """A class named -1 and a file named -4.png in predict's CSV: cells that are unchanged (2 of 2)."""
    write_colours(tool.folder / "signs", 30, 11, {"red": "-1", "green": "0", "blue": "1"})
    tool.run("train", "signs", *TRAIN, "--epochs", "5", "--name", "signs")
    (tool.folder / "-4.png").write_bytes((tool.folder / "signs" / "-1" / "11_0.png").read_bytes())
    done = tool.run("predict", "signs", "--csv", "--", "-4.png")
    cells = done.stdout.splitlines()[-1].split(",") if done.stdout else []
    return f"{('-4.png' in cells) + ('-1' in cells)} of 2"


SCENES: dict[str, Callable[[Tool], str]] = {
    f"A{i + 1}": scene for i, scene in enumerate((a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11))
}


def main() -> None:
    sources = [Path(argument).resolve() for argument in sys.argv[1:2]] + [Path(__file__).parents[1] / "src"]
    rows = []
    for name, scene in SCENES.items():
        answers = []
        for source in sources:
            with tempfile.TemporaryDirectory() as folder:
                answers.append(scene(Tool(source, Path(folder))))
        rows.append(f"| {name} | {(scene.__doc__ or '').strip()} | {' | '.join(answers)} |")
        print(rows[-1], file=sys.stderr, flush=True)
    head = "before | now" if len(sources) > 1 else "now"
    table = f"| | scene, right answer | {head} |\n|---|---|{'---|' * len(sources)}\n" + "\n".join(rows)
    harness.write_result("misleading_numbers", "Scenes that mislead: what recog answers", table)


if __name__ == "__main__":
    main()
