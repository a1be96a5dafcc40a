from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recog.core.errors import ConfigError, DataError
from recog.data.dataset import Dataset, Sample
from recog.data.split import (
    SplitConfig,
    describe_known_splits,
    describe_small_classes,
    join_groups,
    split_dataset,
    without_small_classes,
)

PIXELS = np.zeros((1, 1), np.uint8)
USUAL = SplitConfig()


def dataset_of(labels, splits=None, num_classes=None):
    splits = splits or [None] * len(labels)
    samples = tuple(
        Sample(name=f"{i}", source=PIXELS, labels=(label,), split=split)
        for i, (label, split) in enumerate(zip(labels, splits, strict=True))
    )
    names = tuple(f"class{k}" for k in range(num_classes or max(labels) + 1))
    return Dataset(name="data", layout="test", class_names=names, samples=samples)


def all_different(dataset):
    return [sample.name for sample in dataset.samples]


def split_of(dataset, config=USUAL, *, seed=0, groups=None):
    return split_dataset(dataset, config, seed=seed, groups=all_different(dataset) if groups is None else groups)


def counts_of(dataset, label):
    counts = Counter(sample.split for sample in dataset.samples if sample.label == label)
    return tuple(counts[split] for split in ("train", "val", "test"))


@pytest.mark.parametrize(
    ("num_images", "counts"),
    [
        (100, (70, 15, 15)),
        (20, (14, 3, 3)),
        (10, (7, 2, 1)),  # 7, 1.5, 1.5: one image is left over, the first of the equal remainders gets it
        (7, (5, 1, 1)),  # 4.9, 1.05, 1.05
        (5, (3, 1, 1)),  # 3.5, 0.75, 0.75
        (4, (2, 1, 1)),  # 2.8, 0.6, 0.6 would be 3, 1, 0: the largest part gives one
        (3, (1, 1, 1)),
    ],
)
def test_70_15_15_of_each_class_by_hand(num_images, counts):
    data = split_of(dataset_of([0] * num_images + [1] * 40))
    assert counts_of(data, 0) == counts
    assert counts_of(data, 1) == (28, 6, 6)


def test_the_digits_fractions_by_hand():
    """0.65, 0.15, 0.2 of 178: 115.7, 26.7, 35.6; two images are left over for the remainders 0.7 and 0.7."""
    data = split_of(dataset_of([0] * 178 + [1] * 180), SplitConfig(test_fraction=0.2))
    assert counts_of(data, 0) == (116, 27, 35)
    assert counts_of(data, 1) == (117, 27, 36)


def test_val_is_carved_from_train_and_test_stands():
    given = ["train"] * 20 + ["test"] * 7 + ["train"] * 40 + ["test"] * 9
    data = split_of(dataset_of([0] * 27 + [1] * 49, given))
    assert counts_of(data, 0) == (17, 3, 7)
    assert counts_of(data, 1) == (34, 6, 9)
    assert [s.split == "test" for s in data.samples] == [split == "test" for split in given]


def test_train_alone_gives_val_and_no_test():
    data = split_of(dataset_of([0] * 20 + [1] * 20, ["train"] * 40))
    assert counts_of(data, 0) == (17, 3, 0)
    assert data.given_splits == ("train", "val")


@pytest.mark.parametrize("given", [("train", "val"), ("train", "val", "test")])
def test_what_is_given_whole_stands(given):
    data = dataset_of([0, 1] * len(given), [split for split in given for _ in range(2)])
    assert split_of(data) == data


@pytest.mark.parametrize(
    ("given", "words"), [(("test",), "test"), (("val",), "val"), (("val", "test"), "val and test")]
)
def test_without_train_there_is_no_training(given, words):
    data = dataset_of([0, 1] * len(given), [split for split in given for _ in range(2)])
    with pytest.raises(DataError, match=f"data has {words} but no train folder; training needs one"):
        split_of(data)


def test_the_seed_decides_and_nothing_else():
    data = dataset_of([0, 1, 2] * 30)
    first = split_of(data, seed=1)
    assert split_of(data, seed=1) == first
    others = [split_of(data, seed=seed) for seed in (2, 3, 1 + 2**32)]
    assert all(other != first for other in others)
    assert all(counts_of(other, label) == counts_of(first, label) for other in others for label in range(3))


def test_every_image_is_as_likely_to_be_in_test():
    """400 seeds, 3 of 20 images in test each: an image is expected 60 times, standard deviation sqrt(400 x .15 x .85) = 7.1.

    All 20 stay within 5 deviations, which chance breaks once in some 90,000 times.
    """
    data = dataset_of([0] * 20)
    times = Counter(s.name for seed in range(400) for s in split_of(data, seed=seed).subset("test"))
    assert len(times) == 20
    assert all(abs(n - 60) < 5 * 7.1 for n in times.values())


class TestIdenticalFiles:
    def test_are_never_torn_apart_even_under_two_labels(self):
        labels = [0] * 30 + [1] * 30
        groups = [f"{i}" for i in range(60)]
        for first, second in ((0, 1), (2, 3), (4, 5), (6, 7), (8, 40), (9, 41)):
            groups[second] = groups[first]
        for seed in range(20):
            data = split_of(dataset_of(labels), seed=seed, groups=groups)
            homes = {}
            for group, sample in zip(groups, data.samples, strict=True):
                homes.setdefault(group, set()).add(sample.split)
            assert all(len(home) == 1 for home in homes.values())
            assert min(counts_of(data, 0)) > 0

    def test_large_groups_leave_the_shares_as_they_are_where_they_fit(self):
        """Ten groups of 2, 70/15/15 of 20 images is 14, 3, 3: pairs give 14, 4, 2 or 14, 2, 4."""
        groups = [f"{i // 2}" for i in range(20)]
        for seed in range(10):
            data = split_of(dataset_of([0] * 20), seed=seed, groups=groups)
            assert counts_of(data, 0) in ((14, 4, 2), (14, 2, 4))

    def test_the_largest_group_is_placed_first_so_that_the_others_can_make_up_for_it(self):
        """14 copies and 6 others of 20: only with the copies in train are 14, 3, 3 still to be had."""
        groups = ["same"] * 14 + [f"{i}" for i in range(6)]
        for seed in range(10):
            assert counts_of(split_of(dataset_of([0] * 20), seed=seed, groups=groups), 0) == (14, 3, 3)

    def test_copies_do_not_count_as_images_that_can_be_parted(self):
        data = dataset_of([0] * 9 + [1] * 9)
        groups = ["same"] * 9 + [f"{i}" for i in range(9)]
        with pytest.raises(DataError, match="class 'class0' of data has 9 images, of which 1 differs; at least 3"):
            split_of(data, groups=groups)
        groups[:9] = ["a"] * 5 + ["b"] * 4
        with pytest.raises(DataError, match="class 'class0' of data has 9 images, of which 2 differ; at least 3"):
            split_of(data, groups=groups)


@pytest.mark.parametrize(
    ("num_images", "given", "message"),
    [
        (1, None, "class 'class0' of data has 1 image; at least 3 are needed to put one into each of train, val, test"),
        (2, None, "class 'class0' of data has 2 images; at least 3 are needed"),
        (1, "train", "class 'class0' of data has 1 image; at least 2 are needed to put one into each of train, val"),
    ],
)
def test_a_class_too_small_to_be_parted_is_named(num_images, given, message):
    labels = [0] * num_images + [1] * 30
    with pytest.raises(DataError, match=message):
        split_of(dataset_of(labels, [given] * len(labels)))


@pytest.mark.parametrize(
    ("sizes", "possible"),
    [
        (
            (2, 30, 30),
            "--min-images 3. Or train a head on all images, and estimate its accuracy by cross-validation: --split none.",
        ),
        (
            (1, 2, 2, 30, 30),
            "has 1 image, and 2 more classes have fewer than 3; .* all images but those of 1 class with one image, and .*: "
            "--split none --min-images 2.",
        ),
        (
            (1, 1, 30, 30),
            "and 1 more class has fewer than 3; .* --min-images 3.$",
        ),  # cross-validation cannot use them either
        ((2, 2), "Add images. Or train a head on all images, .*: --split none.$"),  # nothing would be left
        ((1, 1, 1), "Add images.$"),
        ((1, 2), "Add images.$"),  # one class would be left
    ],
)
def test_what_is_possible_with_small_classes_is_named(sizes, possible):
    with pytest.raises(DataError, match=possible):
        split_of(dataset_of([k for k, size in enumerate(sizes) for _ in range(size)]))


class TestWithoutSplits:
    @pytest.mark.parametrize(
        ("given", "counts"),  # of 8 images: train, val, test
        [([None] * 8, (8, 0, 0)), (["train"] * 6 + ["test"] * 2, (6, 0, 2)), (["train"] * 6 + ["val"] * 2, (6, 2, 0))],
    )
    def test_all_images_but_those_of_given_splits_are_trained_on(self, given, counts):
        split = split_of(dataset_of([0, 1] * 4, given), SplitConfig(mode="none"))
        assert tuple(len(split.subset(name)) for name in ("train", "val", "test")) == counts

    def test_a_class_needs_two_different_images(self):
        data, config = dataset_of([0, 0, 1, 1]), SplitConfig(mode="none")
        assert len(split_of(data, config).subset("train")) == 4
        with pytest.raises(DataError, match="2 images, of which 1 differs; at least 2 are needed .*cross-validation"):
            split_of(data, config, groups=["same", "same", "a", "b"])

    def test_images_of_a_parent_are_trained_on_too(self):
        data = dataset_of([0, 1] * 3)
        known = ["train", "val", "test", None, None, None]
        split = split_dataset(data, SplitConfig(mode="none"), seed=0, groups=all_different(data), known=known)
        assert len(split.subset("train")) == 6

    @pytest.mark.parametrize("name", ["val_fraction", "test_fraction"])
    def test_a_fraction_without_effect_is_refused(self, name):
        with pytest.raises(ConfigError, match=f"split.{name} has no effect with --split none"):
            SplitConfig(mode="none", **{name: 0.2})


def test_an_empty_class_is_named():
    with pytest.raises(DataError, match="class 'class2' of data has no usable image"):
        split_of(dataset_of([0, 1] * 10, num_classes=3))


@pytest.mark.parametrize("field", ["val_fraction", "test_fraction"])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, -0.1, float("nan")])
def test_impossible_fractions_are_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=rf"split\.{field} is {value}; it must be above 0 and below 0\.5"):
        SplitConfig(**{field: value})


fractions = st.floats(0.01, 0.49)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.integers(3, 60), min_size=1, max_size=5),
    st.builds(SplitConfig, val_fraction=fractions, test_fraction=fractions),
    st.integers(0, 2**63 - 1),
    st.randoms(),
)
def test_every_class_is_in_every_split_in_its_share(sizes, config, seed, rng):
    """Whole parts within one image of the exact share, wherever no share is below one image; nothing lost or doubled."""
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    rng.shuffle(labels)
    data = split_of(dataset_of(labels), config, seed=seed)
    assert [s.name for s in data.samples] == [f"{i}" for i in range(len(labels))]
    shares = (1 - config.val_fraction - config.test_fraction, config.val_fraction, config.test_fraction)
    for label, size in enumerate(sizes):
        counts = counts_of(data, label)
        assert sum(counts) == size
        assert min(counts) >= 1
        if size * min(shares) >= 1:
            assert all(abs(n - size * share) < 1 for n, share in zip(counts, shares, strict=True))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 25)), min_size=1, max_size=60), st.integers(0, 1000))
def test_any_groups_stay_whole_or_the_class_is_refused(items, seed):
    labels, groups = [label for label, _ in items], [f"{group}" for _, group in items]
    try:
        data = split_of(dataset_of(labels, num_classes=3), seed=seed, groups=groups)
    except DataError:
        assert any(len({g for k, g in items if k == label}) < 3 for label in range(3))
        return
    homes = {}
    for group, sample in zip(groups, data.samples, strict=True):
        assert homes.setdefault(group, sample.split) == sample.split


class TestJoinGroups:
    def test_a_chain_of_shared_keys_is_one_group(self):
        """0 and 1 share a hash, 1 and 2 a patient, 2 and 3 a hash: all four belong together; 4 shares nothing."""
        groups = join_groups(["x", "x", "y", "y", "z"], [None, "p", "p", None, None])
        assert len({*groups[:4]}) == 1
        assert groups[4] not in groups[:4]

    def test_none_shares_nothing(self):
        assert len(set(join_groups([None, None, None]))) == 3

    def test_equal_to_a_search_over_the_graph(self):
        rng = np.random.default_rng(0)
        for _ in range(20):
            keys = [[str(k) if k < 12 else None for k in rng.integers(0, 16, 30)] for _ in range(2)]
            groups = join_groups(*keys)
            reached = np.eye(30, dtype=bool)
            for column in keys:
                reached |= np.array([[a is not None and a == b for b in column] for a in column])
            for _ in range(5):
                reached = (reached.astype(int) @ reached.astype(int)) > 0
            assert np.array_equal(reached, np.array([[a == b for b in groups] for a in groups]))


class TestSmallClasses:
    def test_they_are_left_out_by_name_and_the_others_keep_their_names(self):
        data = dataset_of([0] * 3 + [1] * 2 + [2] * 4 + [3] * 3)
        hashes = [
            "a",
            "b",
            "c",
            "d",
            "e",
            "f",
            "f",
            "f",
            None,
            *"xyz",
        ]  # class 2: one image in three copies, and a bad file
        kept = without_small_classes(data, hashes, 3)
        assert kept.class_names == ("class0", "class3")
        assert [sample.label for sample in kept.samples] == [0, 0, 0, 1, 1, 1]
        assert [(e.name, e.reason) for e in kept.exclusions] == [
            ("class class1", "fewer than 3 different images: 2"),
            ("class class2", "fewer than 3 different images: 1"),
        ]
        three = without_small_classes(data, [str(i) for i in range(12)], 3)
        assert three.class_names == ("class0", "class2", "class3")
        assert [sample.label for sample in three.samples] == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]

    def test_without_the_option_nothing_is_left_out_and_with_all_small_it_is_an_error(self):
        data = dataset_of([0, 1])
        assert without_small_classes(data, ["a", "b"], 0) is data
        assert without_small_classes(data, ["a", "b"], 1) is data
        with pytest.raises(DataError, match="no class of data has 2 different images. Lower --min-images"):
            without_small_classes(data, ["a", "b"], 2)
        with pytest.raises(DataError, match="--min-images 2 leaves one class of data, 'class0', .* Lower --min-images"):
            without_small_classes(dataset_of([0, 0, 1]), ["a", "b", "c"], 2)

    @pytest.mark.parametrize(
        ("per_class", "share"),  # by hand: one image of each class for val and for test, the rest for train
        [(3, "33%"), (4, "50%"), (5, "60%"), (6, None), (7, None), (20, None)],
    )
    def test_a_train_split_that_is_far_too_small_is_a_warning(self, per_class, share):
        """5 of 5: 3 for train are 60 %, at the limit of 10 points below 70 %; 6: 4 of 6 are 67 %."""
        data = dataset_of([k for k in range(2000) for _ in range(per_class)])
        texts = describe_small_classes(data, USUAL)
        if share in (None, "60%"):
            assert all("few to learn from" in text for text in texts)
            assert len(texts) == (per_class < 6)
            return
        assert (
            f"train gets {share} of the images, not 70%, as 2,000 of 2,000 classes have fewer than 7 images" in texts[0]
        )
        assert "--min-images" not in texts[0]  # it would leave no class
        assert "--split none" in texts[0]
        data = dataset_of([k for k in range(20) for _ in range(per_class if k > 1 else 7)])
        assert "(--min-images 7)" in describe_small_classes(data, USUAL)[0]

    @pytest.mark.parametrize(("per_class", "num_warnings"), [(5, 1), (6, 0), (20, 0)])
    def test_classes_of_few_images_are_a_warning(self, per_class, num_warnings):
        texts = describe_small_classes(dataset_of([k for k in range(90) for _ in range(per_class)]), USUAL)
        assert len(texts) == num_warnings
        assert all(f"half of the 90 classes have {per_class} images or fewer" in text for text in texts)

    def test_given_splits_are_the_users_own(self):
        splits = ["train", "val"] * 2
        assert describe_small_classes(dataset_of([0, 0, 1, 1], splits), USUAL) == []
        assert "not 85%" in describe_small_classes(dataset_of([0, 0, 1, 1], ["train"] * 4), USUAL)[0]


def known_to(dataset, known, **changes):
    groups = all_different(dataset)
    return split_dataset(dataset, USUAL, seed=0, groups=groups, known=known, **changes)


def test_known_images_keep_their_split_and_new_ones_are_carved():
    """Of 20 new images of each class 70, 15, 15 % are 14, 3, 3, beside the 10, 5, 5 known ones of class 0."""
    known = ["train"] * 10 + ["val"] * 5 + ["test"] * 5 + [None] * 40
    data = known_to(dataset_of([0] * 40 + [1] * 20), known)
    assert [sample.split for sample in data.samples[:20]] == known[:20]
    assert (counts_of(data, 0), counts_of(data, 1)) == ((24, 8, 8), (14, 3, 3))
    assert describe_known_splits(data, known) == [
        "images that keep the split they have in the parent's run: 10 train, 5 val, 5 test"
    ]


def test_splits_of_the_source_stand_and_what_the_parent_learnt_from_is_named():
    data = dataset_of([0, 1] * 3, ["train", "train", "val", "val", "test", "test"])
    known = [None, None, "train", "val", "train", "val"]
    assert known_to(data, known) == data
    assert describe_known_splits(data, known) == [
        "images that keep the split they have in the parent's run: 1 val",
        "warning: the parent trained on or selected with 1 of the val images, so results on them are optimistic",
        "warning: the parent trained on or selected with 2 of the test images, so results on them are optimistic",
    ]


def test_a_group_stays_with_what_the_parent_learnt_from():
    data = dataset_of([0] * 30 + [1] * 30)
    groups = ["together"] * 2 + all_different(data)[2:]
    known = ["val", "train"] + [None] * 58
    split = split_dataset(data, USUAL, seed=0, groups=groups, known=known)
    assert [sample.split for sample in split.samples[:2]] == ["train", "train"]


def test_a_class_of_which_nothing_is_left_to_hold_out_is_refused():
    data = dataset_of([0] * 10 + [1] * 10)
    with pytest.raises(DataError, match="nothing is left for the val split of class0: .* Add new images, or give val"):
        known_to(data, ["train"] * 10 + [None] * 10)
