"""Stated layouts: their values, and the sources that they are for, beside class folders (test_levels.py)."""

import numpy as np
import pytest
from containers import add, labelled_pngs, write_csv, write_folder, write_list, write_parquet, write_text

from recog.core.errors import ConfigError, DataError
from recog.data.data_layout import DataLayout
from recog.data.sources import open_source

IMAGES = labelled_pngs(2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"split_folders": ("trian=x",)}, "the split folder is 'trian=x'; expected SPLIT=FOLDER"),
        ({"split_folders": ("train",)}, "the split folder is 'train'; expected"),
        ({"split_folders": ("train=x", "test=x/")}, "name 'x' twice"),
        ({"classes_at_depth": 0}, "it must be 1 .* or more"),
        ({"split_folders": ("train=x",), "classes_at_depth": 1}, "must be 2 or more"),
    ],
)
def test_values_without_a_meaning(settings, says):
    with pytest.raises(ConfigError, match=says):
        DataLayout(**settings)


def test_split_words_in_a_csv(tmp_path):
    cells = ["Training", "PublicTest", "dev", "eval", "train1"]
    rows = [f"{i}.png,cat,{cell}" for i, cell in enumerate(cells)]
    path = write_list(tmp_path / "list.csv", "\n".join(["path,label,split", *rows]))
    data = open_source(tmp_path / "list.csv")
    assert [sample.split for sample in data.samples] == ["train", "test", "val", "test", "train"], path
    write_list(tmp_path / "list.csv", "path,label,split\n1.png,cat,holdout")
    with pytest.raises(DataError, match="line 2 has the split 'holdout'; it must be train, val or test"):
        open_source(tmp_path / "list.csv")


def write_shard(path, names):
    import tarfile

    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name in names:
            add(archive, f"{name}.png", IMAGES["ant", 0])
            add(archive, f"{name}.cls", b"ant")


@pytest.mark.parametrize("kind", ["shards", "parquet"])
def test_split_folders_of_shards_and_parquet(tmp_path, kind):
    root = tmp_path / "pets"
    for folder in ("Train Data", "dev", "holdout"):
        if kind == "shards":
            write_shard(root / folder / "a.tar", ["1", "2"])
        else:
            write_parquet(IMAGES, root / folder)
    with pytest.raises(
        DataError, match="holdout holds .* no split by its name.*--split-folders train=Train Data,val=dev"
    ):
        open_source(root)
    data = open_source(root, layout=DataLayout(split_folders=("train=Train Data", "test=holdout")))
    assert data.given_splits == ("train", "test")
    with pytest.raises(DataError, match="there is no folder .*nowhere"):
        open_source(root, layout=DataLayout(split_folders=("train=dev", "test=nowhere")))
    (root / "holdout").rename(root / "PublicTest")
    assert open_source(root).given_splits == ("train", "val", "test")


def test_split_folders_of_listed_images(tmp_path):
    for folder in ("seg_train", "holdout", "extra"):
        write_folder(IMAGES, tmp_path / folder)
        rows = [f"{name}/{i:03d}.png,{name}" for name, i in IMAGES]
        write_text(tmp_path / folder / "metadata.csv", "\n".join(["file_name,label", *rows]))
    layout = DataLayout(split_folders=("train=seg_train", "test=holdout"))
    data = open_source(tmp_path, layout=layout)
    assert {split: len(data.subset(split)) for split in data.given_splits} == {"train": 6, "test": 6}
    assert {e.reason for e in data.exclusions} == {"not in one of the given split folders"}
    with pytest.raises(
        DataError, match="--classes-at-depth is for folders of images, and .* is a Hugging Face imagefolder"
    ):
        open_source(tmp_path, layout=DataLayout(classes_at_depth=2))


@pytest.mark.parametrize("layout", [DataLayout(classes_at_depth=2), DataLayout(split_folders=("train=a",))])
@pytest.mark.parametrize("kind", ["csv", "parquet", "shard", "name", "object"])
def test_levels_are_refused_where_there_are_none(tmp_path, kind, layout):
    if kind == "shard":
        write_shard(tmp_path / "a.tar", ["1"])
    source = {
        "csv": lambda: write_csv(IMAGES, tmp_path / "list"),
        "parquet": lambda: write_parquet(IMAGES, tmp_path / "p"),
        "shard": lambda: tmp_path / "a.tar",
        "name": lambda: "digits",
        "object": lambda: [(np.zeros((8, 8, 3), dtype=np.uint8), k) for k in (0, 1)],
    }[kind]()
    with pytest.raises(DataError, match="is for .*folders.* Leave .* out"):
        open_source(source, layout=layout)


def test_groups_are_refused_for_an_object():
    with pytest.raises(DataError, match="these have no paths or columns"):
        open_source([(np.zeros((8, 8, 3), dtype=np.uint8), 0)], layout=DataLayout(group="subfolder"))
