"""AugMix and noise beside the usual augmentation on CIFAR-10: mean accuracy under corruptions, in equal time of training.

    python benchmarks/augmix.py DATA [--images 10000] [--epochs 4] [--seeds 2] [--side 16] [--test 300]

DATA is the folder with cifar10.zip. fastnet32 is trained on --images by the policy 'standard' for --epochs; the others
are trained for as many steps as fit the same CPU time, found by the first of them, and a schedule of that length. Then the
15 corruptions of CIFAR-10-C at five severities on test images that no network has seen, at the size of its input.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from harness import write_result
from noisy_labels import chosen
from numpy.typing import NDArray

from recog.data.augment.policies import AugmentConfig
from recog.models.config import ModelConfig
from recog.perturbation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from recog.recipes.config import ComputeConfig, LoaderConfig, TrainConfig
from recog.recipes.learn import start_training
from recog.recipes.plan import StepsPlan
from recog.recipes.prepare import Prepared, prepare
from recog.training.config import OptimConfig
from recog.training.fit import collect_logits, train_step
from recog.training.schedule import build_schedule
from recog.training.state import TrainState

BATCH = 250
USUAL = "standard"
POLICIES = {
    USUAL: AugmentConfig(policy="standard"),
    "augmix": AugmentConfig(policy="augmix"),
    "standard, noise 25, blur 1": AugmentConfig(policy="standard", noise=25.0, blur=1.0),
    "augmix, noise 25, blur 1": AugmentConfig(policy="augmix", noise=25.0, blur=1.0),
}


def train(prepared: Prepared, seconds: float | None) -> tuple[TrainState, float, int]:
    """(state, CPU seconds of training, steps): all steps of the plan, or as many as fit `seconds`."""
    plan, images = prepared.plan, prepared.larger
    if not isinstance(plan, StepsPlan) or images is None:
        raise ValueError("these settings train no network by steps")
    num_steps = plan.optim.epochs * (len(images.targets) // plan.images_per_step)
    if seconds is not None:
        num_steps = round(num_steps * seconds / _cost(prepared, num_steps))
    state, loader = start_training(
        copy.deepcopy(prepared.model.classifier), images, plan, image_size=prepared.model.preprocess.image_size
    )
    lr_at = build_schedule(plan.schedule, num_steps=num_steps, peak_lr=plan.optim.lr)
    started = time.process_time()
    while state.num_steps_done < num_steps:
        for batch, targets in loader.batches(state.num_steps_done // loader.steps_per_epoch):
            train_step(state, batch, targets, lr=lr_at(state.num_steps_done))
            if state.num_steps_done == num_steps:
                break
    return state, time.process_time() - started, num_steps


def _cost(prepared: Prepared, num_steps: int, num_timed: int = 6) -> float:
    """CPU seconds that `num_steps` would take, from a few on a copy of the network."""
    plan, images = prepared.plan, prepared.larger
    if not isinstance(plan, StepsPlan) or images is None:
        raise ValueError("these settings train no network by steps")
    state, loader = start_training(
        copy.deepcopy(prepared.model.classifier), images, plan, image_size=prepared.model.preprocess.image_size
    )
    started = 0.0
    for step, (batch, targets) in enumerate(loader.batches(0)):
        if step == 1:  # the first step allocates
            started = time.process_time()
        train_step(state, batch, targets, lr=1e-4)
        if step == num_timed:
            break
    return (time.process_time() - started) / num_timed * num_steps


def accuracies(state: TrainState, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[float, float]:
    """(as they are, mean over the 15 corruptions and five severities)."""
    names = [name for name, corruption in CORRUPTIONS.items() if corruption.group == "common"]

    def accuracy(changed: NDArray[np.uint8]) -> float:
        logits = collect_logits(state.classifier, changed, precision=state.precision).logits
        return float((logits.argmax(axis=1) == labels).mean())

    means = [
        accuracy(np.stack([corrupt(image, name, severity, seed=0, index=i) for i, image in enumerate(images)]))
        for name in names
        for severity in SEVERITIES
    ]
    return accuracy(images), statistics.mean(means)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    data = chosen(options.data, "CIFAR-10", options.images + 100, options.test)
    val = {sample.name for sample in data.subset("train")[:: (options.images + 100) // 100]}
    samples = [replace(sample, split="val") if sample.name in val else sample for sample in data.samples]
    data = replace(data, samples=tuple(samples))
    found: dict[str, list[tuple[float, float, float, int]]] = {name: [] for name in POLICIES}
    for seed in range(options.seeds):
        seconds = None
        for name, augment in POLICIES.items():
            config = TrainConfig(
                recipe="scratch",
                seed=seed,
                augment=augment,
                model=ModelConfig(name="fastnet32", image_size=(options.side, options.side)),
                loader=LoaderConfig(batch_size=BATCH),
                optim=OptimConfig(epochs=options.epochs, accumulation=1),
                compute=ComputeConfig(num_threads=options.threads, precision="float32"),
            )
            prepared = prepare(config, data)
            state, taken, num_steps = train(prepared, seconds)
            seconds = seconds or taken
            test = prepared.dataset.subset("test")
            images = np.stack([prepared.model.preprocess.read(sample.source, name=sample.name) for sample in test])
            clean, mean = accuracies(state, images, np.array([sample.label for sample in test]))
            found[name].append((clean, mean, taken, num_steps))
            print(
                f"seed {seed}, {name}: clean {clean:.1%}, corrupted {mean:.1%}, {taken:.0f} s, {num_steps} steps",
                flush=True,
            )
    write_result("augmix", "Augmentation against corruptions, CIFAR-10", "\n".join(table(found, options)))


def table(found: dict[str, list[tuple[float, float, float, int]]], options: argparse.Namespace) -> list[str]:
    lines = [
        f"fastnet32 at {options.side} px, {options.images:,} training images, batches of {BATCH}; {options.test} test "
        f"images, the 15 corruptions of CIFAR-10-C at five severities, made at {options.side} px; mean and range of "
        f"{options.seeds} seeds; equal CPU time of training.",
        "",
        "| augmentation | accuracy as they are | mean under corruptions | gain, points | CPU s | steps |",
        "|---|---|---|---|---|---|",
    ]
    base = statistics.mean(row[1] for row in found[USUAL])

    def cell(values: list[float]) -> str:
        return f"{statistics.mean(values):.1%} ({min(values):.1%}-{max(values):.1%})"

    for name, rows in found.items():
        cleans, means, seconds, steps = (list(column) for column in zip(*rows, strict=True))
        gain = 100 * (statistics.mean(means) - base)
        lines.append(
            f"| {name} | {cell(cleans)} | {cell(means)} | {gain:+.1f} | {statistics.mean(seconds):.0f} | "
            f"{round(statistics.mean(steps))} |"
        )
    return lines


if __name__ == "__main__":
    main()
