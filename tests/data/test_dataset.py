import numpy as np
import pytest

from recog.core.errors import DataError
from recog.data.dataset import Dataset, Exclusion, Sample, check_trainable, class_counts, describe_exclusions


def sample(name, label, split=None):
    return Sample(name=name, source=np.zeros((2, 2), np.uint8), labels=(label,), split=split)


def dataset(*samples, class_names=("cat", "dog"), **others):
    return Dataset(name="pets", layout="class folders", class_names=class_names, samples=samples, **others)


def test_given_splits_come_in_one_order():
    assert dataset(sample("a", 0), sample("b", 1)).given_splits == ()
    mixed = dataset(sample("a", 0, "test"), sample("b", 1, "val"), sample("c", 1, "train"))
    assert mixed.given_splits == ("train", "val", "test")
    assert dataset(sample("a", 0, "test"), sample("b", 1, "train")).given_splits == ("train", "test")


def test_subsets_keep_the_order_and_part_the_whole():
    data = dataset(*(sample(f"{i}", i % 2) for i in range(6)))
    parted = data.with_splits(["train", "test", "train", "val", "test", "train"])
    assert [s.name for s in parted.subset("train")] == ["0", "2", "5"]
    assert [s.name for s in parted.subset("val")] == ["3"]
    assert [s.name for s in parted.subset("test")] == ["1", "4"]
    assert data.given_splits == ()  # the original is left as it was
    with pytest.raises(ValueError, match="zip"):
        data.with_splits(["train"])


def test_without_names_what_it_leaves_out():
    data = dataset(
        sample("a", 0), sample("b", 1), exclusions=(Exclusion(name="notes.txt", reason="not an image file"),)
    )
    less = data.without([Exclusion(name="b", reason="the file is empty")])
    assert [s.name for s in less.samples] == ["a"]
    assert [(e.name, e.reason) for e in less.exclusions] == [
        ("notes.txt", "not an image file"),
        ("b", "the file is empty"),
    ]


def test_counts_name_every_class_even_without_images():
    assert class_counts([sample("a", 2), sample("b", 0), sample("c", 2)], 4) == [1, 0, 2, 0]
    assert class_counts([], 2) == [0, 0]


def test_what_was_left_out_is_one_line_with_names_and_count():
    assert describe_exclusions(dataset()) == []
    left_out = tuple(Exclusion(name=f"{i}.txt", reason="not an image file") for i in range(7))
    assert describe_exclusions(dataset(exclusions=left_out), limit=2) == [
        "left out 7: 0.txt (not an image file); 1.txt (not an image file); and 5 more"
    ]
    assert describe_exclusions(dataset(exclusions=left_out[:2]), limit=2) == [
        "left out 2: 0.txt (not an image file); 1.txt (not an image file)"
    ]


class TestCheckTrainable:
    def test_two_classes_in_every_split_pass(self):
        check_trainable(dataset(sample("a", 0), sample("b", 1)))
        check_trainable(dataset(*(sample(f"{s}{i}", i, s) for s in ("train", "test") for i in range(2))))

    def test_one_class_is_no_choice(self):
        with pytest.raises(DataError, match=r"pets has one class only \('cat'\); a classifier needs two or more"):
            check_trainable(dataset(sample("a", 0), class_names=("cat",)))

    def test_a_class_that_a_split_lacks_is_named_with_the_split(self):
        data = dataset(sample("a", 0, "train"), sample("b", 1, "train"), sample("c", 0, "val"))
        with pytest.raises(DataError, match=r"split 'val' of pets has no usable image of 1 of 2 classes: dog\."):
            check_trainable(data)

    def test_a_split_that_lost_all_images_of_two_classes_names_both(self):
        names = ("cat", "dog", "eel")
        data = dataset(*(sample(f"{i}", i, "train") for i in range(3)), sample("x", 1, "test"), class_names=names)
        with pytest.raises(DataError, match="split 'test' of pets has no usable image of 2 of 3 classes: cat and eel"):
            check_trainable(data)


@pytest.mark.parametrize("labels", [(), (0, 1)])
def test_the_one_label_of_an_image_without_exactly_one_is_an_error(labels):
    image = Sample(name="both.png", source=np.zeros((2, 2), np.uint8), labels=labels)
    with pytest.raises(DataError, match=rf"both.png has {len(labels)} labels .* read `labels`"):
        _ = image.label
    assert sample("one.png", 1).label == 1


def test_an_image_with_several_labels_counts_under_each():
    several = [
        Sample(name=str(i), source=np.zeros((2, 2), np.uint8), labels=labels)
        for i, labels in enumerate([(0, 1), (), (1,)])
    ]
    assert class_counts(several, 3) == [1, 2, 0]
