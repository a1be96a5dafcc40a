"""The one scale for the 16-bit grey images of a dataset: devices fill 10, 12 or 14 of the bits, and the file does not say."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from recog.core.decode import grey16_level
from recog.core.errors import BadImage
from recog.core.hardware import num_cores
from recog.data.dataset import Sample

_HEAD_BYTES = 26  # up to a PNG's bit depth and colour type


def highest_grey16(samples: Sequence[Sample]) -> int | None:
    """The highest level in the 16-bit grey images among `samples`; None where there are none. Other images are not decoded."""
    with ThreadPoolExecutor(num_cores()) as pool:
        return max((level for level in pool.map(_level, samples) if level is not None), default=None)


def full_scale(level: int) -> int:
    """The level that becomes white: all bits set, of as many bits as `level` needs, at least 8. 3,987 gives 4,095."""
    return int((1 << max(8, int(level).bit_length())) - 1)


def _level(sample: Sample) -> int | None:
    source = sample.source
    if isinstance(source, np.ndarray):
        return None
    try:
        if not isinstance(source, Path):
            data = source.read()
            return grey16_level(data, name=sample.name) if may_be_grey16(data[:_HEAD_BYTES]) else None
        if not source.is_file():
            return None
        with source.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        return grey16_level(source, name=sample.name) if may_be_grey16(head) else None
    except (BadImage, OSError):
        return None  # the decoder will name the file and the reason


def may_be_grey16(head: bytes) -> bool:
    """Whether a file that begins with these bytes can hold 16-bit grey: such a PNG, any TIFF, any PGM."""
    if head.startswith(b"\x89PNG"):
        return len(head) >= 26 and head[24] == 16 and head[25] in (0, 4)
    return head.startswith((b"II*\0", b"MM\0*", b"P5"))
