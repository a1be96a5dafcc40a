"""Plans for tests: a TrainConfig as it is planned for small grey images on one core."""

from __future__ import annotations

import dataclasses

from recog.core.hardware import Hardware
from recog.data.dataset import Dataset, Sample
from recog.data.inspection import ImageFacts
from recog.recipes.plan import plan

HARDWARE = Hardware(num_cores=1, memory_bytes=8 << 30, cpu="test")


def planned(config, *, task="multiclass"):
    """From scratch where `config` names no recipe."""
    sample = Sample(name="0", source="0.png", labels=(0,))
    dataset = Dataset(name="d", layout="test", class_names=("a", "b"), samples=(sample,), task=task)
    config = dataclasses.replace(config, recipe=config.recipe or "scratch")
    return plan(config, dataset, ImageFacts(sizes=((8, 8),), all_grey=True), HARDWARE, has_bfloat16=False)[0]


def exhaust(generator):
    """The events of a generator, and what it returns."""
    events = []
    while True:
        try:
            events.append(next(generator))
        except StopIteration as end:
            return events, end.value
