"""`recog evaluate --slice`: by which property of an image, or of where it lies, the accuracy is shown apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from recog.core.config import did_you_mean
from recog.core.decode import decode, probe
from recog.core.errors import ConfigError
from recog.core.hardware import num_cores
from recog.data.dataset import Sample
from recog.evaluation.slices import Slicing, slice_by_name, slice_by_value
from recog.recipes.measure import Measured

SLICE_BY = ("size", "brightness", "source-folder")
_BRIGHTNESS_SIDE = 64  # px: a JPEG decoder may reduce down to here, which keeps the mean


def check_slice_by(by: Sequence[str]) -> None:
    """ConfigError unless each of `by` is one of SLICE_BY."""
    for name in by:
        if name not in SLICE_BY:
            raise ConfigError(f"images cannot be sliced by '{name}'.{did_you_mean(name, SLICE_BY)}")


def add_slices(measured: Measured, by: Sequence[str], *, grey16_max: int) -> Measured:
    """`measured` with its report sliced by each of `by`, in that order and once each."""
    check_slice_by(by)
    slicings = tuple(_slicing(measured, name, grey16_max) for name in dict.fromkeys(by))
    return replace(measured, report=replace(measured.report, slices=slicings))


def _slicing(measured: Measured, by: str, grey16_max: int) -> Slicing:
    samples = list(measured.samples.values())
    if by == "source-folder":
        return slice_by_name(by, [_folder(sample) for sample in samples], measured.is_correct)
    if by == "size":
        return slice_by_value(by, _each(samples, _size), measured.is_correct, unit="px")
    values = _each(samples, lambda sample: _brightness(sample, grey16_max))
    return slice_by_value(by, values, measured.is_correct, unit="of 255")


def _each(samples: Sequence[Sample], value: Callable[[Sample], float]) -> NDArray[np.float64]:
    with ThreadPoolExecutor(num_cores()) as pool:
        return np.array(list(pool.map(value, samples)), dtype=np.float64)


def _size(sample: Sample) -> float:
    """Width x height of the file, in px."""
    info = probe(sample.source, name=sample.name)
    return float(info.width * info.height)


def _brightness(sample: Sample, grey16_max: int) -> float:
    """Mean grey level, 0 black to 255 white."""
    image = decode(sample.source, name=sample.name, channels=1, min_side=_BRIGHTNESS_SIDE, grey16_max=grey16_max)
    return float(image.mean())


def _folder(sample: Sample) -> str:
    parent = PurePosixPath(sample.name).parent
    return str(parent) if parent.name else "(top)"
