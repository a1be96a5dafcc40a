"""Facts about the images of a dataset, from one read of each file: content hash, header, 16-bit range, damage, copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BadImage, DataError
from recog.core.files import canonical_json, sha256_bytes
from recog.core.images.decode import DEFAULT_LIMITS, ImageInfo, ImageLimits, decode, grey16_level, probe
from recog.core.images.image_file import open_encoded
from recog.core.parallel import map_in_parallel
from recog.core.task import Task
from recog.core.text import plural, span
from recog.data.dataset import Dataset, Sample, class_counts, describe_unmeasurable
from recog.evaluation.measures.task import TASK_MEASURES

Content = bytes | NDArray[np.uint8]
Copies = tuple[Sample, ...]

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
_MIN_KEPT = (
    2 / 3 - 0.01
)  # of an image, by the centre crop; below, it is noted. 3:2 photos, such as 500 x 333, are kept to 2/3
_MIN_SIDE_PX = 32  # a JPEG is read to its end at whatever size; a small one shows the damage sooner


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspected:
    """Facts about one image. `bad` is set where it is not usable."""

    sha256: str  # of the content; 'unreadable NAME' where it cannot be read
    info: ImageInfo | None = None
    grey16: int | None = None  # the highest level of a 16-bit image whose file does not state its white level
    bad: BadImage | None = None


def inspect_images(
    samples: Sequence[Sample], limits: ImageLimits = DEFAULT_LIMITS, *, check_pixels: bool = False
) -> Iterator[Inspected]:
    """The facts of each sample, in order; each file is opened and read once.

    16-bit images are decoded to find their highest level, other images only with `check_pixels`, which finds damage
    behind the header.
    """
    yield from map_in_parallel(partial(_inspect, limits=limits, check_pixels=check_pixels), samples)


HashKind = Literal["file bytes", "pixels", "both"]


def hash_kind(samples: Sequence[Sample]) -> HashKind:
    """What the content hashes of `samples` are of. Hashes of file bytes and of pixels never match, even of one image."""
    is_array = {isinstance(sample.source, np.ndarray) for sample in samples}
    return "both" if len(is_array) > 1 else "pixels" if is_array == {True} else "file bytes"


def hash_samples(samples: Sequence[Sample], limits: ImageLimits = DEFAULT_LIMITS) -> list[str]:
    """The content hash of each sample, in order, as `Inspected.sha256`."""
    return list(map_in_parallel(partial(_hash, limits=limits), samples))


def content_hash(content: Content) -> str:
    """sha256 of the file's bytes, or of the array's shape and bytes."""
    if isinstance(content, np.ndarray):
        content = repr(content.shape).encode() + content.tobytes()
    return sha256_bytes(content)


def _inspect(sample: Sample, *, limits: ImageLimits, check_pixels: bool) -> Inspected:
    digest = _unreadable(sample)
    try:
        content = read_content(sample, limits)
        digest = content_hash(content)
        info = probe(content, name=sample.name, limits=limits)
        if check_pixels:
            decode(content, name=sample.name, min_side=_MIN_SIDE_PX, limits=limits)
        is_deep = info.mode.startswith("I") or info.bits == 16
        level = grey16_level(content, name=sample.name, limits=limits) if is_deep else None
    except BadImage as error:
        return Inspected(sha256=digest, bad=BadImage(sample.name, error.reason, error.remedy))
    return Inspected(sha256=digest, info=info, grey16=level)


def _hash(sample: Sample, *, limits: ImageLimits) -> str:
    try:
        return content_hash(read_content(sample, limits))
    except BadImage:
        return _unreadable(sample)


def _unreadable(sample: Sample) -> str:
    return f"unreadable {sample.name}"


def read_content(sample: Sample, limits: ImageLimits) -> Content:
    """The bytes of the sample's file, or its array. BadImage where it cannot be read."""
    try:
        if isinstance(sample.source, np.ndarray):
            return sample.source
        if isinstance(sample.source, Path):
            with open_encoded(sample.source, sample.name, limits) as file:
                return file.read()
        return sample.source.read()
    except OSError as error:
        raise BadImage(sample.name, f"it cannot be read ({error.strerror})", "Check the disk.") from None


def fingerprint(dataset: Dataset, hashes: Mapping[str, str]) -> str:
    """A digest over (content hash, class, split) of all samples: the same for the same images in any folder or order."""
    rows = sorted([hashes[s.name], classes_of(dataset, s), s.split or ""] for s in dataset.samples)
    return "sha256:" + sha256_bytes(canonical_json(rows))


def classes_of(dataset: Dataset, sample: Sample) -> str | list[str]:
    """The name of its class; of multi-label data a list of names."""
    return TASK_MEASURES[dataset.task].cell([dataset.class_names[label] for label in sample.labels])


def highest_grey16(inspected: Iterator[Inspected] | Sequence[Inspected]) -> int | None:
    """The highest level of the 16-bit images, grey or colour; None where there are none."""
    return max((image.grey16 for image in inspected if image.grey16 is not None), default=None)


def full_scale(level: int) -> int:
    """The level shown as white: all bits set, of as many bits as `level` needs, at least 8. 3,987 gives 4,095.

    Devices fill 10, 12 or 14 of the 16 bits, and the file does not state how many.
    """
    return int((1 << max(8, int(level).bit_length())) - 1)


@dataclass(frozen=True, kw_only=True)
class ImageSummary:
    """Counts of the readable images by kind, and quantiles (0, 5, 50, 95, 100 %) of their sides in pixels."""

    num_images: int
    widths_px: tuple[int, ...]
    heights_px: tuple[int, ...]
    modes: Mapping[str, int]
    formats: Mapping[str, int]
    num_animated: int
    grey16_max: int | None  # the highest level in 16-bit images


def summarise(inspected: Sequence[Inspected]) -> ImageSummary:
    infos = [image.info for image in inspected if image.info is not None]
    return ImageSummary(
        num_images=len(infos),
        widths_px=_quantiles([info.width for info in infos]),
        heights_px=_quantiles([info.height for info in infos]),
        modes=dict(Counter(info.mode for info in infos).most_common()),
        formats=dict(Counter(info.format for info in infos).most_common()),
        num_animated=sum(info.is_animated for info in infos),
        grey16_max=highest_grey16(inspected),
    )


def image_notes(
    inspected: Sequence[Inspected], *, image_size: tuple[int, int] = (1, 1), crop_mode: str = "center"
) -> Iterator[str]:
    """What of the images a network for `image_size` = (height, width) will not see: frames, bands, and what the crop cuts."""
    infos = [image.info for image in inspected if image.info is not None]
    num_animated = sum(info.is_animated for info in infos)
    if num_animated:
        yield f"{num_animated:,} of {plural(len(infos), 'image')} with several frames, of which the first is used"
    dropped = [info.num_dropped_bands for info in infos if info.num_dropped_bands]
    if dropped:
        bands = "a band" if max(dropped) == 1 else f"{max(dropped)} bands"
        yield f"{len(dropped):,} of {plural(len(infos), 'image')} with {bands} beyond red, green and blue, which are not used"
    shape = image_size[1] / image_size[0]
    cut = [
        info for info in infos if min(info.width / info.height / shape, shape * info.height / info.width) < _MIN_KEPT
    ]
    if cut and crop_mode == "center":
        yield (
            f"the centre crop cuts more than a third of {len(cut):,} of {plural(len(infos), 'image')}, such as {cut[0].width} x "
            f"{cut[0].height}; --set model.crop_mode=squash or border keeps all of each"
        )


def _quantiles(sides: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(side) for side in np.quantile(sides, QUANTILES, method="nearest")) if sides else ()


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Sets of two or more identical files, by content hash; one set may be listed under several kinds."""

    copies: tuple[Copies, ...]  # all of them
    across_classes: tuple[Copies, ...]  # the same image with different labels
    across_splits: tuple[Copies, ...]  # the same image in several splits: leakage
    groups_across_splits: tuple[str, ...]  # groups with samples in several of the given splits

    def notes(self) -> Iterator[str]:
        """Warnings about contradictory labels and leakage between splits."""
        if self.across_classes:
            first, *_, last = _labels_apart(self.across_classes[0])
            yield (
                f"label conflict: {_count(self.across_classes)} under different classes, such as {first.name} and "
                f"{last.name}; at least one label is wrong. All are used as they are; leave some out with --exclude, or "
                "correct them with --relabel"
            )
        if self.across_splits:
            first, *_, last = _splits_apart(self.across_splits[0])
            yield (
                f"leakage: {_count(self.across_splits)} in more than one split, such as {first.name} and {last.name}; "
                "results measured on them are too optimistic"
            )
        if self.groups_across_splits:
            yield (
                f"leakage: {plural(len(self.groups_across_splits), 'group')} with images in more than one split, such as "
                f"'{self.groups_across_splits[0]}'; results measured on them are too optimistic"
            )


def find_overlap(samples: Sequence[Sample], hashes: Sequence[str]) -> Overlap:
    """`hashes[i]` is the content hash of sample i."""
    by_hash: dict[str, list[Sample]] = {}
    by_group: dict[str, set[str | None]] = {}
    for sample, digest in zip(samples, hashes, strict=True):
        by_hash.setdefault(digest, []).append(sample)
        if sample.group is not None:
            by_group.setdefault(sample.group, set()).add(sample.split)
    copies = tuple(tuple(same) for same in by_hash.values() if len(same) > 1)
    return Overlap(
        copies=copies,
        across_classes=tuple(same for same in copies if len(_labels_apart(same)) > 1),
        across_splits=tuple(same for same in copies if len(_splits_apart(same)) > 1),
        groups_across_splits=tuple(group for group, splits in by_group.items() if len(splits) > 1),
    )


def _labels_apart(same: Sequence[Sample]) -> list[Sample]:
    """The first sample of each label, or of each set of labels."""
    return list({sample.labels: sample for sample in reversed(same)}.values())[::-1]


def _splits_apart(same: Sequence[Sample]) -> list[Sample]:
    return list({sample.split: sample for sample in reversed(same)}.values())[::-1]


def _count(sets: Sequence[Copies]) -> str:
    return "1 image is" if len(sets) == 1 else f"{len(sets)} images are"


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Sizes (height, width) and channels of the readable images."""

    sizes: tuple[tuple[int, int], ...]
    all_grey: bool

    @property
    def one_size(self) -> tuple[int, int] | None:
        return self.sizes[0] if len(set(self.sizes)) == 1 else None

    @property
    def largest_side(self) -> int:
        return max(max(size) for size in self.sizes)

    @property
    def median_short_side(self) -> int:
        return sorted(min(size) for size in self.sizes)[len(self.sizes) // 2]


def image_facts(dataset: Dataset, inspected: Iterable[Inspected]) -> ImageFacts:
    """Sizes and channels of the images whose header could be read. DataError where there are none."""
    found = list(inspected)
    infos = [image.info for image in found if image.info is not None]
    if not infos:
        first = next((image.bad for image in found), None)
        raise DataError(f"no file of {dataset.name} is a usable image; the first: {first}")
    return ImageFacts(
        sizes=tuple((info.height, info.width) for info in infos),
        all_grey=all(info.mode in ("1", "L", "LA") or info.mode.startswith("I") for info in infos),
    )


def describe_data(dataset: Dataset, facts: ImageFacts, *, num_bad: int) -> list[str]:
    """Layout, sizes and classes of the data, of which `num_bad` images cannot be used, as lines of text."""
    sizes = _describe_sizes(facts.sizes)
    grey = ", grey" if facts.all_grey else ""
    unusable = f" (of which {num_bad:,} cannot be used)" if num_bad else ""
    names = ", ".join(dataset.class_names[:8]) + (", ..." if len(dataset.class_names) > 8 else "")
    kinds = {"multiclass": "classes", "multilabel": "labels (multi-label)"}[dataset.task]
    return [
        f"{dataset.name}: {dataset.layout}, {plural(len(dataset.samples), 'image')}{unusable}, {sizes}{grey}",
        f"{len(dataset.class_names)} {kinds}: {names}",
        *dataset.notes,
    ]


def _describe_sizes(sizes: Sequence[tuple[int, int]]) -> str:
    heights, widths = [h for h, _ in sizes], [w for _, w in sizes]
    if len(set(sizes)) == 1:
        return f"{widths[0]} x {heights[0]} px"
    return f"{span(min(widths), max(widths), 'd', '-')} x {span(min(heights), max(heights), 'd', '-')} px"


def describe_splits(dataset: Dataset) -> list[str]:
    """Images per split and per class, and what cannot be measured on them."""
    lines = []
    for split in dataset.given_splits:
        counts = class_counts(dataset.subset(split), len(dataset.class_names))
        per = _PER_CLASS[dataset.task]
        least = f"{min(counts):,} to " if min(counts) < max(counts) else ""
        lines.append(f"{split}: {plural(len(dataset.subset(split)), 'image')}, {least}{max(counts):,} {per}")
    return [*lines, *describe_unmeasurable(dataset)]


_PER_CLASS: Mapping[Task, str] = MappingProxyType({"multiclass": "per class", "multilabel": "with each label"})
