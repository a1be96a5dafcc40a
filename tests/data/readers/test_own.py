import numpy as np
import pytest
import torch
from containers import labelled_pngs, write_folder
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset, random_split
from torch.utils.data import Dataset as TorchDataset

from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.inspection import fingerprint, hash_samples
from recog.data.lists.label_format import LabelFormat
from recog.data.readers.own import find_class_names, read_items
from recog.data.sources import open_source, read_folder


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
    assert (data.given_splits, data.class_names) == (("train", "test"), ("0", "2"))  # a number is its own name
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
        (
            (torch.full((3, 4, 4), 0.3), 0),
            "dtype float32, from 0.3 to 0.3; expected uint8.*floats that are exactly k/255",
        ),
        ((torch.full((3, 4, 4), -1.0), 0), "dtype float32, from -1 to -1;.*Leave out transforms such as Normalize"),
        ((np.full((4, 4), 300), 0), "dtype int64, from 300 to 300"),
        ((np.zeros(16, np.uint8), 0), r"shape \(16,\).*Give each row its shape"),
        ((object(), 0), "an image of type object; expected a path"),
        ((PIXELS, -1), "the label '-1'; expected a whole number"),
        ((PIXELS, {"a": 1}), "expected a whole number"),
        ((np.zeros((3, 5, 5), np.uint8), 0), r"shape \(3, 5, 5\)"),
        ((PIXELS, 5), "label 5, but there are names for 2 classes"),
        ((PIXELS, "eel"), "label 'eel', which is none of"),
        ((PIXELS, 0.5), "expected a whole number"),
        ((PIXELS, [0, 2]), "expected a whole number"),
        ((PIXELS, np.array([0, 1, 1])), "3 values of 0 or 1 for labels; expected 2, one per class"),
        (PIXELS, r"expected \(image, label\)"),
    ],
)
def test_other_items_are_refused(item, says):
    with pytest.raises(DataError, match=says):
        read_items(Own([item], classes=["cat", "dog"]))


def test_unknown_splits_and_nothing_at_all():
    with pytest.raises(DataError, match="expected some of train, val, test"):
        read_items({"holdout": Own([(PIXELS, 0)])})
    with pytest.raises(DataError, match="expected some of train, val, test, each once"):
        read_items({"val": Own([(PIXELS, 0)]), "validation": Own([(PIXELS, 0)])})
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


def test_lists_of_names():
    items = [(PIXELS, ["dog"]), (PIXELS, []), (PIXELS, ("dog", "cat"))]
    data = read_items(Own(items), class_names=["cat", "dog"])
    assert [s.labels for s in data.samples] == [(1,), (), (0, 1)]
    assert read_items(Own(items)).class_names == ("cat", "dog")
    with pytest.raises(DataError, match="the labels are rows of 0 and 1 and names; give all in one way"):
        read_items(Own([*items, (PIXELS, [1, 0])]))


LEVELS = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3)).astype(np.uint8)
CLASSES = ["cat", "dog", "cat", "eel", "dog", "cat"]
NUMBERS = [0, 1, 0, 2, 1, 0]


def content(data):
    hashes = dict(zip((sample.name for sample in data.samples), hash_samples(data.samples), strict=True))
    return fingerprint(data, hashes)


def to_tensor(image):
    """As torchvision's ToTensor."""
    return torch.from_numpy(image).permute(2, 0, 1).div(255)


HELD = {  # what people hold: the same six images and classes
    "pairs": list(zip(LEVELS, CLASSES, strict=True)),
    "images and labels": (list(LEVELS), CLASSES),
    "array and array": (LEVELS, np.array(CLASSES)),
    "list of two arrays": [LEVELS, np.array(CLASSES)],
    "tensor and names": (torch.from_numpy(LEVELS).permute(0, 3, 1, 2), CLASSES),
    "floats k/255": (LEVELS.astype(np.float32) / 255, CLASSES),
    "doubles k/255": (LEVELS / 255, CLASSES),
    "whole doubles": (LEVELS.astype(float), CLASSES),
    "integers": (LEVELS.astype(np.int64), CLASSES),
    "ToTensor": Own([(to_tensor(image), label) for image, label in zip(LEVELS, CLASSES, strict=True)]),
    "numbers": Own(list(zip(LEVELS, NUMBERS, strict=True)), classes=["cat", "dog", "eel"]),
    "tensors of numbers": Own(
        [(i, torch.tensor(n)) for i, n in zip(LEVELS, NUMBERS, strict=True)], ["cat", "dog", "eel"]
    ),
    "tensors of one number": Own(
        [(i, torch.tensor([n])) for i, n in zip(LEVELS, NUMBERS, strict=True)], ["cat", "dog", "eel"]
    ),
    "one-hot": Own([(i, np.eye(3)[n]) for i, n in zip(LEVELS, NUMBERS, strict=True)], classes=["cat", "dog", "eel"]),
    "Pillow": [(Image.fromarray(image), label) for image, label in zip(LEVELS, CLASSES, strict=True)],
    "Subset of a ConcatDataset": Subset(
        ConcatDataset([Own(list(zip(LEVELS, CLASSES, strict=True)))] * 2), range(6, 12)
    ),
    "TensorDataset": TensorDataset(torch.from_numpy(LEVELS).permute(0, 3, 1, 2), torch.tensor(NUMBERS)),
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_what_people_hold_is_one_dataset(held):
    names = ["cat", "dog", "eel"] if isinstance(held, TensorDataset) else None
    data = read_items(held, class_names=names)
    assert (data.class_names, data.task) == (("cat", "dog", "eel"), "multiclass")
    assert content(data) == content(read_items(HELD["pairs"]))


def test_how_numbers_were_read_is_stated():
    assert read_items(HELD["pairs"]).notes == ()
    assert "multiplied by 255" in read_items(HELD["ToTensor"]).notes[0]
    assert f"whole numbers up to {LEVELS.max()}" in read_items(HELD["integers"]).notes[0]
    assert "task='multilabel' reads any number" in read_items(HELD["one-hot"]).notes[0]


def test_black_and_white_follows_the_scale_of_the_others():
    mask = np.eye(4)
    assert read_items([(mask, "a"), (np.eye(4, dtype=bool), "b")]).samples[1].source.max() == 255
    beside = read_items([(mask, "a"), (np.full((4, 4), 7.0), "b")])
    assert [sample.source.max() for sample in beside.samples] == [1, 7]
    with pytest.raises(DataError, match="item 0 has values from 0 to 1 and item 1 up to 7; expected one scale"):
        read_items([(mask * 51 / 255, "a"), (np.full((4, 4), 7.0), "b")])


def test_one_hot_rows_are_asked_about():
    rows = HELD["one-hot"]
    assert read_items(rows, labels=LabelFormat(task="multilabel")).task == "multilabel"
    decided = read_items(rows, labels=LabelFormat(task="multiclass"))
    assert (decided.task, decided.notes) == ("multiclass", ())
    several = Own([(PIXELS, [1, 0]), (PIXELS, [1, 1])])
    with pytest.raises(DataError, match="item 1 has 2 labels; with task='multiclass' every image has exactly one"):
        read_items(several, labels=LabelFormat(task="multiclass"))


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (
            DataLoader(Own([(PIXELS, 0)])),
            "DataLoader gives batches, in an order of its own; give its dataset: train_loader.dataset",
        ),
        ((image for image in LEVELS), "generator has no length"),
        (LEVELS, "ndarray has no labels.*given as a tuple"),
        (list(LEVELS), r"item 0 of images is of type ndarray; expected \(image, label\).*given as a tuple"),
        ((LEVELS, CLASSES[:5]), "there are 6 images and 5 labels; expected one label per image"),
        ((np.zeros((6, 3, 5, 7), np.uint8), CLASSES), r"shape \(3, 5, 7\).*X.transpose\(0, 2, 3, 1\)"),
        ((["a.png", "b.png"], ["a", "b"]), "none of the 2 image files exists"),
        ([(PIXELS, "cat"), (PIXELS, 3)], "the labels are names and numbers"),
        ([(PIXELS, [1, 0]), (PIXELS, [1, 0, 0])], "item 0 has 2 values of 0 or 1 for labels and item 1 3"),
    ],
)
def test_what_is_refused(held, says):
    with pytest.raises(DataError, match=says):
        read_items(held)


class TestPaths:
    @pytest.fixture
    def photos(self, tmp_path):
        return write_folder(labelled_pngs(2), tmp_path / "photos")

    @pytest.fixture
    def pairs(self, photos):
        return [(path, path.parent.name) for path in sorted(photos.rglob("*.png"))]

    def test_files_are_the_class_folder_of_the_same_images(self, photos, pairs, monkeypatch):
        folder = read_folder(photos)
        paths, labels = zip(*pairs, strict=True)
        monkeypatch.chdir(photos.parent)
        relative = [str(path.relative_to(photos.parent)) for path in paths]
        for held in (pairs, (paths, labels), (relative, labels), (np.array(relative), np.array(labels))):
            data = read_items(held)
            assert (data.name, content(data)) == ("photos", content(folder))
            assert {sample.name for sample in data.samples} == {sample.name for sample in folder.samples}

    def test_splits(self, pairs):
        data = read_items({"train": pairs[:4], "validation": pairs[4:]})
        assert (len(data.subset("train")), len(data.subset("val"))) == (4, len(pairs) - 4)
        with pytest.raises(DataError, match="is given twice, with the label ant in train and the label ant in test"):
            read_items({"train": pairs, "test": pairs[:1]})

    def test_a_file_given_again_and_one_with_two_labels(self, pairs):
        data = read_items([*pairs, pairs[0]])
        assert (len(data.samples), data.exclusions[0].reason) == (len(pairs), "given again")
        with pytest.raises(DataError, match="is given twice, with the label ant and the label bee"):
            read_items([*pairs, (pairs[0][0], "bee")])

    def test_without_a_label(self, pairs):
        data = read_items(
            [*pairs, (pairs[0][0].parent / "new.png", None), (pairs[0][0].parent / "old.png", float("nan"))]
        )
        assert [exclusion.reason[:8] for exclusion in data.exclusions] == ["no label"] * 2

    def test_groups_by_folder(self, photos, pairs):
        assert {sample.group for sample in open_source(pairs, layout=DataLayout(group="subfolder")).samples} == {
            "ant",
            "bee",
            "cow",
        }
        with pytest.raises(DataError, match="groups are for files of images"):
            open_source(HELD["pairs"], layout=DataLayout(group="subfolder"))
