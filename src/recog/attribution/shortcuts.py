"""Classes whose maps lie on a corner or on the border: a hint at a watermark, a date or a frame instead of the object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

MIN_IMAGES = 8  # of a class; too few to judge a class
_CORNER, _BAND = 1 / 4, 1 / 8  # of the image's side
# share of the map over share of the area; a map without preference has 1. Objects of photos are centred, so that even 1 is rare
_MIN_DENSITY: Mapping[str, float] = MappingProxyType({"corner": 3.0, "edge": 2.5, "border": 1.7})


@dataclass(frozen=True, kw_only=True)
class ShortcutHint:
    """The typical map of a class lies on one place near the border."""

    label: str
    place: str  # such as 'bottom right corner'
    share: float  # of the map that lies there, median over the images
    area: float  # of the image that the place covers
    num_images: int

    @property
    def text(self) -> str:
        return (
            f"{self.label}: {self.share:.0%} of the map lies on the {self.place}, which is {self.area:.0%} of the image "
            f"(median of {self.num_images} images). Look for a watermark, a date or a frame there."
        )


def find_shortcuts(
    maps: NDArray[np.float32], labels: NDArray[np.int64], class_names: Sequence[str]
) -> tuple[ShortcutHint, ...]:
    """The hints from `maps` float [B, H, W] that explain `labels` int64 [B], in the order of the classes."""
    hints = []
    for label in np.unique(labels):
        of_class = np.maximum(maps[labels == label], 0)
        totals = of_class.sum(axis=(1, 2))
        of_class, totals = of_class[totals > 0], totals[totals > 0]
        if len(of_class) < MIN_IMAGES:
            continue
        found: list[tuple[float, ShortcutHint]] = []
        for kind, name, place in _places(maps.shape[1:]):
            share, area = float(np.median((of_class * place).sum(axis=(1, 2)) / totals)), float(place.mean())
            excess = share / area / _MIN_DENSITY[kind]
            hint = ShortcutHint(label=class_names[label], place=name, share=share, area=area, num_images=len(of_class))
            found.append((excess, hint))
        excess, hint = max(found, key=lambda item: item[0])
        if excess >= 1:
            hints.append(hint)
    return tuple(hints)


def _places(shape: tuple[int, ...]) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """(kind, name, mask bool [H, W])."""
    height, width = shape
    rows, columns = (np.arange(size)[:, None] / size for size in (height, width))
    rows, columns = rows + 0.5 / height, columns.T + 0.5 / width
    sides = {"top": rows, "bottom": 1 - rows, "left": columns, "right": 1 - columns}
    whole = np.zeros((height, width), dtype=bool)
    for row in ("top", "bottom"):
        for column in ("left", "right"):
            yield "corner", f"{row} {column} corner", (sides[row] < _CORNER) & (sides[column] < _CORNER) | whole
    for name, distance in sides.items():
        yield "edge", f"{name} edge", (distance < _BAND) | whole
    frame = np.minimum(np.minimum(rows, 1 - rows), np.minimum(columns, 1 - columns)) < _BAND
    yield "border", "border", frame
