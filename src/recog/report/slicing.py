"""`recog evaluate --slice`: by which property of an image, of where it lies, or of its row, the accuracy is shown apart."""

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
from recog.data.dataset import Dataset, Sample
from recog.evaluation.results.slices import NOT_STATED, Slicing, slice_by_name, slice_by_value
from recog.report.measure import Measured

SLICE_BY = ("size", "brightness", "source-folder")
_NOTHING = frozenset({"", "nan", "<na>", "null", "none"})  # as pandas and others write a cell that nobody filled
MAX_NAMED_NUMBERS = 8  # different numbers in a column up to which each is a slice
_BRIGHTNESS_SIDE = 64  # px: a JPEG decoder may reduce down to here, which keeps the mean


def check_slice_by(by: Sequence[str], dataset: Dataset) -> None:
    """ConfigError unless each of `by` is one of SLICE_BY or, in these letters or others, a column of the data."""
    columns = slice_columns(dataset)
    for name in by:
        if name not in SLICE_BY and name.lower() not in map(str.lower, columns):
            raise ConfigError(f"images cannot be sliced by '{name}'.{did_you_mean(name, [*SLICE_BY, *columns])}")
        if name in SLICE_BY and name in columns:
            raise ConfigError(
                f"the data have a column '{name}', and images have a property of that name; rename the column."
            )


def slice_columns(dataset: Dataset) -> tuple[str, ...]:
    """The columns of the list of images that say more than path, labels and split; the group is one."""
    has_groups = any(sample.group is not None for sample in dataset.samples)
    return (*dataset.column_names, *(("group",) if has_groups else ()))


def add_slices(measured: Measured, by: Sequence[str], *, grey16_max: int) -> Measured:
    """`measured` with its report sliced by each of `by`, in that order and once each."""
    slicings = tuple(_slicing(measured, name, grey16_max) for name in dict.fromkeys(by))
    return replace(measured, report=replace(measured.report, slices=slicings))


def _slicing(measured: Measured, by: str, grey16_max: int) -> Slicing:
    samples = list(measured.samples.values())
    if by == "source-folder":
        return slice_by_name(by, [_folder(sample) for sample in samples], measured.is_correct)
    if by == "size":
        return slice_by_value(by, _each(samples, _size), measured.is_correct, unit="px")
    if by == "brightness":
        values = _each(samples, lambda sample: _brightness(sample, grey16_max))
        return slice_by_value(by, values, measured.is_correct, unit="of 255")
    return _by_cells(by, [_cell(sample, by) for sample in samples], measured.is_correct)


def _cell(sample: Sample, column: str) -> str:
    cells = {name.lower(): cell for name, cell in sample.columns}
    cell = cells.get(column.lower(), (sample.group or "") if column.lower() == "group" else "")
    return "" if cell.lower() in _NOTHING else cell


def _by_cells(by: str, cells: Sequence[str], is_correct: NDArray[np.bool_]) -> Slicing:
    """By value where the cells are more than a few different numbers; else each is a name, as a camera's 1, 2, 3 are."""
    stated = {cell for cell in cells if cell}
    numbers = {cell: number for cell in stated if (number := _float(cell)) is not None}
    if len(stated) > MAX_NAMED_NUMBERS and len(numbers) == len(stated):
        return slice_by_value(by, np.array([numbers.get(cell, np.nan) for cell in cells]), is_correct)
    return slice_by_name(by, [cell or NOT_STATED for cell in cells], is_correct)


def _float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


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
