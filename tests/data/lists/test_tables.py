import json

import pytest
from containers import labelled_pngs, write_folder, write_list, write_metadata, write_text, write_zip

from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.lists.tables import read_list
from recog.data.sources import open_source

HEAD = "path,label,split,group\n"


def rows_of(dataset):
    return [(s.name, dataset.class_names[s.label], s.split, s.group) for s in dataset.samples]


def test_all_four_columns(tmp_path):
    text = HEAD + "b/1.png,dog,train,p1\na/2.png,cat,validation,\na/10.png,cat,TEST,p2\n"
    data = read_list(write_list(tmp_path / "pets.csv", text))
    assert (data.name, data.class_names) == ("pets", ("cat", "dog"))
    assert rows_of(data) == [
        ("b/1.png", "dog", "train", "p1"),
        ("a/2.png", "cat", "val", None),
        ("a/10.png", "cat", "test", "p2"),
    ]
    assert data.samples[0].source == tmp_path / "b/1.png"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_spreadsheets_delimiters_quotes_and_header(tmp_path, delimiter):
    text = f' Path {delimiter}LABEL{delimiter}other\n"a b,1.png"{delimiter}"he said ""cat"""{delimiter}7\n'
    assert rows_of(read_list(write_list(tmp_path / "x.csv", text))) == [("a b,1.png", 'he said "cat"', None, None)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty; expected a header with the columns path and label"),
        (HEAD, "lists no image with a label"),
        (HEAD + "1.png,cat,trian,\n", "line 2 has the split 'trian'"),
        (HEAD + "1.png,cat,,\n", "must be train, val or test, in every row or in none"),
        (HEAD + ",cat,train,\n", "line 2 has no path"),
        (HEAD + '"1.png,cat,train,\n', "not valid CSV"),
        ("path,label,label\n1.png,a,b\n", "column 'label' twice"),
        (HEAD + "a\0.jpg,cat,train,\n", "NUL"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, text, says):
    with pytest.raises(DataError, match=says):
        read_list(write_list(tmp_path / "x.csv", text))


def test_metadata_in_split_folders_and_what_it_does_not_list(tmp_path):
    for split in ("train", "test"):
        write_folder(labelled_pngs(1, classes=("x",)), tmp_path / split)
        lines = [{"file_name": "x/000.png", "label": 3}]
        write_text(tmp_path / split / "metadata.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    write_text(tmp_path / "train/x/extra.png", "not listed")
    data = open_source(tmp_path)
    assert rows_of(data) == [("test/x/000.png", "3", "test", None), ("train/x/000.png", "3", "train", None)]
    assert [(e.name, e.reason) for e in data.exclusions] == [("train/x/extra.png", "not listed in the metadata")]


def test_metadata_csv_within_a_zip(tmp_path):
    import zipfile

    path = write_zip(labelled_pngs(1), tmp_path / "z")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.csv", "file_name,label\n" + "".join(f"pets/{c}/0.png,{c}\n" for c in ("ant", "bee")))
    data = open_source(path)
    assert [row[:2] for row in rows_of(data)] == [("pets/ant/0.png", "ant"), ("pets/bee/0.png", "bee")]
    assert [e.name for e in data.exclusions] == ["pets/cow/0.png"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('{"file_name": "gone.png", "label": "a"}', "line 1 names 'gone.png', which is not in"),
        ('{"file_name": "../x.png", "label": "a"}', "leads out of the list's folder"),
        ('{"photo": "0000.png", "label": "a"}', "has no column 'file_name'"),
        ("[1, 2]", "no JSON object"),
        ("{", "not valid JSON"),
        ('{"file_name": "0000.png", "label": [1, [2]]}', "expected one name or one number, or a list"),
    ],
)
def test_bad_metadata_is_said(tmp_path, lines, says):
    folder = write_metadata(labelled_pngs(1), tmp_path / "m")
    write_text(folder / "metadata.jsonl", lines)
    with pytest.raises(DataError, match=says):
        open_source(folder)


def test_json_lines_as_a_list_of_their_own(tmp_path):
    rows = [{"image": f"{i}.png", "class": "ab"[i % 2], "camera": "x"} for i in range(4)]
    path = write_list(tmp_path / "pets.jsonl", "\n".join(map(json.dumps, rows)))
    data = open_source(path)
    assert (data.layout, data.why) == ("JSON lines of paths and labels", "it has the columns image and class")
    assert [row[:2] for row in rows_of(data)] == [("0.png", "a"), ("1.png", "b"), ("2.png", "a"), ("3.png", "b")]
    assert data.notes == ("columns: path from image, label from class",)


def test_a_list_with_images_elsewhere(tmp_path):
    write_folder(labelled_pngs(2), tmp_path / "photos")
    text = "image_id,species\n" + "".join(f"{c}/{i:03d},{c}\n" for c in ("ant", "bee", "cow") for i in range(2))
    path = write_text(tmp_path / "lists/birds.csv", text)
    with pytest.raises(DataError, match=r"lists 6 images, of which none is in .*lists. The first: .*--images DIR"):
        open_source(path)
    data = open_source(path, layout=DataLayout(images=(str(tmp_path / "photos"),)))
    assert [s.name for s in data.samples[:2]] == ["ant/000.png", "ant/001.png"]
    assert [s.source.parent.parent for s in data.samples] == [tmp_path / "photos"] * 6


def test_options_for_lists_are_refused_elsewhere(tmp_path):
    folder = write_folder(labelled_pngs(2), tmp_path / "pets")
    with pytest.raises(DataError, match="--label-column is for lists of images, and .*pets is"):
        open_source(folder, layout=DataLayout(label_column="x"))
