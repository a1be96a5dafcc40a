"""Every image of a dataset looked at once: its bytes hashed, its header read, its pixels decoded to find damage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recog.core.decode import DEFAULT_LIMITS, ImageInfo, decode, grey16_level, probe
from recog.core.errors import BadImage
from recog.core.files import sha256_bytes
from recog.core.hardware import num_cores
from recog.core.image_file import open_encoded
from recog.data.dataset import Sample

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
_MIN_SIDE_PX = 32  # a JPEG is read to its end at whatever size; a small one shows the damage sooner


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """One image. Where it cannot be used, `bad` says why, and what was not found out is None or ''."""

    sha256: str = ""
    info: ImageInfo | None = None
    grey16: int | None = None  # the highest level, where it is 16-bit grey
    bad: BadImage | None = None


def inspect_images(samples: Sequence[Sample]) -> Iterator[Inspected]:
    """Per sample, in order, by several threads."""
    with ThreadPoolExecutor(num_cores()) as pool:
        yield from pool.map(_inspect, samples)


def _inspect(sample: Sample) -> Inspected:
    digest = ""
    try:
        content = _content(sample)
        digest = sha256_bytes(content) if isinstance(content, bytes) else sample.sha256()
        info = probe(content, name=sample.name)
        decode(content, name=sample.name, min_side=_MIN_SIDE_PX)
        level = grey16_level(content, name=sample.name) if info.mode.startswith("I") else None
    except BadImage as error:
        return Inspected(sha256=digest, bad=BadImage(sample.name, error.reason, error.remedy))
    return Inspected(sha256=digest, info=info, grey16=level)


def _content(sample: Sample) -> bytes | NDArray[np.uint8]:
    if isinstance(sample.source, np.ndarray):
        return sample.source
    if isinstance(sample.source, Path):
        with open_encoded(sample.source, sample.name, DEFAULT_LIMITS) as file:
            return file.read()
    return sample.source.read()


@dataclass(frozen=True, kw_only=True)
class ImageSummary:
    """The readable images together: counts by kind, and quantiles (0, 5, 50, 95, 100 %) of the sides in pixels."""

    num_images: int
    widths_px: tuple[int, ...]
    heights_px: tuple[int, ...]
    modes: Mapping[str, int]
    formats: Mapping[str, int]
    num_animated: int
    grey16_max: int | None  # the highest level in 16-bit grey images


def summarise(inspected: Sequence[Inspected]) -> ImageSummary:
    infos = [image.info for image in inspected if image.info is not None]
    return ImageSummary(
        num_images=len(infos),
        widths_px=_quantiles([info.width for info in infos]),
        heights_px=_quantiles([info.height for info in infos]),
        modes=dict(Counter(info.mode for info in infos).most_common()),
        formats=dict(Counter(info.format for info in infos).most_common()),
        num_animated=sum(info.is_animated for info in infos),
        grey16_max=max((image.grey16 for image in inspected if image.grey16 is not None), default=None),
    )


def _quantiles(sides: Sequence[int]) -> tuple[int, ...]:
    if not sides:
        return ()
    return tuple(int(side) for side in np.quantile(sides, QUANTILES, method="nearest"))
