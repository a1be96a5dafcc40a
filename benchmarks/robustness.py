"""Attacks beside torchattacks', and the time that corruptions take.

    pip install --no-deps torchattacks
    python benchmarks/robustness.py attacks BUNDLE DATA --eps 0.1
    python benchmarks/robustness.py corruptions PHOTOS

`attacks`: PGD and Auto-PGD of recog and of torchattacks 3.5.1 on the same images, with the same eps, steps and step size, and
random starts of their own; the share of images that each leaves right. `corruptions`: milliseconds per photo of 224 px.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import recog
from recog.models.network_files import load_classifier
from recog.perturbation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from recog.perturbation.gradient_attacks import Target, auto_pgd, cross_entropy, dlr, pgd
from recog.training.threat import Threat
from recog.verbs.robustness import RobustnessConfig, _read_subject, open_labelled

STEPS = 20
NUM_IMAGES = 200
SEEDS = range(5)


def attacks(bundle: str, data: str, eps: float) -> list[str]:
    """A table of robust accuracies, a row an attack."""
    import torchattacks

    labelled = open_labelled(
        bundle, data, split=None, labels=recog.LabelFormat(), layout=recog.DataLayout(), include_seen=False
    )
    subject, _ = _read_subject(labelled, RobustnessConfig(num_images=NUM_IMAGES), "auto")
    classifier = load_classifier(labelled.side.folder).eval()
    images = torch.from_numpy(subject.images).permute(0, 3, 1, 2).float() / 255
    labels = torch.from_numpy(subject.targets.astype(np.int64))
    threat = Threat(norm="linf", eps=eps)

    class Logits(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return classifier.forward_pixels(pixels)[0]

    network = Logits().eval()
    indices = np.array([int(content[:8], 16) for content in subject.hashes])
    targets = [Target(logits_of=network, images=images, labels=labels, indices=indices, seed=seed) for seed in SEEDS]
    step = 2.5 * eps / STEPS
    ours: dict[str, Callable[[Target], torch.Tensor]] = {
        "PGD": lambda target: pgd(target, threat, steps=STEPS, restarts=1),
        "Auto-PGD, cross-entropy": lambda target: auto_pgd(
            target, threat, cross_entropy, steps=STEPS, stream="apgd-ce"
        ),
        "Auto-PGD, DLR": lambda target: auto_pgd(target, threat, dlr, steps=STEPS, stream="apgd-dlr"),
    }
    peers: dict[str, Any] = {
        "PGD": torchattacks.PGD(network, eps=eps, alpha=step, steps=STEPS, random_start=True),
        "Auto-PGD, cross-entropy": torchattacks.APGD(network, eps=eps, steps=STEPS, loss="ce"),
        "Auto-PGD, DLR": torchattacks.APGD(network, eps=eps, steps=STEPS, loss="dlr"),
    }

    def accuracy(changed: torch.Tensor) -> float:
        return float((~targets[0].is_fooled(changed)).float().mean())

    rows = [f"| none | {accuracy(images):.1%} | {accuracy(images):.1%} | |"]
    for name, attack in ours.items():
        mine = [accuracy(attack(target)) for target in targets]
        theirs = []
        for seed in SEEDS:
            torch.manual_seed(seed)
            peers[name].seed = seed
            theirs.append(accuracy(peers[name](images, labels)))
        gap = 100 * (statistics.mean(mine) - statistics.mean(theirs))
        rows.append(f"| {name} | {_spread(mine)} | {_spread(theirs)} | {gap:+.1f} points |")
    return rows


def _spread(rates: Sequence[float]) -> str:
    return f"{statistics.mean(rates):.1%} ({min(rates):.1%}-{max(rates):.1%})"


def corruptions(photos: Path) -> list[str]:
    """A row a corruption: median milliseconds of its five severities on five photos."""
    files = sorted(photos.rglob("*.jpg"))[:5]
    images = [np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files]
    rows, total = [], 0.0
    for name in CORRUPTIONS:
        times = []
        for severity in SEVERITIES:
            for index, image in enumerate(images):
                started = time.perf_counter()
                corrupt(image, name, severity, seed=0, index=index)
                times.append(1e3 * (time.perf_counter() - started))
        median = statistics.median(times)
        total += median
        rows.append(f"| {name} | {median:.1f} | {min(times):.1f}-{max(times):.1f} |")
    return [*rows, f"| mean | {total / len(CORRUPTIONS):.1f} | |"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    attacking = commands.add_parser("attacks")
    attacking.add_argument("bundle")
    attacking.add_argument("data")
    attacking.add_argument("--eps", type=float, default=0.1)
    corrupting = commands.add_parser("corruptions")
    corrupting.add_argument("photos", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "attacks":
        print(f"eps {options.eps:g}, {STEPS} steps, {NUM_IMAGES} images, mean (range) of {len(SEEDS)} random starts")
        print("| attack | recog | torchattacks | difference |\n|---|---|---|---|")
        print("\n".join(attacks(options.bundle, options.data, options.eps)))
    else:
        torch.set_num_threads(1)
        print("| corruption | ms per photo | range |\n|---|---|---|")
        print("\n".join(corruptions(options.photos)))


if __name__ == "__main__":
    main()
