"""What stands in the data more than once, by content hash: harmless copies, contradictions, and leaks between splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recog.data.dataset import Sample

Copies = tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Sets of two or more identical files; a set may stand in several of these."""

    copies: tuple[Copies, ...]  # all of them
    across_classes: tuple[Copies, ...]  # one image, several labels
    across_splits: tuple[Copies, ...]  # what is tested on was trained on
    groups_across_splits: tuple[str, ...]  # the user's groups that the given splits tear apart

    def notes(self) -> Iterator[str]:
        """What a person must know before trusting a number that is learnt or measured on these data."""
        if self.across_classes:
            first, *_, last = _labels_apart(self.across_classes[0])
            yield (
                f"{_count(self.across_classes)} under two or more classes, such as {first.name} and {last.name}; "
                "one of the labels must be wrong"
            )
        if self.across_splits:
            first, *_, last = _splits_apart(self.across_splits[0])
            yield (
                f"{_count(self.across_splits)} in more than one split, such as {first.name} and {last.name}; "
                "numbers measured on them are too good"
            )
        if self.groups_across_splits:
            yield (
                f"{len(self.groups_across_splits)} groups stand in more than one split, such as "
                f"'{self.groups_across_splits[0]}'; numbers measured on them are too good"
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
    """One sample per label, or per set of labels."""
    return list({sample.labels: sample for sample in reversed(same)}.values())[::-1]


def _splits_apart(same: Sequence[Sample]) -> list[Sample]:
    return list({sample.split: sample for sample in reversed(same)}.values())[::-1]


def _count(sets: Sequence[Copies]) -> str:
    return "1 image stands" if len(sets) == 1 else f"{len(sets)} images stand"
