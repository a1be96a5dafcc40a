from pathlib import Path

from recog.data.dataset import Sample
from recog.data.inspection import find_overlap


def sample(name, label=0, split=None, group=None):
    return Sample(name=name, source=Path(name), labels=(label,), split=split, group=group)


def names(sets):
    return [[s.name for s in same] for same in sets]


def test_copies_contradictions_and_leaks_are_told_apart():
    samples = [
        sample("a", split="train"),
        sample("b", split="train"),  # copy of a
        sample("c", split="train"),
        sample("d", label=1, split="train"),  # c under another label
        sample("e", split="train"),
        sample("f", split="test"),  # e in test
        sample("g", split="test"),  # alone
    ]
    overlap = find_overlap(samples, ["1", "1", "2", "2", "3", "3", "4"])
    assert names(overlap.copies) == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert names(overlap.across_classes) == [["c", "d"]]
    assert names(overlap.across_splits) == [["e", "f"]]
    assert len(list(overlap.notes())) == 2
    assert any("such as e and f" in note for note in overlap.notes())


def test_groups_that_given_splits_tear_apart():
    samples = [sample("a", split="train", group="p"), sample("b", split="test", group="p"), sample("c", group="q")]
    overlap = find_overlap(samples, ["1", "2", "3"])
    assert overlap.groups_across_splits == ("p",)
    assert not overlap.copies
    assert "'p'" in next(overlap.notes())
