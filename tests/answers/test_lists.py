import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from answers.examples import write_images

from recog.answers.inputs import ListOptions, gather
from recog.answers.lists import open_container, read_list
from recog.answers.stream import Unusable
from recog.core.errors import BadImage, ConfigError, DataError
from recog.data.data_layout import DataLayout

MEMBERS = ["b/2.png", "b/10.png", "a.png"]


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_images(tmp_path, MEMBERS)


def pack(kind, *extra):
    path = f"photos.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in (*MEMBERS, *extra):
                archive.write(name)
    else:
        with tarfile.open(path, {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[kind]) as archive:
            for name in (*MEMBERS, *extra):
                archive.add(name)
    return path


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_the_images_of_an_archive_in_natural_order(images, kind):
    inputs = open_container(pack(kind))
    assert inputs.names == [f"photos.{kind}/{name}" for name in ["a.png", "b/2.png", "b/10.png"]]
    assert [source.read() for source in inputs.sources] == [images[i].read_bytes() for i in (2, 0, 1)]
    assert gather([f"photos.{kind}"]).names == inputs.names


def test_what_is_left_out_of_an_archive_is_noted(images):
    for name in ("notes.txt", ".hidden.png"):
        images[0].parent.parent.joinpath(name).write_bytes(b"x")
    inputs = open_container(pack("zip", "notes.txt", ".hidden.png"))
    assert len(inputs.names) == 3
    assert "left out 2 files (hidden or not an image): notes.txt and .hidden.png" in inputs.notes[-1]


@pytest.mark.parametrize(
    ("name", "data", "reason", "remedy"),
    [
        ("list.txt", b"a.png\n", "it is a text file", "--from"),
        ("photos.rar", b"Rar!\x1a\x07\x01\x00", "it is a RAR archive, which recog does not read. Unpack it", ""),
        ("photos.7z", b"7z\xbc\xaf\x27\x1c", "it is a 7z archive, which recog does not read. Unpack it", ""),
        ("cut.zip", b"PK\x03\x04" + b"\0" * 40, "", "Other inputs|Download it"),
    ],
)
def test_what_is_no_archive_says_what_to_do(images, tmp_path, name, data, reason, remedy):
    (tmp_path / name).write_bytes(data)
    (source,) = gather([name]).sources
    assert isinstance(source, Unusable)
    assert reason in source.error.reason
    assert any(word in source.error.remedy for word in remedy.split("|"))


def test_an_archive_without_images(images, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with zipfile.ZipFile("notes.zip", "w") as archive:
        archive.write("notes.txt")
    (source,) = open_container("notes.zip").sources
    assert source.error.reason == "this archive holds no image file"


@pytest.mark.parametrize(
    "data",
    [
        b"b/2.png\nb/10.png\na.png\n",
        b"b/2.png\r\nb/10.png\r\n\r\na.png",
        b"\xef\xbb\xbfb/2.png\nb/10.png\na.png",
        b"b/2.png\0b/10.png\0a.png\0",
    ],
    ids=["lines", "Windows", "byte order mark", "NUL, as find -print0 writes"],
)
def test_a_list_of_paths(images, tmp_path, data):
    (tmp_path / "list.txt").write_bytes(data)
    inputs = read_list("list.txt")
    assert inputs.names == inputs.sources == MEMBERS
    assert inputs.notes == ("list.txt: 3 paths",)


def test_paths_start_in_the_folder_of_the_list_else_in_the_current_one(images, tmp_path):
    (tmp_path / "b" / "list.txt").write_text("2.png\n10.png\n")
    inputs = read_list("b/list.txt")
    assert (inputs.names, inputs.sources) == (["2.png", "10.png"], ["b/2.png", "b/10.png"])
    assert inputs.notes == ("b/list.txt: 2 paths, relative to b",)
    (tmp_path / "b" / "list.txt").write_text("b/2.png\nb/10.png\n")
    inputs = read_list("b/list.txt")
    assert inputs.sources == ["b/2.png", "b/10.png"]
    assert inputs.notes == ("b/list.txt: 2 paths, relative to the current folder",)


def test_a_list_may_name_images_that_are_given_too(images, tmp_path):
    (tmp_path / "b" / "list.txt").write_text("2.png\n2.png\n")
    inputs = gather(["b/2.png"], list_file="b/list.txt")
    assert inputs.names == ["b/2.png"]
    assert "2 images named more than once" in inputs.notes[-1]


def test_a_list_from_standard_input_with_a_name_that_is_not_utf8(monkeypatch):
    monkeypatch.setattr(
        sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"caf\xe9.png\nb c.png\n"), isatty=lambda: False)
    )
    assert read_list("-").names == [os.fsdecode(b"caf\xe9.png"), "b c.png"]


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "names no image"), (b"\n \n", "names no image"), (b"\xff\xfea\0", "UTF-16"), (None, "it is|is an image")],
)
def test_what_is_no_list_is_refused(images, tmp_path, data, message):
    (tmp_path / "list.txt").write_bytes(images[0].read_bytes() if data is None else data)
    with pytest.raises(DataError, match=message):
        read_list("list.txt")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_list("absent.txt")


@pytest.mark.parametrize("name", ["list.arrow", "list.xlsx", "photos.ZIP"])
def test_other_lists_are_refused_by_their_names(images, name):
    with pytest.raises(DataError, match="is no list that predict reads; --from takes one path a line"):
        read_list(name)


def test_a_terminal_is_no_list(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(ConfigError, match="which is a terminal"):
        read_list("-")


@pytest.mark.parametrize("read", [open_container, read_list])
@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("list.csv", "path,label\nb/2.png,cat\na.png,\n", ["b/2.png", "a.png"]),
        ("list.tsv", "Image ID\tside\nb/2.png\tleft\na.png\t\n", ["b/2.png", "a.png"]),
        ("list.csv", "id,label\na,0\nb/10,0\n", ["a", "b/10"]),  # a sample submission
        ("list.csv", "b/2.png,cat\na.png,dog\n", ["b/2.png", "a.png"]),
    ],
    ids=["path", "another name", "without suffixes", "no header"],
)
def test_the_images_of_a_csv_by_its_column_of_paths(images, tmp_path, read, name, text, names):
    (tmp_path / name).write_text(text)
    inputs = read(name)
    assert inputs.names == names
    assert [os.path.exists(source) for source in inputs.sources] == [True, True]
    assert inputs.notes[0].startswith(f"{name}: 2 images, column ")


def test_images_of_a_csv_lie_beside_it_or_in_the_folders_that_are_named(images, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "test.csv").write_text("id\n2\n10\n")
    with pytest.raises(DataError, match="--images DIR"):
        gather(["lists/test.csv"])
    inputs = gather(["lists/test.csv"], ListOptions(images=("b",)))
    assert (inputs.names, inputs.sources) == (["2", "10"], ["b/2.png", "b/10.png"])


def test_a_row_without_its_image_keeps_its_place(images, tmp_path):
    (tmp_path / "list.csv").write_text("path\na.png\nA.PNG\n")
    inputs = open_container("list.csv")
    assert inputs.names == ["a.png", "A.PNG"]
    assert isinstance(inputs.sources[1], Unusable)  # as which --link takes it, too
    with pytest.raises(BadImage, match="there is no such file; the nearest is 'a.png'"):
        inputs.sources[1].read()


@pytest.mark.parametrize(
    ("text", "layout", "message"),
    [
        ("a,b\n1,2\n", DataLayout(), "--path-column COLUMN"),
        ("file,name\na.png,b/2.png\n", DataLayout(), "several columns that may be the path of an image: file, name"),
        ("path\n", DataLayout(), "it has a header only"),
        ("path\n../x.png\n", DataLayout(), "leads out of the list's folder"),
        ("caf\xe9\na.png\n", DataLayout(), "--encoding"),
    ],
)
def test_a_csv_that_cannot_be_understood_is_refused_with_the_option_that_helps(images, tmp_path, text, layout, message):
    (tmp_path / "list.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        open_container("list.csv", layout)


def test_the_column_and_encoding_that_are_named_are_taken(images, tmp_path):
    (tmp_path / "list.csv").write_bytes("file,name,caf\xe9\na.png,b/2.png,x\n".encode("latin-1"))
    layout = DataLayout(path_column="name", encoding="latin-1")
    assert open_container("list.csv", layout).names == ["b/2.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ListOptions(names="gbk"), "--names is for zip archives"),
        (ListOptions(names="no-such"), "no-such"),
        (ListOptions(path_column="x"), "--path-column is for lists with columns"),
        (ListOptions(images=("b",)), "--images is for lists with columns"),
        (ListOptions(encoding="latin-1"), "--encoding is for lists with columns"),
    ],
)
def test_options_without_use_are_refused(images, options, message):
    with pytest.raises(ConfigError, match=message):
        gather(["a.png"], options)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_path_in_an_archive(images, kind):
    archive = pack(kind)
    assert gather([f"{archive}/b"]).names == [f"{archive}/b/2.png", f"{archive}/b/10.png"]
    assert gather([f"./{archive}/b/"]).names == [f"{archive}/b/2.png", f"{archive}/b/10.png"]
    one = gather([f"{archive}/b/2.png"])
    assert (one.names, one.sources[0].read()) == ([f"{archive}/b/2.png"], images[0].read_bytes())


def test_a_path_that_an_archive_does_not_hold(images):
    archive = pack("zip")
    (near,) = gather([f"{archive}/b/3.png"]).sources
    assert (near.error.reason, near.error.remedy) == ("photos.zip has no such file or folder", "Did you mean '2.png'?")
    (far,) = gather([f"{archive}/elsewhere"]).sources
    assert far.error.remedy == "It has: b and a.png."
    (text,) = gather(["a.png/b"]).sources
    assert text.error.reason == "a.png is neither a folder nor an archive"


def test_images_of_several_splits_are_noted_with_the_way_to_take_one(images, tmp_path):
    names = ["kaggle/train/1.png", "kaggle/train/2.png", "kaggle/test/3.png"]
    write_images(tmp_path, names)
    with zipfile.ZipFile("k.zip", "w") as archive:
        for name in names:
            archive.write(name)
    note = (
        "{0} holds images of several splits, all of which are predicted: {1}test (1), {1}train (2). To predict one of them: "
        "{0}/{1}test"
    )
    assert note.format("k.zip", "kaggle/") in gather(["k.zip"]).notes
    assert note.format("kaggle", "") in gather(["kaggle"]).notes
    assert gather(["k.zip/kaggle/test"]).notes == gather(["kaggle/test"]).notes == ()
    assert gather(["k.zip/kaggle/test"]).names == ["k.zip/kaggle/test/3.png"]


def test_of_several_columns_of_paths_the_one_that_names_images(images):
    Path("list.csv").write_text("id,name,label\n1,a.png,x\n2,b/2.png,y\n")
    assert gather(["list.csv"]).names == ["a.png", "b/2.png"]


ROWS = '{"file_name": "a.png", "label": "x"}\n{"file_name": "b/2.png"}\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.jsonl", ROWS),
        ("list.json", f"[{ROWS.strip().replace(chr(10), ',')}]"),
        ("list.json", '["a.png", "b/2.png"]'),
        ("list.json", '{"a.png": "x", "b/2.png": "y"}'),
    ],
)
def test_a_list_as_json(images, name, text):
    Path(name).write_text(text)
    for inputs in (gather([name]), read_list(name)):
        assert inputs.names == ["a.png", "b/2.png"]
        assert [Path(source).name for source in inputs.sources] == ["a.png", "2.png"]


def test_a_list_as_parquet_and_a_table_that_holds_the_images(images):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image_path": ["a.png", "b/2.png"], "size": [1, 2]}), "list.parquet")
    assert gather(["list.parquet"]).names == read_list("list.parquet").names == ["a.png", "b/2.png"]
    with pytest.raises(DataError, match=r"the list absent\.parquet cannot be read"):
        read_list("absent.parquet")
    cells = [{"bytes": images[2].read_bytes(), "path": "a.png"}, {"bytes": None, "path": None}]
    pq.write_table(pa.table({"image": cells}), "images.parquet")
    inputs = gather(["images.parquet"])
    assert inputs.names == ["images.parquet/000000/a.png", "images.parquet/000001"]
    assert inputs.sources[0].read() == images[2].read_bytes()
    with pytest.raises(BadImage, match="this row holds no image"):
        inputs.sources[1].read()
