import json
import tarfile

import pytest
from containers import add, labelled_pngs, write_shards

from recog.core.errors import DataError
from recog.data.readers.shards import read_shards
from recog.data.sources import open_source

PNG = labelled_pngs(1)["ant", 0]


def shard(path, *members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            add(archive, name, data)
    return path


def test_classes_by_classnames_txt_by_number_and_by_name(tmp_path):
    folder = write_shards(labelled_pngs(2), tmp_path / "s")
    assert open_source(folder).class_names == ("ant", "bee", "cow")
    (folder / "classnames.txt").unlink()
    assert open_source(folder).class_names == ("0", "1", "2")
    path = shard(tmp_path / "a.tar", ("1.png", PNG), ("1.cls", b" cat\n"), ("2.png", PNG), ("2.cls", b"dog"))
    assert open_source(path).class_names == ("cat", "dog")


@pytest.mark.parametrize("suffix", ["cls", "json"])
def test_a_number_longer_than_any_class_has_is_refused(tmp_path, suffix):
    folder, digits = write_shards(labelled_pngs(2), tmp_path / "s"), b"7" * 5000  # more than int() takes
    shard(folder / "pets-000002.tar", ("1.png", PNG), (f"1.{suffix}", digits))
    with pytest.raises(DataError, match="a name of 5,000 characters|cannot be read: Exceeds the limit"):
        open_source(folder)


def test_labels_from_json_and_both_must_agree(tmp_path):
    members = [("1.png", PNG), ("1.json", json.dumps({"label": 7, "caption": "x"}).encode())]
    data = open_source(shard(tmp_path / "a.tar", *members))
    assert (data.class_names, data.samples[0].name) == (("7",), "a.tar/1.png")
    with pytest.raises(DataError, match="another member of its key '7'"):
        open_source(shard(tmp_path / "b.tar", *members, ("1.cls", b"8")))


def test_groups_in_json_keep_images_together(tmp_path):
    members = [(f"{i}.png", PNG) for i in range(3)]
    tables = ({"label": "cat", "group": "a"}, {"label": "dog", "group": 7}, {"label": "dog"})
    members += [(f"{i}.json", json.dumps(table).encode()) for i, table in enumerate(tables)]
    samples = open_source(shard(tmp_path / "a.tar", *members)).samples
    assert [(sample.group, sample.columns) for sample in samples] == [("a", ()), ("7", ()), (None, ())]


def test_what_a_json_says_beyond_the_label_are_columns(tmp_path):
    tables = (
        {"label": "cat", "class_name": "Cat", "camera": "a", "iso": 100, "night": True, "lens": None, "": "x"},
        {"label": "dog", "camera": "b", "gain": 0.5, "boxes": [1, 2], "exif": {"iso": 7}, "caption": "x" * 201},
    )
    members = [(f"{i}.png", data) for i, data in enumerate(labelled_pngs(3, classes=("x",)).values())]
    members += [(f"{i}.json", json.dumps(table).encode()) for i, table in enumerate(tables)]
    members += [("2.cls", b"cat"), ("2.json", b'{"camera": "c"}')]  # the label is elsewhere, the columns are here
    data = open_source(shard(tmp_path / "a.tar", *members))
    assert [(data.class_names[s.label], dict(s.columns)) for s in data.samples] == [
        ("cat", {"camera": "a", "iso": "100", "night": "True", "lens": ""}),
        ("dog", {"camera": "b", "gain": "0.5"}),
        ("cat", {"camera": "c"}),
    ]
    assert data.column_names == ("camera", "iso", "night", "lens", "gain")


@pytest.mark.parametrize(
    "layout", ["train/a.tar test/a.tar", "train-0.tar test-0.tar", "pets/train_00.tar pets/test_00.tar"]
)
def test_splits_by_folder_or_name(tmp_path, layout):
    for name in layout.split():
        shard(tmp_path / name, ("1.png", PNG), ("1.cls", b"0"), ("2.png", PNG), ("2.cls", b"1"))
    root = tmp_path / "pets" if layout.startswith("pets") else tmp_path
    assert open_source(root).given_splits == ("train", "test")


def test_a_pattern_of_shards(tmp_path):
    write_shards(labelled_pngs(2), tmp_path)
    assert len(open_source(f"{tmp_path}/pets-{{000000..000001}}.tar").samples) == 6
    with pytest.raises(DataError, match=r"pets-000002.tar is not there"):
        open_source(f"{tmp_path}/pets-{{000000..000002}}.tar")


def test_what_does_not_belong_together_is_named(tmp_path):
    path = shard(tmp_path / "a.tar", ("1.png", PNG), ("1.cls", b"0"), ("2.cls", b"0"), ("3.png", PNG))
    with pytest.raises(DataError, match="1 of 2 images of a have no label"):
        open_source(path)
    data = read_shards([path], root=tmp_path, name="a")
    assert {e.name: e.reason for e in data.exclusions} == {
        "a.tar/2": "a label without an image of its key",
        "a.tar/3.png": "no label (no .cls or .json of its key)",
    }
    with pytest.raises(DataError, match="2 images of one key"):
        open_source(shard(tmp_path / "b.tar", ("1.png", PNG), ("1.jpg", PNG), ("1.cls", b"0")))


def test_the_library_itself_reads_the_same(tmp_path):
    """WebDataset as the second method: the same images with the same labels."""
    wds = pytest.importorskip("webdataset")
    folder = write_shards(labelled_pngs(3), tmp_path)
    ours = {s.source.read(): s.label for s in open_source(folder).samples}
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    theirs = {s["png"]: int(s["cls"]) for s in wds.WebDataset(urls, shardshuffle=False)}
    assert ours == theirs


@pytest.mark.parametrize(
    ("members", "separator"),
    [
        ((("1.json", b'{"labels": ["cat", "dog"]}'), ("2.json", b'{"label": []}')), ""),
        ((("1.json", b'["dog", "cat"]'), ("2.json", b"[]")), ""),
        ((("1.cls", b"cat|dog"), ("2.cls", b"")), "|"),
    ],
)
def test_lists_of_labels(tmp_path, members, separator):
    from recog.data.lists.label_format import LabelFormat

    images = [("1.png", PNG), ("2.png", labelled_pngs(1)["bee", 0])]
    path = shard(tmp_path / "a.tar", *images, *members)
    data = open_source(path, labels=LabelFormat(separator=separator))
    assert (data.task, data.class_names) == ("multilabel", ("cat", "dog"))
    assert [s.labels for s in data.samples] == [(0, 1), ()]


def test_keys_of_0_and_1_that_the_user_names(tmp_path):
    from recog.data.lists.label_format import LabelFormat

    images = [(f"{i}.png", data) for i, data in enumerate(labelled_pngs(2, classes=("x",)).values())]
    tables = ({"dog": 1, "cat": True, "cow": 0, "label": "x"}, {"dog": False, "cat": 0, "cow": 0.0, "night": 1})
    members = [(f"{i}.json", json.dumps(table).encode()) for i, table in enumerate(tables)]
    path = shard(tmp_path / "a.tar", *images, *members, ("0.cls", b"x"))
    data = open_source(path, labels=LabelFormat(columns=("dog", "cat", "cow")))
    assert (data.task, data.class_names) == ("multilabel", ("cat", "cow", "dog"))  # a cow, too, that no image shows
    assert [s.labels for s in data.samples] == [(0, 2), ()]
    assert [dict(s.columns) for s in data.samples] == [{"label": "x"}, {"night": "1"}]
    with pytest.raises(DataError, match="a.tar/0.json has no label column 'night'; it has: dog, cat, cow, label"):
        open_source(path, labels=LabelFormat(columns=("dog", "night")))
    path = shard(tmp_path / "b.tar", *images, members[0], ("1.json", b'{"dog": 2, "cat": 0}'))
    with pytest.raises(DataError, match="b.tar/1.json has '2' in the label column 'dog'; expected 0 or 1"):
        open_source(path, labels=LabelFormat(columns=("dog", "cat")))


def test_shards_beside_the_runs_that_were_trained_on_them(tmp_path):
    folder = write_shards(labelled_pngs(2), tmp_path / "s")
    (folder / "runs/s-1").mkdir(parents=True)
    (folder / "runs/s-1/run.toml").write_text("")
    assert len(open_source(folder).samples) == 6


@pytest.mark.parametrize(
    "stems", [("photo.v1", "photo.v2"), ("1.5", "1.25"), ("a.cat", "b.dog"), ("x/a.b.c", "x/a.b.d")]
)
def test_keys_that_have_dots(tmp_path, stems):
    """By WebDataset's rule, 'photo.v1' and 'photo.v2' would be one sample, and 'a.cat.cls' no label."""
    members = [(f"{stem}.png", PNG) for stem in stems] + [
        (f"{stem}.cls", label) for stem, label in zip(stems, (b"cat", b"dog"), strict=True)
    ]
    data = open_source(shard(tmp_path / "a.tar", *members))
    assert [(s.name, data.class_names[s.label]) for s in data.samples] == [
        (f"a.tar/{stems[0]}.png", "cat"),
        (f"a.tar/{stems[1]}.png", "dog"),
    ]
    assert "all up to the last dot" in data.notes[0]


def test_a_suffix_of_two_parts_is_webdatasets(tmp_path):
    data = open_source(
        shard(tmp_path / "a.tar", ("1.rgb.png", PNG), ("1.cls", b"a"), ("2.rgb.png", PNG), ("2.cls", b"b"))
    )
    assert (len(data.samples), data.notes) == (2, ())
