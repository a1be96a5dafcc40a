"""Images that belong together, such as those of one patient, clip or series: stated by the user, or suspected and reported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from recog.core.config import did_you_mean
from recog.core.errors import ConfigError, DataError
from recog.core.files import natural_key
from recog.data.dataset import Dataset, Sample
from recog.data.names import are_numbered
from recog.data.tree import parent_of

SUBFOLDER = "subfolder"
GROUP_COLUMN = "group"  # the column that states groups unless the user names another one
FRAMES = r"([^/]*\d[^/]*?)[-_. ]+[A-Za-z]*\d+\.\w+$"  # clip03 of b/clip03_0001.png, and of b/clip03_frame1.png
_FRAME = re.compile(r"([^/]*\d[^/]*?)[-_. ]+[A-Za-z]*(\d+)\.\w+$")
_PLAIN_WORD = re.compile(r"[\w -]+")
_MAX_STEP = 5  # between the numbers of near-consecutive frames
_MIN_FRAMES = 3
_MAX_LISTED = 5


def with_groups(dataset: Dataset, group: str) -> Dataset:
    """The dataset with the groups that `group` states; with '' those of its column 'group', if it has one.

    'subfolder': the folder in which an image lies below its class folder, of a list the image's folder. A column of the list:
    its cells. Else a regular expression, searched for in the image's path within the data: the text of its parentheses, or
    without such the whole match. Equal texts are one group in whatever class. DataError or ConfigError where no image has one.
    """
    if not group:
        return dataset
    groups = _groups(dataset, group)
    distinct = set(groups) - {None}
    if len(distinct) < 2:
        found = f"puts all images into the group '{next(iter(distinct))}'" if distinct else "finds no group"
        raise DataError(
            f"--group {group} {found} in {dataset.name}, whose first image is {dataset.samples[0].name}. Expected "
            "'subfolder', a column of the list, or a regular expression on the image's path, such as 'P[0-9]+'."
        )
    alone = [sample.name for sample, key in zip(dataset.samples, groups, strict=True) if key is None]
    note = f"--group {group}: {len(distinct):,} groups"
    if alone:
        note += f"; images in none, each split by itself: {len(alone):,}, such as {alone[0]}"
    samples = (replace(sample, group=key) for sample, key in zip(dataset.samples, groups, strict=True))
    return replace(dataset, samples=tuple(samples), notes=(*dataset.notes, note))


def _groups(dataset: Dataset, group: str) -> list[str | None]:
    if group == SUBFOLDER:
        return [sample.subfolder for sample in dataset.samples]
    if group in dataset.column_names:
        return [dict(sample.columns).get(group) or None for sample in dataset.samples]
    if group == GROUP_COLUMN and any(sample.group is not None for sample in dataset.samples):
        return [sample.group for sample in dataset.samples]
    if _PLAIN_WORD.fullmatch(group):
        known = [SUBFOLDER, *dataset.column_names]
        raise DataError(
            f"--group {group} names no column of {dataset.name}. Expected 'subfolder', a column, or a regular expression on "
            f"the image's path, such as 'P[0-9]+'.{did_you_mean(group, known)}"
        )
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ConfigError(f"--group '{group}' is no regular expression: {error}.") from None
    matches = [pattern.search(sample.name) for sample in dataset.samples]
    return [m and ("/".join(text or "" for text in m.groups()) or m.group() or None) for m in matches]


def suspect_groups(dataset: Dataset) -> Iterator[str]:
    """Warnings where images seem to belong together and no group is stated, with what states it."""
    if any(sample.group is not None for sample in dataset.samples):
        return
    in_subfolder = _nested(dataset)
    if in_subfolder:
        names = [sample.subfolder or "" for sample in in_subfolder]
        yield from _warn(in_subfolder, names, "sub-folders", SUBFOLDER)
        return
    frames = _sequences(dataset.samples)
    if frames:
        names = [name for name, _ in frames]
        yield from _warn([sample for _, sample in frames], names, "sequences of numbered files", f"'{FRAMES}'")


def _warn(samples: Sequence[Sample], names: Sequence[str], what: str, option: str) -> Iterator[str]:
    distinct = list(dict.fromkeys(names))
    yield (
        f"{len(distinct):,} {what}; if one is one patient, clip or series, use --group {option}, or its images are spread over "
        f"the splits and the results too optimistic. Such as {', '.join(distinct[:3])}"
    )
    splits: dict[str, set[str]] = {}
    for name, sample in zip(names, samples, strict=True):
        if sample.split:
            splits.setdefault(name, set()).add(sample.split)
    shared = sorted((name for name in splits if len(splits[name]) > 1), key=natural_key)
    if shared:
        more = f" and {len(shared) - _MAX_LISTED:,} more" if len(shared) > _MAX_LISTED else ""
        between = [split for split in ("train", "val", "test") if any(split in splits[name] for name in shared)]
        yield (
            f"the same {what} are in {' and '.join(between)}: {', '.join(shared[:_MAX_LISTED])}{more}; if one is one patient, "
            "clip or series, results measured on them are too optimistic"
        )


def _nested(dataset: Dataset) -> list[Sample]:
    """The samples in sub-folders, where several hold two images or more and they are not the classes themselves."""
    found = [sample for sample in dataset.samples if sample.subfolder]
    names = {sample.subfolder or "" for sample in found}
    if not 1 < len(names) < len(found):
        return []
    if are_numbered(list(names)):
        return found if len(names) > len(dataset.class_names) or _is_below_class(dataset, found[0]) else []
    return [sample for sample in found if _is_below_class(dataset, sample)]


def _is_below_class(dataset: Dataset, sample: Sample) -> bool:
    return any(f"/{dataset.class_names[k]}/{sample.subfolder}/" in f"/{sample.name}" for k in sample.labels)


def _sequences(samples: Sequence[Sample]) -> list[tuple[str, Sample]]:
    """(name of the sequence, sample) of near-consecutive frames, if these are most of the images and lie in several sequences
    of one folder; else none.
    """
    sequences: dict[tuple[str, str], list[tuple[int, Sample]]] = {}
    for sample in samples:
        match = _FRAME.search(sample.name)
        if match is not None:
            sequences.setdefault((parent_of(sample.name), match[1]), []).append((int(match[2][-18:]), sample))
    dense = {key: frames for key, frames in sequences.items() if _is_dense([number for number, _ in frames])}
    covered = [(name, sample) for (_, name), frames in dense.items() for _, sample in frames]
    is_common = 2 * len(covered) > len(samples) and len(dense) > len({folder for folder, _ in dense})
    return covered if is_common else []


def _is_dense(numbers: Sequence[int]) -> bool:
    ordered = sorted(numbers)
    close = sum(b - a <= _MAX_STEP for a, b in zip(ordered, ordered[1:], strict=False))
    return len(ordered) >= _MIN_FRAMES and 2 * close >= len(ordered) - 1
