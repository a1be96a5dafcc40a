"""Occlusion: what a grey square in each place takes from the answer. Needs an engine only, no torch.

Zeiler, Fergus (2014), "Visualizing and understanding convolutional networks". The arithmetic is that of captum's Occlusion.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recog.attribution.subject import Attribution, Images, Labels, Subject
from recog.core.task import Task
from recog.runtime.engine import images_at_once

SQUARES_PER_SIDE = 8  # a square covers an eighth of the image's side and moves by half of its own


def occlusion(subject: Subject, images: Images, labels: Labels) -> Attribution:
    """The mean drop of the label's log-odds over the squares that cover a pixel."""
    maps = [_map_of(subject, image, int(label)) for image, label in zip(images, labels, strict=True)]
    return Attribution(maps=np.stack(maps).astype(np.float32))


def windows(image_size: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Squares that cover an image of (height, width), row by row."""
    sides = [max(1, -(-size // SQUARES_PER_SIDE)) for size in image_size]
    steps = [max(1, side // 2) for side in sides]
    rows, columns = (
        [slice(i * step, min(size, i * step + side)) for i in range(-(-max(0, size - side) // step) + 1)]
        for size, side, step in zip(image_size, sides, steps, strict=True)
    )
    return [(row, column) for row in rows for column in columns]


def _map_of(subject: Subject, image: NDArray[np.uint8], label: int) -> NDArray[np.float64]:
    places = windows(subject.image_size)
    total, count = np.zeros(subject.image_size), np.zeros(subject.image_size)
    whole = log_odds(subject.task, subject.logits(image[None]))[0, label]
    for chunk in _chunks(places, images_at_once(subject.image_size)):
        copies = np.repeat(image[None], len(chunk), axis=0)
        for copy, place in zip(copies, chunk, strict=True):
            copy[place] = subject.fill
        drops = whole - log_odds(subject.task, subject.logits(copies))[:, label]
        for place, drop in zip(chunk, drops, strict=True):
            total[place] += drop
            count[place] += 1
    mean: NDArray[np.float64] = total / np.maximum(count, 1)
    return mean


def _chunks(places: list[tuple[slice, slice]], size: int) -> Iterator[list[tuple[slice, slice]]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def log_odds(task: Task, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each label against all others, float64 [B, K]: the logit itself where labels do not exclude each other."""
    values = logits.astype(np.float64)
    if task == "multilabel":
        return values
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    others = np.maximum(shifted.sum(axis=1, keepdims=True) - shifted, 1e-300)
    odds: NDArray[np.float64] = values - values.max(axis=1, keepdims=True) - np.log(others)
    return odds
