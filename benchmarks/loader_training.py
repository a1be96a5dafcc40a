"""Accuracy of one short training whose batches come from recog's loader, beside the same with torchvision's ImageFolder.

CIFAR10: a folder that holds train/CLASS/* and test/CLASS/*. All but the batches is one code for both sides: the network and its
first weights, the optimiser, the learning rates, the number of steps, the evaluation. Both sides crop (area 0.35 to 1, aspect
3/4 to 4/3), mirror and normalise; they draw by different generators, so that accuracies differ by chance, and several seeds
tell how much.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from harness import PEERS, write_result

from recog.core.hardware import num_cores
from recog.core.preprocess import Preprocess
from recog.data.augment.policies import AugmentConfig
from recog.data.loader import TrainLoader
from recog.data.readers.folders import read_folder
from recog.data.store import ImageStore, read_exact, read_images, read_larger
from recog.evaluation.measures.counts import wilson_interval
from recog.models.classifier import Classifier
from recog.models.networks.resnet import resnet8
from recog.training.schedule import cosine_lr

sys.path.insert(0, str(PEERS))
from imagefolder_loader import MEAN, STD, build_loader

TRAIN_PER_CLASS, TEST_PER_CLASS, EPOCHS, NUM_SEEDS = 500, 200, 5, 5
IMAGE_SIZE, BATCH_SIZE, PEAK_LR = (32, 32), 64, 0.2
POLICY = AugmentConfig(policy="standard", geometry="crop", mirror=True)
PREPROCESS = Preprocess(image_size=IMAGE_SIZE)

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


def link_subset(source: Path, target: Path, per_class: int) -> Path:
    """The first `per_class` files of each class of `source`, as links in `target`."""
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        (target / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:per_class]:
            (target / folder.name / file.name).symlink_to(file)
    return target


def our_batches(folder: Path, seed: int) -> Iterator[Batches]:
    """Per epoch, batches uint8 [B, H, W, 3]."""
    samples = read_folder(folder).samples
    images = [image for image in read_images(samples, read_larger(PREPROCESS)) if isinstance(image, np.ndarray)]
    loader = TrainLoader(
        store=ImageStore(images),
        targets=np.array([sample.label for sample in samples]),
        augment=POLICY,
        image_size=IMAGE_SIZE,
        batch_size=BATCH_SIZE,
        seed=seed,
    )
    for epoch in range(EPOCHS):
        yield loader.batches(epoch)


def their_batches(folder: Path, seed: int) -> Iterator[Batches]:
    """Per epoch, batches float32 [B, 3, H, W], normalised."""
    torch.manual_seed(seed)
    loader = build_loader(str(folder), IMAGE_SIZE[0], BATCH_SIZE)
    for _ in range(EPOCHS):
        yield loader


def train(epochs: Iterator[Batches], seed: int, num_steps: int) -> Classifier:
    torch.manual_seed(seed)
    classifier = Classifier(resnet8(num_classes=10, in_chans=3), mean=MEAN, std=STD)
    network = classifier.network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=PEAK_LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    step = 0
    for batches in epochs:
        for images, labels in batches:
            for group in optimizer.param_groups:
                group["lr"] = cosine_lr(step, num_steps=num_steps, num_warmup_steps=num_steps // 10, peak_lr=PEAK_LR)
            pixels = classifier.normalise(images) if images.dtype == torch.uint8 else images
            loss = F.cross_entropy(network(pixels), labels, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    if step != num_steps:
        raise SystemExit(f"{step} steps were made; expected {num_steps} on either side.")
    return classifier.eval()


def count_right(classifier: Classifier, folder: Path) -> tuple[int, int]:
    samples = read_folder(folder).samples
    images = np.stack(list(read_images(samples, read_exact(PREPROCESS))))
    labels = np.array([sample.label for sample in samples])
    with torch.inference_mode():
        logits = np.concatenate([classifier(torch.from_numpy(part))[0].numpy() for part in np.array_split(images, 20)])
    return int((logits.argmax(axis=1) == labels).sum()), len(labels)


def main() -> None:
    cifar = Path(sys.argv[1]).resolve()
    torch.set_num_threads(num_cores())
    sides = {"recog": our_batches, "torchvision": their_batches}
    right: dict[str, list[int]] = {name: [] for name in sides}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        train_folder = link_subset(cifar / "train", Path(folder) / "train", TRAIN_PER_CLASS)
        test_folder = link_subset(cifar / "test", Path(folder) / "test", TEST_PER_CLASS)
        num_steps = EPOCHS * (10 * TRAIN_PER_CLASS // BATCH_SIZE)
        for seed in range(NUM_SEEDS):
            for name, batches in sides.items():
                started = time.perf_counter()
                classifier = train(batches(train_folder, seed), seed, num_steps)
                seconds[name].append(time.perf_counter() - started)
                count, num_images = count_right(classifier, test_folder)
                right[name].append(count)
    body = [
        f"ResNet-8, {10 * TRAIN_PER_CLASS:,} training files, {EPOCHS} epochs, {num_steps} steps, peak rate {PEAK_LR}."
    ]
    body += [
        "",
        "| batches from | accuracy, mean | per seed | std | n | 95 % of all together | s, median |",
        "|---" * 7 + "|",
    ]
    for name, counts in right.items():
        shares = [count / num_images for count in counts]
        low, high = wilson_interval(sum(counts), num_images * len(counts))
        body.append(
            f"| {name} | {statistics.mean(shares):.1%} | {', '.join(f'{share:.1%}' for share in shares)} "
            f"| {statistics.stdev(shares):.1%} | {len(counts)} x {num_images:,} | {low:.1%}-{high:.1%} "
            f"| {statistics.median(seconds[name]):.0f} |"
        )
    gaps = [(ours - theirs) / num_images for ours, theirs in zip(right["recog"], right["torchvision"], strict=True)]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    body += ["", f"recog less torchvision, by seed: {statistics.mean(gaps):+.1%}, standard error {error:.1%}."]
    write_result("loader_training", "One short training: batches of recog and of torchvision", "\n".join(body))


if __name__ == "__main__":
    main()
