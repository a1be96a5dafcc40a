import os
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from containers import labelled_pngs, write_folder, write_text
from PIL import Image

from recog.core.errors import DataError, MissingExtraError
from recog.core.files import canonical_json
from recog.data.data_layout import DataLayout
from recog.data.lists.label_format import LabelFormat
from recog.data.sources import NAMED_SOURCES, open_source, read_digits, read_folder


def png(path, level=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), level).save(path, format="png")
    return path


def text(path, content="notes"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def build(root, *names):
    for name in names:
        png(root / name)
    return root


def names_of(dataset):
    return [sample.name for sample in dataset.samples]


def left_out(dataset):
    return {exclusion.name: exclusion.reason for exclusion in dataset.exclusions}


HIDDEN = "hidden or left behind by a tool"


class TestClassFolders:
    def test_every_image_with_its_class(self, tmp_path):
        data = open_source(build(tmp_path / "pets", "dog/1.png", "cat/2.png", "cat/10.png", "cat/1.JPG"))
        assert (data.name, data.layout, data.class_names) == ("pets", "class folders", ("cat", "dog"))
        assert [(s.name, s.label, s.split) for s in data.samples] == [
            ("cat/1.JPG", 0, None),
            ("cat/2.png", 0, None),
            ("cat/10.png", 0, None),
            ("dog/1.png", 1, None),
        ]
        assert data.samples[0].source == tmp_path / "pets/cat/1.JPG"
        assert data.exclusions == ()
        assert data.given_splits == ()
        assert data.test_fraction is None

    def test_classes_in_natural_order(self, tmp_path):
        data = read_folder(build(tmp_path, *(f"class{i}/1.png" for i in (10, 2, 1))))
        assert data.class_names == ("class1", "class2", "class10")

    def test_images_at_any_depth_belong_to_their_class(self, tmp_path):
        data = read_folder(build(tmp_path, "cat/2019/june/1.png", "cat/2.png", "dog/1.png"))
        assert [(s.name, s.label) for s in data.samples] == [
            ("cat/2.png", 0),
            ("cat/2019/june/1.png", 0),
            ("dog/1.png", 1),
        ]

    def test_a_class_may_be_called_train(self, tmp_path):
        data = read_folder(build(tmp_path, "train/1.png", "car/1.png", "plane/1.png"))
        assert data.class_names == ("car", "plane", "train")
        assert data.given_splits == ()

    def test_a_class_called_train_may_hold_folders(self, tmp_path):
        build(tmp_path, "train/steam/1.png", "train/diesel/1.png", "car/1.png")
        with pytest.raises(DataError, match="the split folders train and beside them car.*--classes-at-depth 1"):
            read_folder(tmp_path)
        data = open_source(tmp_path, layout=DataLayout(classes_at_depth=1))
        assert data.class_names == ("car", "train")

    def test_valid_and_invalid_are_classes(self, tmp_path):
        assert read_folder(build(tmp_path, "valid/1.png", "invalid/1.png")).class_names == ("invalid", "valid")

    def test_an_empty_class_stays_a_class_so_that_it_can_be_reported(self, tmp_path):
        build(tmp_path, "cat/1.png", "dog/1.png")
        (tmp_path / "eel").mkdir()
        assert read_folder(tmp_path).class_names == ("cat", "dog", "eel")

    def test_an_image_without_a_suffix_is_known_by_its_content(self, tmp_path):
        png(tmp_path / "cat" / "download")
        text(tmp_path / "cat" / "LICENSE")
        data = read_folder(build(tmp_path, "dog/1.png"))
        assert names_of(data) == ["cat/download", "dog/1.png"]
        assert left_out(data) == {"cat/LICENSE": "not an image file"}

    @pytest.mark.parametrize("seed", range(3))
    def test_the_file_systems_order_does_not_matter(self, tmp_path, monkeypatch, seed):
        names = [
            f"{split}/{kind}/{i}.png" for split in ("train", "test") for kind in ("b", "a10", "a9") for i in range(6)
        ]
        build(tmp_path, *names)
        text(tmp_path / "train" / "notes.txt")
        expected = read_folder(tmp_path)
        rng, listdir = random.Random(seed), os.listdir
        iterdir = Path.iterdir
        monkeypatch.setattr(os, "listdir", lambda *a: rng.sample(listed := listdir(*a), len(listed)))
        monkeypatch.setattr(Path, "iterdir", lambda self: iter(rng.sample(listed := list(iterdir(self)), len(listed))))
        assert read_folder(tmp_path) == expected


class TestSplitFolders:
    @pytest.mark.parametrize(
        ("folders", "splits"),
        [
            (("train", "val", "test"), ("train", "val", "test")),
            (("training", "validation", "testing"), ("train", "val", "test")),
            (("Train", "Valid", "TEST"), ("train", "val", "test")),
            (("train", "test"), ("train", "test")),
            (("train", "val"), ("train", "val")),
            (("train",), ("train",)),
        ],
    )
    def test_splits_and_their_synonyms(self, tmp_path, folders, splits):
        data = read_folder(build(tmp_path, *(f"{f}/{kind}/1.png" for f in folders for kind in ("cat", "dog"))))
        assert data.given_splits == splits
        assert data.class_names == ("cat", "dog")
        for folder, split in zip(folders, splits, strict=True):
            assert [(s.name, s.label) for s in data.subset(split)] == [
                (f"{folder}/cat/1.png", 0),
                (f"{folder}/dog/1.png", 1),
            ]
        assert data.layout.startswith("class folders below ")

    def test_two_folders_for_one_split_are_refused(self, tmp_path):
        build(tmp_path, "val/cat/1.png", "valid/cat/1.png", "train/cat/1.png")
        with pytest.raises(DataError, match=r"val and .*valid both mean the split 'val'; keep one"):
            read_folder(tmp_path)

    def test_a_class_missing_in_one_split_is_named(self, tmp_path):
        build(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png")
        with pytest.raises(DataError, match=r"split 'test' of .* lacks 1 of 2 classes: dog\."):
            read_folder(tmp_path)

    def test_a_class_that_only_the_test_split_has_is_named(self, tmp_path):
        build(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png", "test/eel/1.png")
        with pytest.raises(DataError, match=r"split 'train' of .* lacks 1 of 3 classes: eel\."):
            read_folder(tmp_path)

    def test_a_class_spelt_in_two_ways_is_named(self, tmp_path):
        build(tmp_path, "train/Cat/1.png", "test/cat/1.png")
        with pytest.raises(DataError, match=r"lacks 1 of 2 classes: [Cc]at\. .*spelt alike"):
            read_folder(tmp_path)

    @pytest.mark.parametrize(
        "names", [("train/1.png", "test/cat/1.png", "test/dog/1.png"), ("train/1.png", "test/2.png")]
    )
    def test_a_split_without_class_folders_is_not_a_class(self, tmp_path, names):
        """As classes, the network would tell train from test."""
        build(tmp_path, *names)
        with pytest.raises(DataError, match=r"/(train|test) is a split by its name but holds no class folders"):
            read_folder(tmp_path)

    def test_an_empty_split_folder_is_not_a_class(self, tmp_path):
        build(tmp_path, "train/cat/1.png", "train/dog/1.png")
        (tmp_path / "val").mkdir()
        with pytest.raises(DataError, match=r"/val is a split by its name but holds no class folders"):
            read_folder(tmp_path)

    def test_a_stranger_beside_the_splits_does_not_make_them_classes(self, tmp_path):
        build(tmp_path, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png", "unlabelled/1.png")
        with pytest.raises(
            DataError, match=r"has the split folders test, train and beside them unlabelled, which is no"
        ):
            read_folder(tmp_path)


class TestWhatIsLeftOut:
    def test_everything_is_named_and_nothing_else_is_read(self, tmp_path):
        build(
            tmp_path,
            "train/cat/1.png",
            "train/cat/._1.png",
            "train/cat/.ipynb_checkpoints/1-checkpoint.png",
            "train/dog/1.png",
            "train/.ipynb_checkpoints/x.png",
            "train/stray.png",
            "test/cat/1.png",
            "test/dog/1.png",
            "__MACOSX/train/cat/._1.png",
            "cover.png",
        )
        text(tmp_path / "train/cat/Thumbs.db")
        text(tmp_path / "train/dog/labels.csv")
        text(tmp_path / ".DS_Store")
        text(tmp_path / "README.md")
        data = read_folder(tmp_path)
        assert sorted(names_of(data)) == ["test/cat/1.png", "test/dog/1.png", "train/cat/1.png", "train/dog/1.png"]
        assert data.class_names == ("cat", "dog")
        assert left_out(data) == {
            ".DS_Store": HIDDEN,
            "__MACOSX": HIDDEN,
            "README.md": "not in a class folder",
            "cover.png": "not in a class folder",
            "train/.ipynb_checkpoints": HIDDEN,
            "train/stray.png": "not in a class folder",
            "train/cat/._1.png": HIDDEN,
            "train/cat/.ipynb_checkpoints": HIDDEN,
            "train/cat/Thumbs.db": HIDDEN,
            "train/dog/labels.csv": "not an image file",
        }
        assert len(data.exclusions) == 10  # each once

    def test_a_hidden_folder_is_never_a_class(self, tmp_path):
        data = read_folder(build(tmp_path, "cat/1.png", "dog/1.png", ".ipynb_checkpoints/1.png"))
        assert data.class_names == ("cat", "dog")
        assert left_out(data) == {".ipynb_checkpoints": HIDDEN}

    def test_a_broken_link_is_a_named_file(self, tmp_path):
        """By its suffix it was meant as an image: it stays a sample, so that decoding counts it as a bad file."""
        build(tmp_path, "cat/1.png", "dog/1.png")
        (tmp_path / "cat/2.png").symlink_to(tmp_path / "gone.png")
        (tmp_path / "dog/notes").symlink_to(tmp_path / "gone")
        data = read_folder(tmp_path)
        assert names_of(data) == ["cat/1.png", "cat/2.png", "dog/1.png"]
        assert left_out(data) == {"dog/notes": "not an image file"}

    def test_a_link_back_does_not_put_one_class_into_another(self, tmp_path):
        build(tmp_path, "cat/1.png", "dog/1.png")
        (tmp_path / "cat/all").symlink_to("..")
        data = read_folder(tmp_path)
        assert names_of(data) == ["cat/1.png", "dog/1.png"]
        assert left_out(data) == {"cat/all": "the same folder again, through a link"}

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
    @pytest.mark.timeout(20)
    def test_a_pipe_does_not_hang(self, tmp_path):
        build(tmp_path, "cat/1.png", "dog/1.png")
        os.mkfifo(tmp_path / "cat/pipe")
        assert left_out(read_folder(tmp_path)) == {"cat/pipe": "not an image file"}

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
    def test_names_that_are_not_utf8_can_be_written_down(self, tmp_path):
        for name in (b"caf\xe9/1.png", b"dog/na\xefve.png", b"dog/\xff.txt"):
            path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
            path.parent.mkdir(exist_ok=True)
            png(path) if name.endswith(b"png") else text(path)
        data = read_folder(tmp_path)
        assert data.class_names == (r"caf\xe9", "dog")
        assert names_of(data) == [r"caf\xe9/1.png", r"dog/na\xefve.png"]
        assert left_out(data) == {r"dog/\xff.txt": "not an image file"}
        assert all(sample.source.is_file() for sample in data.samples)
        canonical_json([*data.class_names, *names_of(data), *left_out(data)])


class TestWhatIsNoData:
    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(DataError, match="holds nothing; expected one folder of images per class"):
            open_source(tmp_path)

    def test_only_hidden_entries_are_nothing(self, tmp_path):
        build(tmp_path, ".ipynb_checkpoints/1.png")
        with pytest.raises(DataError, match="holds nothing"):
            open_source(tmp_path)

    def test_images_without_class_folders(self, tmp_path):
        with pytest.raises(DataError, match="holds 2 files but no class folders"):
            open_source(build(tmp_path, "1.png", "2.png"))

    def test_one_class_folder_is_told_from_the_folder_of_classes(self, tmp_path):
        build(tmp_path, "pets/hamster/1.png", "pets/rabbit/1.png", "pets/.cache/1.png")
        with pytest.raises(
            DataError, match=r"'hamster' and 'rabbit' in .*pets. If 'hamster' is one class, give .*pets\."
        ):
            open_source(tmp_path / "pets" / "hamster")

    def test_class_folders_without_images(self, tmp_path):
        text(tmp_path / "cat/notes.txt")
        (tmp_path / "dog").mkdir()
        with pytest.raises(DataError, match="holds 2 class folders but no image in any of them"):
            open_source(tmp_path)

    def test_a_file(self, tmp_path):
        with pytest.raises(DataError, match=r"1\.png is a file; expected a folder"):
            open_source(png(tmp_path / "1.png"))

    def test_a_path_that_is_not_there_with_the_nearest_that_is(self, tmp_path):
        (tmp_path / "flowers").mkdir()
        with pytest.raises(DataError, match=r"there is no folder .*flwers\. Did you mean 'flowers'\?"):
            open_source(tmp_path / "flwers")

    def test_a_name_that_is_not_there_with_the_nearest(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DataError, match=r"there is no folder digts\. Did you mean 'digits'\?"):
            open_source("digts")

    def test_nothing_near_lists_the_names(self, tmp_path):
        with pytest.raises(DataError, match=r"there is no folder .*zzz\. Data by name: digits, mnist, "):
            open_source(tmp_path / "no" / "such" / "zzz")

    def test_a_path_that_is_no_file_name_at_all(self, tmp_path):
        with pytest.raises(DataError, match="x cannot be opened: File name too long"):
            open_source(tmp_path / ("x" * 300))  # file systems take 255 bytes
        with pytest.raises(DataError, match="there is no folder "):
            open_source("a\0b")


class TestDigits:
    def test_the_1797_digits_of_the_uci_test_set(self):
        """Counts per class: Alpaydin and Kaynak's optdigits.names, the test set's column."""
        data = open_source("digits")
        assert data.class_names == tuple("0123456789")
        counts = Counter(sample.label for sample in data.samples)
        assert [counts[digit] for digit in range(10)] == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
        assert len(data.samples) == 1797
        assert len(set(names_of(data))) == 1797
        assert (data.test_fraction, data.given_splits) == (0.2, ())

    def test_levels_0_to_16_fill_0_to_255_and_can_be_told_apart(self):
        from sklearn.datasets import load_digits

        stored = load_digits().images
        images = np.stack([sample.source for sample in read_digits().samples])
        assert images.dtype == np.uint8
        assert images.shape == (1797, 8, 8)
        assert (images.min(), images.max()) == (0, 255)
        assert (np.round(images / 255 * 16) == stored).all()  # nothing was lost
        assert np.abs(images - stored * 255 / 16).max() <= 0.5  # to the nearest level

    def test_a_folder_goes_before_a_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        build(tmp_path / "digits", "even/1.png", "odd/1.png")
        assert open_source("digits").class_names == ("even", "odd")

    def test_without_scikit_learn_the_remedy_is_named(self, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where it is not installed
        with pytest.raises(MissingExtraError, match=r"pip install 'recog\[train\]'"):
            read_digits()

    def test_digits_stands_among_the_names(self):
        assert NAMED_SOURCES["digits"]().name == "digits"


def test_another_task_than_the_data_have_is_refused():
    assert open_source("digits", labels=LabelFormat(task="multiclass")).task == "multiclass"
    with pytest.raises(DataError, match="digits has one label an image; expected none to several of each"):
        open_source("digits", labels=LabelFormat(task="multilabel"))


@pytest.mark.parametrize("folder", ["", "train/"])
def test_captions_beside_class_folders_are_no_labels(tmp_path, folder):
    root = write_folder(labelled_pngs(2), tmp_path / "pets" / folder)
    rows = "".join(f"{path.relative_to(root)},a small animal\n" for path in sorted(root.rglob("*.png")))
    write_text(root / "metadata.csv", f"file_name,text\n{rows}")
    if folder:
        write_folder(labelled_pngs(1, size=9), tmp_path / "pets/test")
    data = open_source(tmp_path / "pets")
    assert data.class_names == ("ant", "bee", "cow")
    assert (
        data.notes[0]
        == f"{folder}metadata.csv has no column of labels and is not used; the labels are the folders' names"
    )
    with pytest.raises(DataError, match="which --label-column names"):
        open_source(tmp_path / "pets", layout=DataLayout(label_column="species"))


def test_captions_without_class_folders(tmp_path):
    write_text(tmp_path / "metadata.csv", "file_name,text\n1.png,a cat\n")
    write_text(tmp_path / "1.png", "")
    with pytest.raises(DataError, match="has no column 'label'"):
        open_source(tmp_path)
