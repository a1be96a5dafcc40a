"""Test accuracy of `recog train digits` over seeds 0-4, each with its own split, beside scikit-learn's SVC on the same."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
from harness import recog, time_in_turn, write_result
from sklearn.svm import SVC

from recog.data.sources import read_digits


def svc_accuracy(splits: dict[str, list[dict[str, str]]]) -> float:
    """scikit-learn's own example for these digits (SVC, gamma 0.001), on grey levels 0..16, fitted on train and val."""
    samples = {sample.name: sample for sample in read_digits().samples}

    def rows(*names: str) -> tuple[np.ndarray, np.ndarray]:
        chosen = [samples[row["name"]] for name in names for row in splits[name]]
        images = np.stack([np.asarray(sample.source).reshape(-1) for sample in chosen]) * (16 / 255)
        return images, np.array([sample.label for sample in chosen])

    train_x, train_y = rows("train", "val")
    test_x, test_y = rows("test")
    return float(SVC(gamma=0.001).fit(train_x, train_y).score(test_x, test_y))


def main() -> None:
    lines = ["| seed | recog | SVC | n test | train command, s |", "|---|---|---|---|---|"]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(5):
            command = recog("train", "digits", "--seed", str(seed), "--name", f"seed-{seed}", "--json")
            timing = time_in_turn({"recog": command}, runs=1, warmup=0, cwd=Path(folder))
            report = json.loads(timing["recog"].stdout)["report"]
            splits = json.loads((Path(folder) / f"runs/seed-{seed}/splits.json").read_text())["splits"]
            ours.append(report["accuracy"])
            theirs.append(svc_accuracy(splits))
            lines.append(
                f"| {seed} | {ours[-1]:.2%} | {theirs[-1]:.2%} | {report['num_images']} | {timing['recog'].median_s:.1f} |"
            )
    lines.append(
        f"| mean (std) | {statistics.mean(ours):.2%} ({statistics.stdev(ours):.2%}) "
        f"| {statistics.mean(theirs):.2%} ({statistics.stdev(theirs):.2%}) | | |"
    )
    write_result("digits_accuracy", "Handwritten digits: test accuracy over five splits", "\n".join(lines))


if __name__ == "__main__":
    main()
