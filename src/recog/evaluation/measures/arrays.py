"""What every measure takes: logits or probs [N, K] and labels [N], checked once. N images, K classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError, ShapeError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
TargetArray = NDArray[Any]  # labels int [N], or zeros and ones [N, K]


def check_logits(logits: FloatArray, what: str = "logits") -> None:
    """Refuse anything but a finite floating array [N, K] with N >= 1 and K >= 2."""
    if not isinstance(logits, np.ndarray) or not np.issubdtype(logits.dtype, np.floating):
        kind = logits.dtype if isinstance(logits, np.ndarray) else type(logits).__name__
        raise ShapeError(f"{what} are {kind}; expected a floating NumPy array [N, K].")
    if logits.ndim != 2:
        raise ShapeError(f"{what} have shape {logits.shape}; expected (N, K). One image needs {what}[None].")
    if logits.shape[1] < 2:
        raise ShapeError(
            f"{what} have shape {logits.shape}: {logits.shape[1]} classes; expected at least 2. "
            "A single logit z per image becomes two as np.concatenate([np.zeros_like(z), z], axis=1)."
        )
    if logits.shape[0] == 0:
        raise DataError("there are 0 images to measure; expected at least 1.")
    broken_rows = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if broken_rows.size:
        raise DataError(
            f"{what} of {broken_rows.size} of {len(logits)} images are NaN or infinite, "
            f"first in row {broken_rows[0]}. The network is broken or was given broken input; "
            "no measure is taken over the rest."
        )


def check_labels(labels: IntArray, num_images: int, num_classes: int) -> None:
    """Refuse anything but an integer array [N] with values in [0, K)."""
    if not isinstance(labels, np.ndarray) or not np.issubdtype(labels.dtype, np.integer):
        kind = labels.dtype if isinstance(labels, np.ndarray) else type(labels).__name__
        raise ShapeError(f"labels are {kind}; expected an int64 NumPy array [N] of class indices.")
    if labels.shape != (num_images,):
        raise ShapeError(f"labels have shape {labels.shape}; expected ({num_images},), one for each image.")
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        row = int(outside.argmax())
        raise DataError(f"label {labels[row]} in row {row} is outside 0..{num_classes - 1}, the {num_classes} classes.")
