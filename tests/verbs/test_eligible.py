"""Data of an evaluation are read as those of training were, where that fits."""

import zipfile
from types import SimpleNamespace

import pytest
from containers import labelled_pngs, write_text

from recog.core.config import dump_toml
from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.lists.label_format import AS_FOUND
from recog.verbs.eligible import open_as_trained

PNGS = list(labelled_pngs(1).values())


def build(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(PNGS[0])
    return root


def bundle(root, **data):
    write_text(root / "run.toml", dump_toml({"data": data}))
    return root


def read(source, folder, classes, layout=None):
    manifest = SimpleNamespace(task="multiclass", class_names=classes)
    settings = {} if layout is None else {"layout": layout}
    return open_as_trained(source, folder, manifest, labels=AS_FOUND, **settings)


def splits_of(dataset):
    return {sample.name: sample.split for sample in dataset.samples}


def test_the_recorded_depth_and_splits_are_used(tmp_path):
    deep = build(tmp_path / "deep", "animals/cat/1.png", "plants/rose/1.png")
    trained = bundle(tmp_path / "a", classes_at_depth=2)
    data = read(deep, trained, ("cat", "rose"))
    assert (data.class_names, data.notes) == (("cat", "rose"), ())
    sites = build(tmp_path / "sites", *(f"{site}/{name}/1.png" for site in "xy" for name in ("cat", "dog")))
    trained = bundle(tmp_path / "c", split_folders=["train=x", "test=y"], group="")
    assert set(splits_of(read(sites, trained, ("cat", "dog"))).values()) == {"train", "test"}


def test_of_two_readings_the_one_with_the_bundles_classes_is_taken(tmp_path):
    deep = build(tmp_path / "deep", "animals/cat/1.png", "plants/rose/1.png")
    for depth, classes in ((2, ("cat", "rose", "dog")), (1, ("animals", "plants"))):
        data = read(deep, bundle(tmp_path / "run"), classes)
        assert data.class_names == classes[:2]
        assert data.notes == (
            f"folders at depth {depth} are read as the classes, as their names are classes of the bundle",
        )
    with pytest.raises(DataError, match="can be read in two ways"):
        read(deep, bundle(tmp_path / "run"), ("frog", "toad"))


def test_the_recorded_encoding_of_names_is_used(tmp_path):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("aa/1.png", PNGS[0])
        file.writestr("bb/1.png", PNGS[0])
    raw = archive.read_bytes().replace(b"aa/1.png", "\u732b/1.png".encode("gbk"))  # two bytes, encoding not stated
    archive.write_bytes(raw.replace(b"bb/1.png", "\u72d7/1.png".encode("gbk")))
    data = read(archive, bundle(tmp_path / "run", names="gbk"), ("\u732b", "\u72d7"))
    assert set(data.class_names) == {"\u732b", "\u72d7"}
    flat = build(tmp_path / "flat", "cat/1.png", "rose/1.png")
    assert read(flat, bundle(tmp_path / "run", names="gbk"), ("cat", "rose")).class_names == ("cat", "rose")


def test_the_recorded_pattern_and_exclusions_are_used_where_they_match(tmp_path):
    trained = bundle(tmp_path / "run", label_pattern="{label}.{}.png", exclude=["*_mask.png"])
    paths = ["cat.1.png", "rose.1.png", "rose.1_mask.png"]
    assert sorted(splits_of(read(build(tmp_path / "masks", *paths), trained, ("cat", "rose")))) == paths[:2]
    assert sorted(splits_of(read(build(tmp_path / "none", *paths[:2]), trained, ("cat", "rose")))) == paths[:2]


def test_a_split_may_lack_classes_as_the_others_are_not_measured(tmp_path):
    data = build(tmp_path / "data", "train/cat/1.png", "train/dog/1.png", "test/cat/1.png")
    assert read(data, bundle(tmp_path / "run"), ("cat", "dog")).class_names == ("cat", "dog")


def test_what_does_not_fit_is_read_as_found(tmp_path):
    flat = build(tmp_path / "flat", "cat/1.png", "rose/1.png")
    for settings in (
        {"classes_at_depth": 2, "group": "subfolder"},
        {"split_folders": ["train=x"]},
        {"group": "P[0-9]"},
    ):
        data = read(flat, bundle(tmp_path / "run", **settings), ("cat", "rose"))
        assert (data.class_names, {sample.group for sample in data.samples}) == (("cat", "rose"), {None})
    deep = build(tmp_path / "deep", "cat/tom/1.png", "cat/2.png", "rose/dog/1.png", "rose/2.png")
    trained = bundle(tmp_path / "run", classes_at_depth=2)
    assert read(deep, trained, ("cat", "rose")).class_names == (
        "cat",
        "rose",
    )  # tom and dog are no classes of the bundle


def test_what_is_given_goes_first(tmp_path):
    deep = build(tmp_path / "deep", "animals/cat/1.png", "plants/rose/1.png")
    trained = bundle(tmp_path / "run", classes_at_depth=2)
    given = read(deep, trained, ("animals", "plants"), layout=DataLayout(classes_at_depth=1))
    assert given.class_names == ("animals", "plants")


@pytest.mark.parametrize("value", [{"classes_at_depth": "two"}, {"classes_at_depth": -1}, {"split_folders": [3]}])
def test_a_record_without_a_meaning_is_ignored(tmp_path, value):
    flat = build(tmp_path / "flat", "cat/1.png", "rose/1.png")
    assert read(flat, bundle(tmp_path / "run", **value), ("cat", "rose")).class_names == ("cat", "rose")


def test_the_recorded_columns_are_used_and_images_beside_the_list_go_first(tmp_path):
    folders = [build(tmp_path / name, "1.png", "2.png") for name in ("photos", "lists")]
    run = tmp_path / "runs/a"
    write_text(run / "run.toml", dump_toml({"data": {"images": ["../../photos"]}}))
    trained = bundle(run / "bundle", label_column="dx")
    path = write_text(tmp_path / "lists/x.csv", "id,dx\n1,cat\n2,rose\n")
    data = read(path, trained, ("cat", "rose"))
    assert [sample.source.parent for sample in data.samples] == [folders[1]] * 2
    moved = write_text(tmp_path / "elsewhere/x.csv", "id,dx\n1,cat\n2,rose\n")
    data = read(moved, trained, ("cat", "rose"))
    assert [sample.source.resolve().parent for sample in data.samples] == [folders[0]] * 2
    assert any(note.startswith("images: ") for note in data.notes)
