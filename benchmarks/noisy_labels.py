"""Training on labels of which 20 % or 40 % are wrong: what `--noisy-labels` could do, beside plain training.

    python benchmarks/noisy_labels.py head DATA [--seeds 3]
    python benchmarks/noisy_labels.py scratch DATA [--seeds 3] [--images 2500] [--epochs 8] [--side 16]

DATA is the folder with flowers.zip and cifar10.zip. A wrong label is any other class, each as likely; test labels are right.
`head`: a linear layer on frozen features of tf_efficientnet_lite0, which are computed once and kept in the temporary folder.
`scratch`: fastnet32 on images of CIFAR-10, the same number of epochs for each method, weights of the last epoch. Each result is a
line of results/noisy_labels.jsonl, so that an interrupted benchmark goes on; the tables are made of all lines.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import RESULTS, write_result
from numpy.typing import NDArray

from recog.core.images.image_file import ImageLimits
from recog.data.dataset import Dataset
from recog.data.sources import open_source
from recog.doctor.features import SMALL, pretrained_extractor, standardised
from recog.doctor.label_errors import judge_features, prunable
from recog.models.config import ModelConfig
from recog.recipes.choose_head import choose, try_out_of_fold
from recog.recipes.config import ComputeConfig, LoaderConfig, TrainConfig
from recog.recipes.learn import start_training
from recog.recipes.plan import StepsPlan
from recog.recipes.prepare import Prepared, prepare
from recog.training.config import HeadConfig, LossConfig, OptimConfig
from recog.training.fit import collect_logits, train_step
from recog.training.head import HeadData
from recog.training.losses import Loss, build_loss
from recog.training.ridge import fit_as
from recog.training.schedule import build_schedule

RATES = (0.2, 0.4)
NUM_TRAIN, NUM_TEST = {"flowers": 600, "CIFAR-10": 2500}, {"flowers": 200, "CIFAR-10": 1000}
REWEIGHED_L2 = 0.1  # of the logistic heads, for all methods alike
BATCH = 125
REWEIGHED = "reweighed by 1 - suspicion"
LAST_HEAD = f"logistic, {REWEIGHED}"
PRUNED = "cross-entropy, pruned by features"
LINES = RESULTS / "noisy_labels.jsonl"
ELR_WEIGHT, ELR_MEMORY = 3.0, 0.7  # Liu et al. (2020), arXiv:2007.00151, of CIFAR-10


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test: NDArray[np.float32]
    test_labels: NDArray[np.int64]


def flipped(labels: NDArray[np.int64], rate: float, num_classes: int, seed: int) -> NDArray[np.int64]:
    """`labels` of which the share `rate` is another class."""
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(labels))[: round(rate * len(labels))]
    noisy = labels.copy()
    noisy[wrong] = (labels[wrong] + rng.integers(1, num_classes, len(wrong))) % num_classes
    return noisy


def chosen(shared: Path, name: str, num_train: int, num_test: int) -> Dataset:
    """So many images of either split, as many of each class."""
    archive = {"flowers": "flowers.zip", "CIFAR-10": "cifar10.zip"}[name]
    data = open_source(str(shared / archive))
    samples = []
    for split, count in (("train", num_train), ("test", num_test)):
        by_class = sorted(data.subset(split), key=lambda sample: (sample.label, sample.name))
        samples += [by_class[i] for i in np.linspace(0, len(by_class) - 1, count).astype(int)]
    return replace(data, samples=tuple(samples))


def features_of(shared: Path, name: str, num_train: int, num_test: int) -> Features:
    kept = Path(tempfile.gettempdir()) / f"recog-noisy-{name}-{num_train}-{num_test}.npz"
    if kept.exists():
        with np.load(kept) as arrays:
            return Features(**{key: arrays[key] for key in arrays.files})
    data = chosen(shared, name, num_train, num_test)
    found: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {}
    with pretrained_extractor([SMALL], ImageLimits()) as extractor:
        (network,) = extractor.networks
        for split in ("train", "test"):
            samples = data.subset(split)
            parts = [
                network.features(
                    np.stack([network.preprocess.read(s.source, name=s.name) for s in samples[i : i + 64]])
                )
                for i in range(0, len(samples), 64)
            ]
            found[split] = np.concatenate(parts)
            found[f"{split}_labels"] = np.array([sample.label for sample in samples])
    np.savez(kept, **found)
    return features_of(shared, name, num_train, num_test)


def heads(found: Features, noisy: NDArray[np.int64], num_classes: int, seed: int) -> Iterator[tuple[str, float]]:
    """(method, accuracy)."""
    together = standardised(np.concatenate([found.train, found.test]))
    train, test = together[: len(noisy)], together[len(noisy) :]
    groups = np.arange(len(noisy))
    evidence = judge_features(found.train, noisy, groups, num_classes=num_classes, seed=seed)
    if evidence is None:
        raise ValueError("the labels cannot be judged")
    pruned = prunable(evidence, noisy, groups)
    wrong = noisy != found.train_labels
    yield "suspects that are wrong", float(wrong[pruned].mean())
    yield "wrong labels that are suspects", float(pruned[wrong].mean())
    plan = TrainConfig(seed=seed, head=HeadConfig(method="ridge"))
    for method, kept in (("plain", ~np.zeros_like(pruned)), ("pruned", ~pruned)):
        data = HeadData(features=train[kept], targets=noisy[kept], groups=groups[kept])
        best = choose(try_out_of_fold(data, plan, num_classes=num_classes, num_repeats=1))
        head = fit_as(best.spec, data, plan.head, num_classes=num_classes)
        yield f"ridge, {method}", float((head(test).argmax(axis=1) == found.test_labels).mean())
    weights = {
        "plain": np.ones(len(noisy)),
        "pruned": (~pruned).astype(float),
        REWEIGHED: 1 - np.nan_to_num(evidence.suspicion),
    }
    from sklearn.linear_model import LogisticRegression

    for method, weight in weights.items():
        model = LogisticRegression(C=1 / (REWEIGHED_L2 * weight.sum()), max_iter=60, tol=1e-3)
        model.fit(train[weight > 0], noisy[weight > 0], sample_weight=weight[weight > 0])
        yield f"logistic, {method}", float((model.predict(test) == found.test_labels).mean())


class EarlyLearning:
    """Cross-entropy, and a pull towards the mean of an image's own earlier answers: Liu et al. (2020), equations 5 and 9."""

    def __init__(self, loss: Loss, num_images: int, num_classes: int) -> None:
        self.loss, self.memory, self.rows = loss, torch.zeros(num_images, num_classes), np.zeros(0, np.int64)

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        probs = logits.softmax(dim=1).clamp(1e-4, 1 - 1e-4)
        with torch.no_grad():
            own = probs / probs.sum(dim=1, keepdim=True)
            self.memory[self.rows] = ELR_MEMORY * self.memory[self.rows] + (1 - ELR_MEMORY) * own
        agreement = (probs * self.memory[self.rows]).sum(dim=1)
        return self.loss(logits, targets) + ELR_WEIGHT * (1 - agreement).log().mean()

    def total_weight(self, targets: torch.Tensor) -> float:
        return self.loss.total_weight(targets)


def train_scratch(prepared: Prepared, rows: NDArray[np.int64], loss: str) -> tuple[float, float]:
    """(accuracy on test, seconds) of a network trained on the training images `rows`."""
    plan, train = prepared.plan, prepared.larger
    if not isinstance(plan, StepsPlan) or train is None:
        raise ValueError("these settings train no network by steps")
    classifier = copy.deepcopy(prepared.model.classifier)
    images = train.store.stack(rows)  # type: ignore[union-attr]
    part = replace(train, store=type(train.store)(list(images)), targets=train.targets[rows], names=())  # type: ignore[call-arg]
    started = time.perf_counter()
    state, loader = start_training(classifier, part, plan, image_size=prepared.model.preprocess.image_size)
    elr = EarlyLearning(state.loss, len(rows), classifier.classifier.out_features) if loss == "elr" else None
    if elr is not None:
        state.loss = elr  # type: ignore[assignment]
    elif loss != "cross-entropy":
        state.loss = build_loss(LossConfig(name=loss))  # type: ignore[arg-type]
    epochs = plan.optim.epochs
    lr_at = build_schedule(plan.schedule, num_steps=epochs * loader.steps_per_epoch, peak_lr=plan.optim.lr)
    for epoch in range(epochs):
        order = loader.draws(epoch)
        for step, (batch, targets) in enumerate(loader.batches(epoch)):
            if elr is not None:
                elr.rows = order[step * loader.batch_size : (step + 1) * loader.batch_size]
            train_step(state, batch, targets, lr=lr_at(state.num_steps_done))
    seconds = time.perf_counter() - started
    test = prepared.dataset.subset("test")
    pixels = np.stack([prepared.model.preprocess.read(sample.source, name=sample.name) for sample in test])
    preds = collect_logits(classifier, pixels, precision=state.precision).logits.argmax(axis=1)
    return float((preds == np.array([sample.label for sample in test])).mean()), seconds


def scratch(shared: Path, options: argparse.Namespace, rate: float, seed: int) -> Iterator[tuple[str, float, float]]:
    """(method, accuracy, seconds)."""
    data = chosen(shared, "CIFAR-10", options.images, 1000)
    train = data.subset("train")
    right = np.array([sample.label for sample in train])
    noisy = flipped(right, rate, len(data.class_names), seed)
    relabelled = {s.name: replace(s, labels=(int(label),)) for s, label in zip(train, noisy, strict=True)}
    val = {
        label: name for name, sample in reversed(relabelled.items()) for label in sample.labels
    }  # one of each: not used
    relabelled |= {name: replace(relabelled[name], split="val") for name in val.values()}
    data = replace(data, samples=tuple(relabelled.get(sample.name, sample) for sample in data.samples))
    config = TrainConfig(
        recipe="scratch",
        seed=seed,
        model=ModelConfig(name="fastnet32", image_size=(options.side, options.side)),
        loader=LoaderConfig(batch_size=BATCH),
        optim=OptimConfig(epochs=options.epochs, accumulation=1),
        compute=ComputeConfig(num_threads=options.threads, precision="float32"),
    )
    prepared = prepare(config, data)
    if prepared.larger is None:
        raise ValueError("no training images")
    every = np.arange(len(prepared.larger.targets))
    for loss in options.losses:
        if loss != "pruned" and not is_known("scratch", about(options), rate, seed, loss):
            yield (f"{loss}", *train_scratch(prepared, every, loss))
    if "pruned" in options.losses and not is_known("scratch", about(options), rate, seed, PRUNED):
        found = features_of(shared, "CIFAR-10", options.images, 1000)
        places = {sample.name: i for i, sample in enumerate(train)}
        order = np.array([places[name] for name in prepared.larger.names])
        evidence = judge_features(found.train[order], noisy[order], every, num_classes=len(data.class_names), seed=seed)
        if evidence is None:
            raise ValueError("the labels cannot be judged")
        kept = np.flatnonzero(~prunable(evidence, noisy[order], every))
        yield (PRUNED, *train_scratch(prepared, kept, "cross-entropy"))


def read_lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


def is_known(part: str, data: str, rate: float, seed: int, method: str) -> bool:
    wanted = {"part": part, "data": data, "rate": rate, "seed": seed, "method": method}
    return any(wanted.items() <= line.items() for line in read_lines())


def add_line(**line: Any) -> None:
    with LINES.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(*line.values(), flush=True)


def table(part: str, data: str) -> list[str]:
    """A line a method, a column a rate: mean and range."""
    rows: dict[tuple[str, float], list[float]] = {}
    for line in read_lines():
        if (line["part"], line["data"]) == (part, data):
            rows.setdefault((line["method"], line["rate"]), []).append(line["value"])
    methods = list(dict.fromkeys(method for method, _ in rows))

    def cell(values: Sequence[float]) -> str:
        spread = f" ({min(values):.1%}-{max(values):.1%}, n = {len(values)})" if values else ""
        return f"{statistics.mean(values):.1%}{spread}" if values else "-"

    lines = [f"| {data} | {' | '.join(f'{rate:.0%} wrong' for rate in RATES)} |", "|---" * (1 + len(RATES)) + "|"]
    return [*lines, *(f"| {m} | {' | '.join(cell(rows.get((m, rate), [])) for rate in RATES)} |" for m in methods)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("head", "scratch"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2500)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--losses", nargs="+", default=["cross-entropy", "gce", "elr", "pruned"])
    parser.add_argument("--data-sets", nargs="+", default=list(NUM_TRAIN))
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    {"head": head_part, "scratch": scratch_part}[options.part](options.data, options)
    parts = [(part, data) for part, data in dict.fromkeys((line["part"], line["data"]) for line in read_lines())]
    body = "\n".join("\n".join([f"## {part}", "", *table(part, data), ""]) for part, data in parts)
    write_result(
        "noisy_labels", "Noisy labels: accuracy on rightly labelled test images, mean and range of seeds", body
    )


def head_part(shared: Path, options: argparse.Namespace) -> None:
    for name in options.data_sets:
        title = f"{name}, {NUM_TRAIN[name]:,} training and {NUM_TEST[name]:,} test images"
        found = features_of(shared, name, NUM_TRAIN[name], NUM_TEST[name])
        num_classes = int(found.train_labels.max()) + 1
        for rate, seed in itertools.product(options.rates, range(options.seeds)):
            if not is_known("head", title, rate, seed, LAST_HEAD):
                noisy = flipped(found.train_labels, rate, num_classes, seed)
                for method, accuracy in heads(found, noisy, num_classes, seed):
                    if not is_known("head", title, rate, seed, method):
                        add_line(part="head", data=title, rate=rate, seed=seed, method=method, value=accuracy)


def about(options: argparse.Namespace) -> str:
    return (
        f"fastnet32 at {options.side} px, {options.images:,} images of CIFAR-10, {options.epochs} epochs of batches of "
        f"{BATCH}, 1,000 test images"
    )


def scratch_part(shared: Path, options: argparse.Namespace) -> None:
    for rate, seed in itertools.product(options.rates, range(options.seeds)):
        for method, accuracy, seconds in scratch(shared, options, rate, seed):
            line = {"part": "scratch", "data": about(options), "rate": rate, "seed": seed, "method": method}
            add_line(**line, value=accuracy, seconds=round(seconds, 1))


if __name__ == "__main__":
    main()
