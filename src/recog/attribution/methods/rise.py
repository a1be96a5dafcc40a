"""RISE: the mean of random masks, weighted by the answer to the masked image. Needs an engine only, no torch.

Petsiuk, Das, Saenko (2018), "RISE: randomized input sampling for explanation of black-box models".
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recog.attribution.subject import Attribution, Images, Labels, Subject
from recog.core.chance import uniforms
from recog.runtime.engine import images_at_once

NUM_MASKS = 512
CELLS = 7  # of a mask's side, as in the paper
SHOWN = 0.5  # probability that a cell is shown


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
