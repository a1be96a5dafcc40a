"""Maps from the answers to masked images: occlusion and RISE. They need an engine only, no torch.

Occlusion: Zeiler, Fergus (2014), "Visualizing and understanding convolutional networks"; the arithmetic is that of captum's.
RISE: Petsiuk, Das, Saenko (2018), "RISE: randomized input sampling for explanation of black-box models".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.attribution.subject import Attribution, Images, Labels, Subject
from recog.core.chance import uniforms
from recog.core.task import Task
from recog.runtime.engine import images_at_once

SQUARES_PER_SIDE = 8  # a square covers an eighth of the image's side and moves by half of its own
NUM_MASKS = 512  # of RISE
CELLS = 7  # of a mask's side, as in the paper
SHOWN = 0.5  # probability that a cell is shown


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
    return _LOG_ODDS[task](logits.astype(np.float64))


def _of_one_class(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    others = np.maximum(shifted.sum(axis=1, keepdims=True) - shifted, 1e-300)
    odds: NDArray[np.float64] = values - values.max(axis=1, keepdims=True) - np.log(others)
    return odds


_LOG_ODDS: Mapping[Task, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = MappingProxyType(
    {"multiclass": _of_one_class, "multilabel": lambda values: values}
)


def rise(subject: Subject, images: Images, labels: Labels) -> Attribution:
    """The mean of masks weighted by the label's probability, less what a constant answer would give."""
    totals = np.zeros((len(images), *subject.image_size))
    seen = np.zeros(subject.image_size)
    weights = np.zeros(len(images))
    size = images_at_once(subject.image_size)
    for start in range(0, NUM_MASKS, size):
        masks = np.stack([_mask(number, subject.image_size) for number in range(start, min(start + size, NUM_MASKS))])
        seen += masks.sum(axis=0)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            probs = subject.probs_of(_masked(image, masks, subject.fill), int(label))
            totals[i] += np.tensordot(probs, masks, axes=1)
            weights[i] += probs.sum()
    expected = weights[:, None, None] * seen / NUM_MASKS
    return Attribution(maps=((totals - expected) / (NUM_MASKS * SHOWN)).astype(np.float32))


def _masked(image: NDArray[np.uint8], masks: NDArray[np.float32], fill: tuple[int, ...]) -> NDArray[np.uint8]:
    """uint8 [N, H, W, C]: the image where a mask is 1, `fill` where it is 0."""
    background = np.array(fill, np.float32)
    mixed = background + masks[..., None] * (image.astype(np.float32) - background)
    return np.rint(mixed).astype(np.uint8)


@lru_cache(maxsize=64)
def _mask(number: int, image_size: tuple[int, int]) -> NDArray[np.float32]:
    """float32 [H, W] in [0, 1]: random cells, enlarged bilinearly and shifted by a part of a cell."""
    height, width = image_size
    draws = uniforms(0, 0, np.array([number]), "rise", (CELLS + 1) ** 2 + 2)[0]
    cells = (draws[2:] < SHOWN).astype(np.float32).reshape(CELLS + 1, CELLS + 1)
    cell_height, cell_width = -(-height // CELLS), -(-width // CELLS)
    large = Image.fromarray(cells).resize(
        ((CELLS + 1) * cell_width, (CELLS + 1) * cell_height), Image.Resampling.BILINEAR
    )
    top, left = int(draws[0] * cell_height), int(draws[1] * cell_width)
    return np.asarray(large)[top : top + height, left : left + width]
