"""Tables of (paths -> groups) and (paths -> warnings): a group is what a person would read off the path."""

import numpy as np
import pytest
from containers import png, write_list

from recog.core.errors import ConfigError, DataError
from recog.data.data_layout import DataLayout
from recog.data.groups import suspect_groups
from recog.data.inspection import hash_samples
from recog.data.sources import open_source
from recog.data.split import SplitConfig, join_groups, split_dataset

SUBFOLDERS = [f"{name}/P{k:03d}/{i}.png" for k, name in enumerate(["bad", "good"] * 8) for i in range(4)]
CLIPS = [f"{name}/clip{k:02d}_{i:04d}.png" for k, name in enumerate(["bad", "good"] * 3) for i in range(5)]


def build(root, paths):
    rng = np.random.default_rng(0)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(png(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)))
    return root


def listed(root, header, rows):
    return write_list(root / "list.csv", "\n".join([header, *rows]))


@pytest.mark.parametrize(
    ("paths", "group", "expected"),
    [
        (["a/P1/1.png", "a/P2/1.png", "b/P1/x/2.png"], "subfolder", ["P1", "P2", "P1"]),
        (["a/P1/1.png", "a/P2/1.png", "b/3.png"], "subfolder", ["P1", "P2", None]),
        (["a/P1-1.png", "b/P1-2.png", "b/P22-1.png"], "P[0-9]+", ["P1", "P1", "P22"]),
        (["a/P1-1.png", "b/P1-2.png", "b/P22-1.png"], "/(.+)-[0-9]", ["P1", "P1", "P22"]),
        (["a/P1-1.png", "b/P2-2.png", "b/z.png"], "P[0-9]+", ["P1", "P2", None]),
    ],
)
def test_groups_of_paths(tmp_path, paths, group, expected):
    data = open_source(build(tmp_path, paths), layout=DataLayout(group=group))
    assert [sample.group for sample in data.samples] == expected
    alone = expected.count(None)
    rest = f"; images in none, each split by itself: {alone}, such as" if alone else ""
    assert data.notes[-1].startswith(f"--group {group}: 2 groups{rest}")


def test_groups_of_a_list(tmp_path):
    rows = ["P1/1.png,cat,g1,ann", "P2/2.png,dog,g2,", "P2/3.png,dog,g1,bob"]
    source = listed(tmp_path, "path,label,group,patient", rows)
    expected = {
        "": ["g1", "g2", "g1"],
        "group": ["g1", "g2", "g1"],
        "patient": ["ann", None, "bob"],
        "subfolder": ["P1", "P2", "P2"],
        "[0-9].png": ["1.png", "2.png", "3.png"],
    }
    for group, groups in expected.items():
        data = open_source(source, layout=DataLayout(group=group))
        assert [sample.group for sample in data.samples] == groups, group


@pytest.mark.parametrize(
    ("group", "error", "says"),
    [
        ("patient", DataError, "--group patient names no column of"),
        ("Q[0-9]+", DataError, "finds no group in .* whose first image is a/P1/1.png"),
        ("(.)\\.png", DataError, "puts all images into the group '1'"),
        ("(", ConfigError, "is no regular expression"),
    ],
)
def test_groups_that_do_not_fit(tmp_path, group, error, says):
    with pytest.raises(error, match=says):
        open_source(build(tmp_path, ["a/P1/1.png", "b/P2/1.png"]), layout=DataLayout(group=group))


def test_no_group_spans_two_splits(tmp_path):
    """16 sub-folders of 4 images, each split by 70/15/15: with groups no sub-folder is in two splits, without them most are."""
    build(tmp_path, SUBFOLDERS)
    torn = {}
    for group in ("", "subfolder"):
        data = open_source(tmp_path, layout=DataLayout(group=group))
        groups = join_groups(hash_samples(data.samples), [sample.group for sample in data.samples])
        split = split_dataset(data, SplitConfig(), seed=0, groups=groups)
        splits = {}
        for sample in split.samples:
            splits.setdefault(sample.subfolder, set()).add(sample.split)
        assert split.given_splits == ("train", "val", "test")
        torn[group] = sum(len(found) > 1 for found in splits.values())
    assert torn["subfolder"] == 0
    assert torn[""] > 8


def test_a_few_large_groups_reach_every_split(tmp_path):
    """Of each class 10 images of one, 10 of another and 4 of a third patient: filling train first would leave none to test."""
    sizes = {"P0": 10, "P1": 10, "P2": 4}
    build(
        tmp_path, [f"{name}/{p}{name}/{i}.png" for name in ("bad", "good") for p, n in sizes.items() for i in range(n)]
    )
    data = open_source(tmp_path, layout=DataLayout(group="subfolder"))
    groups = join_groups([sample.group for sample in data.samples])
    for seed in range(5):
        split = split_dataset(data, SplitConfig(), seed=seed, groups=groups)
        found = {(sample.split, sample.label): sample.subfolder for sample in split.samples}
        assert len(found) == 6
        assert len(set(found.values())) == 6


WARNED = {  # paths -> what each warning says
    "sub-folders": (SUBFOLDERS, ["16 sub-folders; if one is one patient, clip or series, use --group subfolder"]),
    "sub-folders in train and test": (
        [f"{split}/{path}" for split in ("train", "test") for path in SUBFOLDERS[:16]],
        ["4 sub-folders; if one", "the same sub-folders are in train and test: P000, P001, P002, P003; if one"],
    ),
    "clips": (CLIPS, ["6 sequences of numbered files; if one is one patient, clip or series, use --group '"]),
    "clips in train and test": (
        [f"{split}/{path}" for split in ("train", "test") for path in CLIPS],
        ["6 sequences", "the same sequences of numbered files are in train and test: clip00, clip01, clip02"],
    ),
    "one image in each": ([f"{name}/P{k}/0.png" for k, name in enumerate(["bad", "good"] * 8)], []),
    "plain numbers": ([f"{name}/{i:04d}.png" for name in ("bad", "good") for i in range(9)], []),
    "one sequence a class": ([f"{name}/n0{c}_{i}.png" for c, name in enumerate(("a", "b")) for i in range(9)], []),
    "scattered numbers": ([f"a/n{k}_{i}.png" for k in range(3) for i in range(0, 900, 100)] + ["b/1.png"], []),
    "a few clips among others": ([*CLIPS[:20], *(f"bad/photo {c}.png" for c in "abcdefghijklmnopqrstuvwxyz")], []),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_seems_to_belong_together(tmp_path, case):
    paths, expected = WARNED[case]
    warnings = list(suspect_groups(open_source(build(tmp_path, paths))))
    assert len(warnings) == len(expected)
    for warning, begins in zip(warnings, expected, strict=True):
        assert warning.startswith(begins)


@pytest.mark.parametrize(("paths", "num_groups"), [(SUBFOLDERS, 16), (CLIPS, 6)])
def test_the_option_that_is_offered_states_the_groups(tmp_path, paths, num_groups):
    (warning,) = suspect_groups(open_source(build(tmp_path, paths)))
    option = warning.partition("--group ")[2].partition(", or")[0].strip("'")
    data = open_source(tmp_path, layout=DataLayout(group=option))
    assert len({sample.group for sample in data.samples}) == num_groups
    assert not list(suspect_groups(data))


def test_folders_of_a_list_are_suspected_unless_they_are_classes(tmp_path):
    patients = [f"P{k}/{i}.png,{'ab'[k % 2]}" for k in range(6) for i in range(3)]
    (warning,) = suspect_groups(open_source(listed(tmp_path, "path,label", patients)))
    assert warning.startswith("6 sub-folders; if one is one patient")
    classes = [f"{split}/{name}/{i}.png,{name}" for split in ("x", "y") for name in "ab" for i in range(3)]
    assert not list(suspect_groups(open_source(listed(tmp_path, "path,label", classes))))
    columns = [f"{row},g{i % 3}" for i, row in enumerate(patients)]
    assert not list(suspect_groups(open_source(listed(tmp_path, "path,label,group", columns))))
