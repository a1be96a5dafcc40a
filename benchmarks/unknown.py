"""Does 'unknown' find images of classes that were never shown? `python benchmarks/unknown.py CIFAR10FOLDER FLOWERSFOLDER`

Each CIFAR-10 class is held out once: a run on images of the other nine, then its score of the tenth's test images beside that
of the nine's. Then a run on flowers is shown CIFAR-10's test images, and a run on CIFAR-10 flowers. What score a run takes it
has chosen itself, by leaving classes out of its own training data. Noise does not count as unknown, so none is shown.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import write_result

import recog
from recog.core.files import natural_key
from recog.evaluation.measures.counts import wilson_interval
from recog.evaluation.measures.probability import auroc_of, softmax
from recog.recipes.config import TrainConfig
from recog.verbs.run import Run

NUM_TRAIN, NUM_TEST = 250, 60  # images of each known class
NUM_STRANGE = 300
NUM_RESAMPLES = 1000
CONFIG = TrainConfig(recipe="head")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    name: str
    accuracy: float  # on the known classes' test images
    method: str
    auroc: tuple[float, float, float]  # of the run's own score: value, 95 % interval
    baseline: tuple[float, float, float]  # of the largest softmax
    num_known: int
    num_false_alarms: int
    num_strange: int
    num_found: int

    def row(self) -> str:
        found, alarms = self.num_found / self.num_strange, self.num_false_alarms / self.num_known
        found_low, found_high = wilson_interval(self.num_found, self.num_strange)
        low, high = wilson_interval(self.num_false_alarms, self.num_known)
        return (
            f"| {self.name} | {self.accuracy:.1%} | {self.method} | {_with_interval(self.auroc)} "
            f"| {_with_interval(self.baseline)} "
            f"| {found:.1%} ({found_low:.1%}-{found_high:.1%}) | {alarms:.1%} ({low:.1%}-{high:.1%}) "
            f"| {self.num_known}, {self.num_strange} |"
        )


HEADER = (
    "| unknown | accuracy on the known | score | AUROC (95%) | largest softmax | found | false alarms | n known, unknown |\n"
    "|---|---|---|---|---|---|---|---|"
)


def auroc_with_interval(known: np.ndarray, strange: np.ndarray, *, seed: int = 0) -> tuple[float, float, float]:
    """AUROC of telling `strange` scores [M] from `known` [N], and its 95 % interval: a bootstrap within each kind."""
    rng = np.random.default_rng(seed)
    is_strange = np.repeat([False, True], [len(known), len(strange)])
    values = [
        auroc_of(np.concatenate([rng.choice(known, len(known)), rng.choice(strange, len(strange))]), is_strange)
        for _ in range(NUM_RESAMPLES)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return auroc_of(np.concatenate([known, strange]), is_strange), float(low), float(high)


def copy_images(source: Path, target: Path, classes: Sequence[str], limit: int) -> None:
    for name in classes:
        (target / name).mkdir(parents=True)
        for path in _first(source / name, limit):
            shutil.copyfile(path, target / name / path.name)


def measure(name: str, run: Run, strange: Sequence[Path], known: Sequence[Path]) -> Outcome:
    predictor = recog.load(run.bundle)
    answers = [predictor.predict(list(files), reject=True) for files in (known, strange)]
    own = [np.array([answer.unknown_score for answer in part]) for part in answers]
    sure = [-softmax(np.stack([answer.logits for answer in part])).max(axis=1) for part in answers]
    rule = predictor.calibration.unknown
    return Outcome(
        name=name,
        accuracy=run.report.accuracy,
        method=rule.method,
        auroc=auroc_with_interval(*own),
        baseline=auroc_with_interval(*sure),
        num_known=len(known),
        num_false_alarms=sum(bool(answer.is_unknown) for answer in answers[0]),
        num_strange=len(strange),
        num_found=sum(bool(answer.is_unknown) for answer in answers[1]),
    )


def try_data(name: str, data: Path, classes: Sequence[str], strange: Sequence[Path], work: Path) -> Outcome:
    """Train on up to 250 images of each of `classes` below data/train, and ask about `strange` and data/test."""
    folder = work / name.replace(" ", "-")
    copy_images(data / "train", folder / "train", classes, NUM_TRAIN)
    copy_images(data / "test", folder / "test", classes, NUM_TEST)
    run = recog.train(folder, CONFIG)
    outcome = measure(
        name, run, strange, sorted((folder / "test").rglob("*.*"), key=lambda path: natural_key(str(path)))
    )
    print(outcome.row(), flush=True)
    return outcome


def main() -> None:
    cifar, flowers = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    kinds = sorted(path.name for path in (flowers / "train").iterdir())
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="recog-unknown-") as work,
        chdir(work),
    ):  # runs go below the working directory
        for held_out in CLASSES:
            rest = [name for name in CLASSES if name != held_out]
            strange = _first(cifar / "test" / held_out, NUM_STRANGE)
            outcomes.append(try_data(held_out, cifar, rest, strange, Path(work)))
        some = [path for name in CLASSES for path in _first(cifar / "test" / name, NUM_STRANGE // len(CLASSES))]
        outcomes.append(try_data("CIFAR-10, known flowers", flowers, kinds, some, Path(work)))
        some = [path for name in kinds for path in _first(flowers / "test" / name, NUM_STRANGE // len(kinds))]
        outcomes.append(try_data("flowers, known CIFAR-10", cifar, CLASSES, some, Path(work)))
    held_out_rows = outcomes[: len(CLASSES)]
    mean = np.mean([outcome.auroc[0] for outcome in held_out_rows])
    baseline = np.mean([outcome.baseline[0] for outcome in held_out_rows])
    body = (
        f"Head on frozen pretrained features, up to {NUM_TRAIN} training images of each known class; measured on test images. "
        "Each run has chosen its score itself, and its threshold for 5 % false alarms. AUROC: known against unknown, 0.5 is "
        f"chance; intervals by {NUM_RESAMPLES:,} resamples within each kind, of shares Wilson's.\n\n"
        + "\n".join([HEADER, *(outcome.row() for outcome in outcomes)])
        + f"\n\nMean AUROC over the ten classes held out: {mean:.3f}; largest softmax {baseline:.3f}."
    )
    write_result("unknown", "Unknown: classes that were never shown", body)


def _first(folder: Path, limit: int) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: natural_key(path.name))[
        :limit
    ]


def _with_interval(value: tuple[float, float, float]) -> str:
    return f"{value[0]:.3f} ({value[1]:.3f}-{value[2]:.3f})"


if __name__ == "__main__":
    main()
