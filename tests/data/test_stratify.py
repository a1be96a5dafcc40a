from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recog.core.errors import DataError
from recog.data.dataset import Dataset, Sample, check_trainable, labels_without_images
from recog.data.split import SplitConfig, split_dataset
from recog.data.stratify import iterative_parts, whole_shares

FRACTIONS = [0.7, 0.15, 0.15]


def rare_and_common(num_images=400, num_labels=8, seed=0):
    """Label k with chance 0.5 / (k + 1), label 0 twice as often beside label 1."""
    rng = np.random.default_rng(seed)
    bits = rng.random((num_images, num_labels)) < 0.5 / (np.arange(num_labels) + 1)
    bits[:, 0] |= bits[:, 1] & (rng.random(num_images) < 0.8)
    return bits, [tuple(np.flatnonzero(row).tolist()) for row in bits]


def test_every_part_gets_its_share_of_each_label_and_each_pair():
    bits, labels = rare_and_common()
    parts = iterative_parts(labels, range(len(labels)), FRACTIONS, seed=0)
    chance = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [280, 60, 60]))

    def gaps(parts):
        shares = np.array([bits[parts == part].sum(axis=0) for part in range(3)])
        pairs = [bits[:, a] & bits[:, b] for a, b in combinations(range(8), 2)]
        pair_shares = np.array([[pair[parts == part].sum() for pair in pairs] for part in range(3)])
        wanted = np.array(FRACTIONS)[:, None]
        return np.abs(shares - wanted * bits.sum(axis=0)), np.abs(pair_shares - wanted * np.sum(pairs, axis=1))

    ours, theirs = gaps(parts), gaps(chance)
    assert ours[0].max() <= 2.5  # images, of any label in any part
    assert ours[0].sum() < theirs[0].sum() / 3
    assert ours[1].sum() < theirs[1].sum()
    assert np.abs(np.bincount(parts) - [280, 60, 60]).max() <= 4


def test_by_hand():
    """Label 1, the rarer, goes first: 2 images to 1 + 1. Part 0 then has both labels once, part 1 label 1 alone, and so on."""
    labels = [(0,), (0,), (0, 1), (1,), (), ()]
    parts = iterative_parts(labels, range(6), [0.5, 0.5], seed=0)
    for label in (0, 1):
        held = [sum(label in labels[i] for i in np.flatnonzero(parts == part)) for part in (0, 1)]
        assert sorted(held) == ([1, 2] if label == 0 else [1, 1])
    assert np.bincount(parts).tolist() == [3, 3]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sets(st.integers(0, 4)), st.integers(0, 9)), min_size=1, max_size=60),
    st.integers(0, 2**32),
)
def test_groups_stay_together_and_the_same_seed_gives_the_same_parts(items, seed):
    labels = [tuple(sorted(found)) for found, _ in items]
    groups = [group for _, group in items]
    parts = iterative_parts(labels, groups, FRACTIONS, seed=seed)
    assert len({(g, p) for g, p in zip(groups, parts.tolist(), strict=True)}) == len(set(groups))
    assert set(parts.tolist()) <= {0, 1, 2}
    np.testing.assert_array_equal(parts, iterative_parts(labels, groups, FRACTIONS, seed=seed))


def test_another_seed_gives_other_parts():
    _, labels = rare_and_common()
    first, second = (iterative_parts(labels, range(400), FRACTIONS, seed=seed) for seed in (0, 1))
    assert (first != second).mean() > 0.2


@pytest.mark.parametrize(("count", "shares"), [(100, [70, 15, 15]), (3, [1, 1, 1]), (2, [1, 1, 0]), (0, [0, 0, 0])])
def test_whole_shares_by_hand(count, shares):
    assert whole_shares(count, FRACTIONS) == shares


def dataset_of(labels, num_labels=2, splits=None):
    samples = tuple(
        Sample(name=f"{i}", source=np.zeros((1, 1), np.uint8), labels=found, split=splits[i] if splits else None)
        for i, found in enumerate(labels)
    )
    names = tuple(f"label{k}" for k in range(num_labels))
    return Dataset(name="data", layout="test", task="multilabel", class_names=names, samples=samples)


def test_a_multi_label_dataset_is_split_by_every_label():
    _, labels = rare_and_common()
    data = split_dataset(dataset_of(labels, 8), SplitConfig(), seed=0, groups=[str(i) for i in range(400)])
    assert data.given_splits == ("train", "val", "test")
    assert labels_without_images(data) == {}
    check_trainable(data)


def test_a_label_with_too_few_images_is_named():
    with pytest.raises(DataError, match="label 'label1' of data has 2 images; at least 3 are needed"):
        split_dataset(dataset_of([(0,)] * 9 + [(1,)] * 2), SplitConfig(), seed=0, groups=[str(i) for i in range(11)])


@pytest.mark.parametrize(
    ("labels", "splits", "says"),
    [
        ([(0,), (0, 1)], None, "no usable image without 1 of 2 labels: label0"),
        ([(0,), ()], None, "no usable image with 1 of 2 labels: label1"),
        (
            [(0,), (), (1,)],
            ["train", "train", "test"],
            "split 'train' of data has no usable image with 1 of 2 labels: label1",
        ),
    ],
)
def test_each_label_needs_an_image_with_it_and_one_without(labels, splits, says):
    with pytest.raises(DataError, match=says):
        check_trainable(dataset_of(labels, splits=splits))


def test_a_split_in_which_a_label_never_changes_is_told_and_allowed():
    data = dataset_of([(0,), (1,), (1,)], splits=["train", "train", "test"])
    check_trainable(data)
    assert labels_without_images(data) == {"test": ["label0", "label1"]}
