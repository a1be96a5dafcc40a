"""The answers of a model on each evaluated image, and tables of a report as pandas DataFrames."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import MissingExtraError
from recog.core.task import Task
from recog.evaluation.measures.arrays import BoolArray
from recog.evaluation.measures.task import TASK_MEASURES


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageResult:
    """One image: its true and its predicted classes, exactly one each unless it may have several labels."""

    path: str  # its name within the data
    true: tuple[str, ...]
    predicted: tuple[str, ...]  # the most probable first
    is_correct: bool
    probs: NDArray[np.float64]  # [K], calibrated
    label_set: tuple[str, ...] | None  # the prediction set, the most probable first; None where the bundle makes none
    is_unknown: bool | None  # None where the bundle does not tell


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions(Sequence[ImageResult]):
    """The results of N images in the order they were measured in, as arrays and, by index or iteration, image by image."""

    task: Task
    paths: tuple[str, ...]
    class_names: tuple[str, ...]
    is_class: BoolArray  # [N, K], the truth
    preds: BoolArray  # [N, K]
    probs: NDArray[np.float64]  # [N, K], calibrated
    in_set: BoolArray | None = None  # [N, K]
    is_unknown: BoolArray | None = None  # [N]

    def __repr__(self) -> str:
        return f"Predictions(num_images={len(self)}, num_classes={len(self.class_names)})"

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> ImageResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageResult]: ...
    def __getitem__(self, index: int | slice) -> ImageResult | list[ImageResult]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return ImageResult(
            path=self.paths[index],
            true=self._names(self.is_class[index], index),
            predicted=self._names(self.preds[index], index),
            is_correct=bool(self.is_correct[index]),
            probs=self.probs[index],
            label_set=None if self.in_set is None else self._names(self.in_set[index], index),
            is_unknown=None if self.is_unknown is None else bool(self.is_unknown[index]),
        )

    def __iter__(self) -> Iterator[ImageResult]:
        return (self[i] for i in range(len(self)))

    @property
    def is_correct(self) -> BoolArray:
        """[N]: exactly the true classes are predicted."""
        return np.asarray((self.preds == self.is_class).all(axis=1))

    def to_dataframe(self) -> Any:
        """A pandas DataFrame with the columns path, true, predicted, correct, set, unknown and prob_CLASS for each class.

        `true`, `predicted` and `set` are lists where an image may have several labels, `set` always. MissingExtraError without
        pandas.
        """
        rows = list(self)
        cell = TASK_MEASURES[self.task].cell
        columns: dict[str, Any] = {
            "path": list(self.paths),
            "true": [cell(row.true) for row in rows],
            "predicted": [cell(row.predicted) for row in rows],
            "correct": self.is_correct,
        }
        if self.in_set is not None:
            columns["set"] = [list(row.label_set or ()) for row in rows]
        if self.is_unknown is not None:
            columns["unknown"] = self.is_unknown
        columns |= {f"prob_{name}": self.probs[:, k] for k, name in enumerate(self.class_names)}
        return data_frame(columns)

    def _names(self, chosen: BoolArray, index: int) -> tuple[str, ...]:
        order = np.argsort(-self.probs[index], kind="stable")
        return tuple(self.class_names[k] for k in order if chosen[k])


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Images of each true class (rows) by predicted class (columns). `matrix["cat", "dog"]` are the cats predicted as dogs."""

    class_names: tuple[str, ...]
    counts: NDArray[np.int64]  # [K, K]

    def __getitem__(self, pair: tuple[str, str]) -> int:
        true, predicted = (self.class_names.index(name) for name in pair)
        return int(self.counts[true, predicted])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.counts, dtype=dtype)

    def to_dataframe(self) -> Any:
        """A pandas DataFrame, class names as index (true) and columns (predicted). MissingExtraError without pandas."""
        table = {name: self.counts[:, k] for k, name in enumerate(self.class_names)}
        frame = data_frame(table, index=self.class_names)
        return frame.rename_axis(index="true", columns="predicted")


def data_frame(columns: Mapping[str, Any], *, index: Sequence[str] | None = None) -> Any:
    """A pandas DataFrame. MissingExtraError without pandas, which recog does not need otherwise and imports here only."""
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError:
        raise MissingExtraError("this needs pandas, which is not installed; run: pip install pandas") from None
    return pandas.DataFrame(dict(columns), index=None if index is None else list(index))
