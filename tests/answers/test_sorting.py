import os

import pytest
from answers.examples import ANIMALS, answer, bad, prediction, write_images

from recog.answers.sorting import Sorter, check_links, sorted_names
from recog.answers.stream import Answer, Inputs, Unusable
from recog.core.errors import BadImage, ConfigError, DataError

CAT, DOG = prediction([0.8, 0.1, 0.1]), prediction([0.1, 0.8, 0.1])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.png", "x/b.png"], ["a.png", "b.png"]),
        (["x/a.png", "y/a.png", "z/a.png"], ["a.png", "a-2.png", "a-3.png"]),
        (["x/a.png", "y/a.png", "a-2.png"], ["a.png", "a-3.png", "a-2.png"]),  # the name of another image stays free
        (["a.png", "A.PNG"], ["a.png", "A-2.PNG"]),  # one name for Windows and macOS
        (["p.zip/b\\c.png", "p.zip/\x1b[31m.png"], ["b-c.png", "[31m.png"]),
    ],
)
def test_file_names_are_those_of_the_images_numbered_where_others_have_the_same(names, expected):
    assert list(sorted_names(names)) == expected
    assert sorted_names(names)[1:] == expected[1:]


def sorter(tmp_path, sources, **options):
    inputs = Inputs(names=[str(source) for source in sources], sources=[str(source) for source in sources])
    names = sorted_names(inputs.names)
    return Sorter(folder=tmp_path / "sorted", inputs=inputs, names=names, labels=ANIMALS, **options)


def place(found, *results):
    with found:
        for name, source, result in zip(found.inputs.names, found.inputs.sources, results, strict=True):
            labels = () if isinstance(result, BadImage) else result.labels
            found.add(Answer(name=name, source=source, result=result, labels=labels))
        return found.place()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("link", [False, True])
def test_images_are_copied_or_linked_by_answer_and_never_moved(tmp_path, link):
    images = write_images(tmp_path, ["x/a.png", "y/a.png", "c.png"])
    os.utime(images[0], (1e9, 1e9))
    found = sorter(tmp_path, images, link=link)
    assert place(found, CAT, CAT, DOG) == 3
    assert files(tmp_path / "sorted") == ["=dog/c.png", "cat/a-2.png", "cat/a.png"]
    for image, target in zip(images, ["cat/a.png", "cat/a-2.png", "=dog/c.png"], strict=True):
        assert image.read_bytes() == (tmp_path / "sorted" / target).read_bytes()
        assert image.samefile(tmp_path / "sorted" / target) == link
    assert (tmp_path / "sorted" / "cat" / "a.png").stat().st_mtime == 1e9


def test_unusable_images_are_left_out_and_other_answers_have_folders(tmp_path):
    images = write_images(tmp_path, ["a.png", "b.png", "c.png", "d.png"])
    unknown = prediction([0.8, 0.1, 0.1], is_unknown=True)
    none = prediction([0.1, 0.1, 0.1], preds=[0, 0, 0], task="multilabel")
    both = prediction([0.8, 0.1, 0.9], preds=[1, 0, 1], task="multilabel")
    assert place(sorter(tmp_path, images), unknown, BadImage("b", "truncated", ""), none, both) == 4
    assert files(tmp_path / "sorted") == ["cat/d.png", "eel/d.png", "no-label/c.png", "unknown/a.png"]


def test_members_of_an_archive_and_bytes_are_copied(tmp_path):
    (image,) = write_images(tmp_path, ["a.png"])

    class Member:
        def read(self):
            return image.read_bytes()

    inputs = Inputs(names=["p.zip/a.png", "stdin"], sources=[Member(), b"bytes"])
    found = Sorter(folder=tmp_path / "sorted", inputs=inputs, names=sorted_names(inputs.names), labels=ANIMALS)
    assert place(found, CAT, CAT) == 2
    assert (tmp_path / "sorted" / "cat" / "a.png").read_bytes() == image.read_bytes()
    assert (tmp_path / "sorted" / "cat" / "stdin").read_bytes() == b"bytes"


def test_nothing_is_overwritten_and_nothing_else_written_then(tmp_path):
    images = write_images(tmp_path, ["a.png", "b.png"])
    mine = tmp_path / "sorted" / "=dog" / "b.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"b\.png exists already; nothing was sorted"):
        place(sorter(tmp_path, images), CAT, DOG)
    assert files(tmp_path / "sorted") == ["=dog/b.png"]
    assert mine.read_bytes() == b"mine"


def test_an_interrupted_sort_leaves_no_file(tmp_path, monkeypatch):
    images = write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / "mine.txt").write_text("mine")
    real = Sorter._put

    def interrupted(self, source, target):
        real(self, source, target)
        if target.name == "b.png":
            raise KeyboardInterrupt

    monkeypatch.setattr(Sorter, "_put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        place(sorter(tmp_path, images), CAT, DOG)
    assert [path.name for path in (tmp_path / "sorted").iterdir()] == ["mine.txt"]


def test_an_image_that_is_gone_by_then_is_named(tmp_path):
    images = write_images(tmp_path, ["a.png", "b.png"])
    images[1].unlink()
    with pytest.raises(DataError, match=r"b\.png was answered and cannot be copied any more"):
        place(sorter(tmp_path, images), CAT, DOG)
    assert not (tmp_path / "sorted").exists()


def test_links_that_are_not_possible_are_refused(tmp_path, monkeypatch):
    images = write_images(tmp_path, ["a.png"])

    def fail(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(ConfigError, match="within one file system. Remove --link"):
        place(sorter(tmp_path, images, link=True), CAT)
    check_links(["a.png", Unusable(BadImage("x", "", ""))])
    with pytest.raises(ConfigError, match="can only be copied"):
        check_links(["a.png", b"bytes"])


def test_folders_of_shards_have_the_same_names(tmp_path):
    """Class names that one file system would confuse are numbered in the order of the classes, answered or not."""
    images = write_images(tmp_path, ["a.png"])
    inputs = Inputs(names=["a.png"], sources=[str(images[0])])
    found = Sorter(folder=tmp_path / "sorted", inputs=inputs, names=["a.png"], labels=("a/b", "a:b", "..", "unknown"))
    second = prediction([0.1, 0.8, 0.1, 0.0], class_names=("a/b", "a:b", "..", "unknown"))
    assert place(found, second) == 1
    assert files(tmp_path / "sorted") == ["a-b-2/a.png"]


def test_bad_answers_do_not_take_part(tmp_path):
    found = sorter(tmp_path, ["a.png"])
    found.add(bad("a.png"))
    assert found.place() == 0
    assert not (tmp_path / "sorted").exists()
    assert answer("a", CAT).labels == ("cat",)
