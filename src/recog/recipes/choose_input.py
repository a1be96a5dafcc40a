"""Choice of a head's network, input size and mirrored views, by cross-validation on some of the training images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recog.core.errors import BadImage, ConfigError
from recog.core.text import plural
from recog.data.dataset import Dataset, Sample, choose_reference, targets_of
from recog.data.store import read_exact, read_images
from recog.deployment.onnx import open_exported
from recog.models.build import build_model
from recog.models.inner_layers import with_layers
from recog.recipes.choose_head import Candidate, choose, try_out_of_fold
from recog.recipes.config import TrainConfig
from recog.recipes.events import scaled_nll
from recog.recipes.labelled_images import run_engine
from recog.recipes.plan import HEAD_INPUTS, HeadInput
from recog.training.head import HeadData
from recog.training.ridge import floored

MAX_COMPARED = 600  # training images
MIN_GAIN = 0.05  # of the product of error rate and NLL, for an input that costs more


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """A head on one of HEAD_INPUTS, by its answers out of fold."""

    input: HeadInput
    best: Candidate
    images_per_s: float

    def __str__(self) -> str:
        log = self.best.log
        return (
            f"{self.input}: cross-validated {log.quality}, {scaled_nll(log.val_nll)}, {self.images_per_s:.0f} images/s "
            f"({log.method}, L2 {log.l2:g})"
        )


def choose_input(config: TrainConfig, dataset: Dataset, *, grey16_max: int) -> tuple[HeadInput, list[str]]:
    """The best of HEAD_INPUTS for a head on `dataset`, and the table; of nearly equal ones the cheaper.

    ConfigError where `config` names a network or an input size already.
    """
    check_open(config)
    samples = dataset.subset("train")
    numbers: dict[tuple[int, ...], int] = {}
    kinds = [numbers.setdefault(sample.labels, len(numbers)) for sample in samples]
    chosen = [samples[i] for i in choose_reference(kinds, MAX_COMPARED)]
    tried = [_try(option, config, dataset, chosen, grey16_max=grey16_max) for option in HEAD_INPUTS]
    best = cheapest_of_the_best(tried)
    first = f"networks and input sizes compared on {plural(len(chosen), 'training image')}; {best.input} is used"
    return best.input, [first, *(f"  {each}" for each in tried)]


def check_open(config: TrainConfig) -> None:
    """ConfigError where what head.compare would choose is set, or the recipe has no head to compare."""
    model = config.model
    taken = {
        "model.name": model.name is not None,
        "model.image_size": model.image_size is not None,
        "model.weights": model.weights != "auto",
        "--from": bool(model.parent),
        "head.mirror": config.head.mirror,
        "head.layers": config.head.layers == "last",
        f"recipe {config.recipe}": config.recipe not in (None, "head"),
    }
    found = [name for name, is_taken in taken.items() if is_taken]
    if found:
        raise ConfigError(
            f"head.compare is true, which chooses the network, its input size and mirrored views of recipe head; remove "
            f"head.compare or {', '.join(found)}."
        )


def cheapest_of_the_best(tried: Sequence[Compared]) -> Compared:
    """In the order of their cost, each that gains at least MIN_GAIN over the best so far."""
    best = tried[0]
    for each in tried[1:]:
        if each.best.cost < (1 - MIN_GAIN) * best.best.cost:
            best = each
    return best


def _try(
    option: HeadInput, config: TrainConfig, dataset: Dataset, samples: Sequence[Sample], *, grey16_max: int
) -> Compared:
    num_classes = len(dataset.class_names)
    model = build_model(replace(config.model, name=option.name, image_size=option.image_size), num_classes=num_classes)
    model, _, _ = with_layers(model, config.head.layers, mirror=option.mirror)
    preprocess = replace(model.preprocess, grey16_max=grey16_max, limits=config.limits)
    read = read_images(samples, read_exact(preprocess))
    good = [(image, sample) for image, sample in zip(read, samples, strict=True) if not isinstance(image, BadImage)]
    images = np.stack([image for image, _ in good])
    threads = config.compute.num_threads
    engine = open_exported(model.classifier, preprocess, dataset.class_names, num_threads=threads).engine
    run_engine(engine, images[:1])  # the first call allocates
    started = time.perf_counter()
    features = run_engine(engine, images)[0].features
    seconds = time.perf_counter() - started
    mean, std = features.mean(axis=0), floored(features.std(axis=0, dtype=np.float64))
    targets = targets_of([sample for _, sample in good], num_classes, dataset.task)
    data = HeadData(features=((features - mean) / std).astype(np.float32), targets=targets, groups=np.arange(len(good)))
    best = choose(try_out_of_fold(data, config, num_classes=num_classes, num_repeats=1))
    return Compared(input=option, best=best, images_per_s=len(good) / seconds)
