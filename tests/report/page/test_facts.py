import numpy as np

from recog.data.dataset import Dataset, Exclusion, Sample
from recog.report.page.facts import MAX_STRIP_IMAGES, STRIP_IMAGES, overview, spread


def samples_of(number, label=0, split="train"):
    image = np.zeros((2, 2), np.uint8)
    return [Sample(name=f"{split}-{label}-{i}.png", source=image, labels=(label,), split=split) for i in range(number)]


def dataset_of(*samples, num_classes=2):
    names = tuple(f"c{i}" for i in range(num_classes))
    return Dataset(name="d", layout="folders", class_names=names, samples=samples)


def test_overview_counts_by_class_and_split_and_spreads_its_samples():
    data = dataset_of(*samples_of(20), *samples_of(3, label=1), *samples_of(4, label=1, split="test"))
    found = overview(data.without([Exclusion(name="x", reason="truncated")]), remarks=("odd",))
    assert found.splits == ("train", "test")
    assert [(row.name, row.counts) for row in found.classes] == [("c0", (20, 0)), ("c1", (3, 4))]
    assert found.num_images == (23, 4)
    assert found.excluded == (("x", "truncated"),)
    assert found.remarks == ("odd",)
    assert [len(row.samples) for row in found.classes] == [STRIP_IMAGES, 3]
    assert {sample.split for row in found.classes for sample in row.samples} == {"train"}


def test_many_classes_have_few_samples_each():
    data = dataset_of(*(s for k in range(400) for s in samples_of(2, label=k)), num_classes=400)
    assert sum(len(row.samples) for row in overview(data).classes) == MAX_STRIP_IMAGES


def test_samples_are_evenly_spaced():
    assert spread(list(range(10)), 4) == (0, 2, 5, 7)  # at 0, 2.5, 5, 7.5
    assert spread([1, 2], 4) == (1, 2)
