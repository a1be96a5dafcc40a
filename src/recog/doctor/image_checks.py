"""Checks of single images: blank, blurred, dark, over-exposed, tiny, masks, unlike all others; and of the size of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from recog.core.text import plural
from recog.data.dataset import Dataset, class_counts
from recog.doctor.features import Neighbours
from recog.doctor.findings import KINDS, Finding
from recog.doctor.traits import Traits

MAX_TYPICAL = 0.1  # of the images; a kind of which there are more is the nature of the data
_BLANK_CONTRAST = 0.02
_DARK_SHARE, _BRIGHT_SHARE = 0.9, 0.6
_BLURRED, _BLURRED_TO_MEDIAN = 0.025, 0.25  # sharpness, and its ratio to the median of the data
_TINY_PX, _TINY_TO_MEDIAN = 64, 0.25  # the shorter side, and its ratio to the median of the data
_MASK_COLOURS, _PHOTO_COLOURS = 4, 10  # of a mask, and of the median image where one would stand out
_OUTLIER_DEVIATIONS = 5.0
MAX_OUTLIERS = 50
_SMALL_CLASS, _SMALL_TO_LARGEST = 20, 0.1


def image_findings(traits: Sequence[Traits], neighbours: Neighbours) -> tuple[list[Finding], list[str]]:
    """The findings, and a note for each kind that so many images show that it is the nature of the data."""
    found, notes = [], []
    is_blank = np.array([each.contrast < _BLANK_CONTRAST for each in traits])
    for kind, judge in _CHECKS.items():
        scores, reasons = judge(traits)
        if kind != "blank":
            scores[is_blank] = 0
        images = np.flatnonzero(scores > 0)
        if len(images) > MAX_TYPICAL * len(traits):
            notes.append(
                f"{KINDS[kind].title.lower()}: {len(images):,} of {plural(len(traits), 'image')}, taken for the nature of the "
                "data; none is listed"
            )
            continue
        found += [
            Finding(kind=kind, reason=reasons(traits[i]), images=(int(i),), score=float(scores[i]))
            for i in sorted(images.tolist(), key=lambda i: -scores[i])
        ]
    return [*found, *_outliers(neighbours, is_blank)], notes


_Scores = NDArray[np.float64]  # [N], above 0 where the check applies
_Check = Callable[[Sequence[Traits]], tuple[_Scores, Callable[[Traits], str]]]


def _column(traits: Sequence[Traits], value_of: Callable[[Traits], float]) -> _Scores:
    return np.array([value_of(each) for each in traits], dtype=np.float64)


def _blank(traits: Sequence[Traits]) -> tuple[_Scores, Callable[[Traits], str]]:
    contrast = _column(traits, lambda each: each.contrast)
    scores = np.maximum(0, _BLANK_CONTRAST - contrast)
    return scores, lambda each: f"its brightness varies by only {each.contrast:.1%} of the range"


def _dark(traits: Sequence[Traits]) -> tuple[_Scores, Callable[[Traits], str]]:
    shares = _column(traits, lambda each: each.dark_share)
    return np.where(shares > _DARK_SHARE, shares, 0), lambda each: f"{each.dark_share:.0%} of the image is nearly black"


def _overexposed(traits: Sequence[Traits]) -> tuple[_Scores, Callable[[Traits], str]]:
    shares = _column(traits, lambda each: each.bright_share)
    return np.where(shares > _BRIGHT_SHARE, shares, 0), lambda each: f"{each.bright_share:.0%} of the image is white"


def _blurred(traits: Sequence[Traits]) -> tuple[_Scores, Callable[[Traits], str]]:
    sharpness = _column(traits, lambda each: each.sharpness)
    ratios = sharpness / max(float(np.median(sharpness)), 1e-9)
    scores = np.where((sharpness < _BLURRED) & (ratios < _BLURRED_TO_MEDIAN), 1 - ratios, 0)
    return (
        scores,
        lambda each: f"its sharpest parts have an edge strength of {each.sharpness:.3f}, far below that of the others",
    )


def _tiny(traits: Sequence[Traits]) -> tuple[_Scores, Callable[[Traits], str]]:
    sides = _column(traits, lambda each: min(each.width, each.height))
    limit = min(_TINY_PX, _TINY_TO_MEDIAN * float(np.median(sides)))
    return np.where(
        sides < limit, 1 / sides, 0
    ), lambda each: f"{each.width} x {each.height} px, and most are far larger"


def _mask(traits: Sequence[Traits]) -> tuple[_Scores, Callable[[Traits], str]]:
    colours = _column(traits, lambda each: each.num_colours)
    is_mask = (colours <= _MASK_COLOURS) & (np.median(colours) >= _PHOTO_COLOURS)
    return np.where(
        is_mask, 1 / colours, 0
    ), lambda each: f"{plural(each.num_colours, 'colour')} make up nearly all of it"


_CHECKS: Mapping[str, _Check] = MappingProxyType(
    {"mask": _mask, "blank": _blank, "blurred": _blurred, "dark": _dark, "overexposed": _overexposed, "tiny": _tiny}
)


def _outliers(neighbours: Neighbours, is_blank: NDArray[np.bool_]) -> Iterator[Finding]:
    """Images whose mean cosine to their nearest neighbours is far below the median: five deviations, from the lower quartile.

    The distance to the k nearest neighbours: Ramaswamy et al. (2000), SIGMOD.
    """
    nearness = neighbours.cosines.mean(axis=1)
    median = float(np.median(nearness))
    deviation = (median - float(np.quantile(nearness, 0.25))) / 0.6745  # of a normal distribution with that quartile
    distances = (median - nearness) / max(deviation, 1e-6)
    for i in np.argsort(-distances)[:MAX_OUTLIERS]:
        if distances[i] > _OUTLIER_DEVIATIONS and not is_blank[i]:
            reason = f"its mean cosine to its nearest neighbours is {nearness[i]:.2f}; of the median image it is {median:.2f}"
            yield Finding(kind="outlier", reason=reason, images=(int(i),), score=float(distances[i]))


def small_classes(dataset: Dataset) -> Iterator[Finding]:
    """Classes of under 20 images in train, or under a tenth of the largest class."""
    samples = dataset.subset("train") or dataset.samples
    counts = class_counts(samples, len(dataset.class_names))
    for name, count in sorted(zip(dataset.class_names, counts, strict=True), key=lambda each: each[1]):
        if count < max(_SMALL_CLASS, _SMALL_TO_LARGEST * max(counts)):
            yield Finding(
                kind="small_class",
                reason=f"'{name}' has {plural(count, 'image')}; the largest class has {max(counts):,}",
                score=1 / (1 + count),
            )
