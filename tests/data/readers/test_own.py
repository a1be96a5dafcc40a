import numpy as np
import pytest
import torch
from containers import labelled_pngs
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, random_split
from torch.utils.data import Dataset as TorchDataset

from recog.core.errors import DataError
from recog.data.readers.own import find_class_names, read_items


class Own(TorchDataset):
    def __init__(self, items, classes=None):
        self.items = items
        self.asked = [0] * len(items)
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked[index] += 1
        return self.items[index]


PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(PIXELS), PIXELS),
        (PIXELS, PIXELS),
        (torch.from_numpy(PIXELS).permute(2, 0, 1), PIXELS),
        (torch.from_numpy(PIXELS[None, :, :, 0]), PIXELS[:, :, 0]),
        (PIXELS[:, :, 0], PIXELS[:, :, 0]),
        (Image.fromarray(PIXELS[:, :, 0]), PIXELS[:, :, 0]),
    ],
)
def test_every_kind_of_image(image, expected):
    own = Own([(image, 1), (image, torch.tensor(0))], classes=["cat", "dog"])
    data = read_items(own)
    assert (data.name, data.class_names) == ("own", ("cat", "dog"))
    assert [(s.name, s.label) for s in data.samples] == [("0", 1), ("1", 0)]
    assert np.array_equal(data.samples[0].source, expected)
    assert own.asked == [1, 1]


def test_splits_numbers_and_given_names():
    part = Own([(PIXELS, 2), (PIXELS, 0)])
    data = read_items({"train": part, "test": part})
    assert (data.given_splits, data.class_names) == (("train", "test"), ("0", "1", "2"))
    assert read_items(part, class_names=["a", "b", "c"]).class_names == ("a", "b", "c")
    assert [s.label for s in read_items(Own([(PIXELS, "b")]), class_names=["a", "b"]).samples] == [1]
    assert read_items(part, default_names=["0", "1", "2"]).class_names == ("0", "1", "2")
    assert read_items(Own([(PIXELS, "b")]), default_names=["a", "b"]).class_names == ("a", "b")
    with pytest.raises(DataError, match=r"item 0 has the number 2 for a label, and Own has no class names"):
        read_items(part, default_names=["a", "b", "c"])  # which of the names 2 means, nothing tells
    assert read_items(Own(part.items, classes=["d", "e", "f"]), default_names=["a", "b", "c"]).class_names[0] == "d"


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ((torch.zeros(3, 4, 4), 0), "dtype float32; expected uint8.*Leave out transforms such as ToTensor"),
        ((np.zeros((3, 5, 5), np.uint8), 0), r"shape \(3, 5, 5\)"),
        ((PIXELS, 5), "label 5, but there are names for 2 classes"),
        ((PIXELS, "eel"), "label 'eel', which is none of"),
        ((PIXELS, 0.5), "expected a whole number"),
        ((PIXELS, [0, 2]), "expected 2 values of 0 or 1"),
        ((PIXELS, np.array([0, 1, 1])), "expected 2 values of 0 or 1"),
        (PIXELS, r"expected \(image, label\)"),
    ],
)
def test_other_items_are_refused(item, says):
    with pytest.raises(DataError, match=says):
        read_items(Own([item], classes=["cat", "dog"]))


def test_unknown_splits_and_nothing_at_all():
    with pytest.raises(DataError, match="expected some of train, val, test"):
        read_items({"dev": Own([(PIXELS, 0)])})
    with pytest.raises(DataError, match="no usable item"):
        read_items(Own([]))


@pytest.mark.slow
def test_an_own_dataset_trains(tmp_path, monkeypatch):
    import io

    import recog
    from recog.recipes.config import ComputeConfig, TrainConfig
    from recog.training.config import OptimConfig

    monkeypatch.chdir(tmp_path)
    names = ["ant", "bee", "cow"]
    items = [(Image.open(io.BytesIO(data)), names.index(name)) for (name, _), data in labelled_pngs(10).items()]
    config = TrainConfig(recipe="scratch", optim=OptimConfig(epochs=1), compute=ComputeConfig(num_threads=1))
    run = recog.train(Own(items, classes=names), config, name="own")
    assert recog.load(run.bundle).class_names == ("ant", "bee", "cow")


class Wrapper(TorchDataset):
    """A user's own: another attribute name, other items, no classes."""

    def __init__(self, inner):
        self.what_it_holds = inner

    def __len__(self):
        return len(self.what_it_holds)

    def __getitem__(self, index):
        return self.what_it_holds[index]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: Subset(data, [2, 0, 1]),
        lambda data: random_split(data, [2, 1])[0],
        lambda data: ConcatDataset([data, data]),
        lambda data: Wrapper(Subset(data, [2, 0, 1])),
        lambda data: ConcatDataset([Wrapper(data), Subset(Wrapper(data), [0])]),
    ],
)
def test_the_class_names_are_found_through_what_wraps_them(wrap):
    # ImageFolder's order, by code point: '10' before '2', 'Dog' before 'cat'
    names = ["10", "2", "Dog", "cat"]
    data = read_items(wrap(Own([(PIXELS, 2), (PIXELS, 0), (PIXELS, 3)], classes=names)), default_names=sorted(names))
    assert data.class_names == tuple(names)
    by_index = Own([(PIXELS, 0)])
    by_index.class_to_idx = {"cat": 1, "Dog": 0}
    assert find_class_names(wrap_once := Wrapper(by_index)) == ["Dog", "cat"]
    wrap_once.itself = wrap_once  # a circle ends
    assert find_class_names(wrap_once) == ["Dog", "cat"]


def test_joined_datasets_must_agree_on_the_classes():
    one, two = Own([(PIXELS, 0)], classes=["cat", "dog"]), Own([(PIXELS, 0)], classes=["dog", "cat"])
    with pytest.raises(DataError, match="ConcatDataset joins datasets with different classes: cat, dog; and dog, cat"):
        read_items(ConcatDataset([one, two]))
    with pytest.raises(DataError, match="the classes of test are dog, cat, those of train cat, dog"):
        read_items({"train": one, "test": two})
    assert read_items({"train": one, "test": Own([(PIXELS, 1)])}).class_names == ("cat", "dog")


@pytest.mark.parametrize("as_array", [np.array, torch.tensor, list])
def test_multi_hot_targets(as_array):
    items = [(PIXELS, as_array(bits)) for bits in ([1, 0, 1], [0, 0, 0])]
    data = read_items(Own(items))
    assert (data.task, data.class_names) == ("multilabel", ("0", "1", "2"))
    assert [s.labels for s in data.samples] == [(0, 2), ()]
    assert read_items(Own(items, classes=["cat", "dog", "eel"])).class_names == ("cat", "dog", "eel")


def test_lists_of_names_need_the_class_names():
    items = [(PIXELS, ["dog"]), (PIXELS, []), (PIXELS, ("dog", "cat"))]
    data = read_items(Own(items), class_names=["cat", "dog"])
    assert [s.labels for s in data.samples] == [(1,), (), (0, 1)]
    with pytest.raises(DataError, match="give `class_names`"):
        read_items(Own(items))
