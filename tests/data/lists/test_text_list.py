import pytest
from containers import digest, labelled_pngs, write_folder, write_named, write_text

from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.lists.label_format import LabelFormat
from recog.data.lists.text_list import is_table, text_listing
from recog.data.sources import open_source

IMAGES = labelled_pngs(3)
NUMBERS = {"ant": 0, "bee": 1, "cow": 2}

LINES = {  # a line, with the name or the number of the class
    "name": "{path} {name}",
    "number": "{path} {number}",
    "tab": "{path}\t{number}",
    "comma": "{path}, {name}",
    "semicolon": "{path};{name}",
}


@pytest.mark.parametrize("form", LINES)
@pytest.mark.parametrize("folder", ["", "some images/"])
def test_it_is_the_data_of_class_folders(tmp_path, form, folder):
    expected = digest(open_source(write_folder(IMAGES, tmp_path / "folders")))
    paths = write_named(IMAGES, tmp_path / "list", folder + "{name}{i}.png")
    lines = [LINES[form].format(path=path, name=name, number=NUMBERS[name]) for (name, _), path in paths.items()]
    if "number" in LINES[form]:
        write_text(tmp_path / "list/classes.txt", "\n".join(NUMBERS))
    data = open_source(write_text(tmp_path / "list/val.txt", "# images\n\n" + "\r\n".join(lines)))
    assert digest(data) == expected
    assert data.layout == "text list of paths and labels"
    assert data.why.startswith(f"a path and a label a line, such as '{folder}ant0.png'")


def test_labels_of_several_words_and_paths_without_a_suffix(tmp_path):
    write_named(IMAGES, tmp_path)
    data = open_source(write_text(tmp_path / "list.txt", "ant0.png golden retriever\nbee1.png tabby cat\n"))
    assert data.class_names == ("golden retriever", "tabby cat")
    data = open_source(write_text(tmp_path / "list.txt", "ant0 ant\nbee1 bee\n"))
    assert [sample.name for sample in data.samples] == ["ant0.png", "bee1.png"]


def test_the_label_may_stand_in_the_path(tmp_path):
    write_named(IMAGES, tmp_path, "images/{name}/{i}.png")
    path = write_text(tmp_path / "train.txt", "".join(f"{name}/{i}\n" for name, i in IMAGES))
    with pytest.raises(DataError, match=r"line 1 is 'ant/0', a path without a label.*--label-pattern '{label}/{}'"):
        open_source(path)
    data = open_source(path, layout=DataLayout(label_pattern="{label}/{}"))
    assert digest(data) == digest(open_source(write_folder(IMAGES, tmp_path / "folders")))


def test_several_labels_need_a_separator(tmp_path):
    write_named(IMAGES, tmp_path)
    path = write_text(tmp_path / "list.txt", "ant0.png 1 5\nbee0.png 5\n")
    with pytest.raises(DataError, match="line 1 has several numbers after the path: 1 5.*--label-separator ' '"):
        open_source(path)
    data = open_source(path, labels=LabelFormat(separator=" "))
    assert (data.task, [s.labels for s in data.samples]) == ("multilabel", [(0, 1), (1,)])


def test_a_text_file_with_a_header_is_a_table(tmp_path):
    assert not is_table("a.png, cat\n")
    assert not is_table("a.png\tcat\n")
    assert is_table("path,label\na.png,cat\n")
    write_named(IMAGES, tmp_path)
    path = write_text(tmp_path / "list.txt", "image\tspecies\nant0.png\tant\nbee0.png\tbee\n")
    assert open_source(path).class_names == ("ant", "bee")
    with pytest.raises(DataError, match="--label-pattern is for .*is a table"):
        open_source(path, layout=DataLayout(label_pattern="{label}{number}.png"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty; expected lines of a path and a label"),
        ("\n# nothing\n", "is empty"),
        ("gone.png cat\n", "lists 1 images, of which none is in .*--images DIR"),
        ("../ant0.png cat\n", "leads out of the list's folder"),
        ("ant0.png cat\nbee0.png\n", r"1 of 2 images of x have no label.*bee0.png: no label \(line 2\)"),
        ("ant0.png cat\nant0.png dog\n", "line 2 gives 'ant0.png' the label 'dog', but line 1"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, text, says):
    write_named(IMAGES, tmp_path)
    with pytest.raises(DataError, match=says):
        open_source(write_text(tmp_path / "x.txt", text))


@pytest.mark.parametrize(
    ("labels", "layout", "says"),
    [
        (LabelFormat(columns=("a", "b")), DataLayout(), "Leave --label-columns out"),
        (LabelFormat(), DataLayout(label_column="x"), "--label-column is for .* a text list"),
    ],
)
def test_options_of_tables(labels, layout, says):
    with pytest.raises(DataError, match=says):
        text_listing("a.png cat", "x.txt", labels, layout)


def test_lists_named_as_splits_in_the_folder_of_the_images(tmp_path):
    paths = write_named(IMAGES, tmp_path / "pets", "all/{name}{i}.png")
    for split, numbers in (("train", (0, 1)), ("test", (2,))):
        lines = [f"{path} {name}" for (name, i), path in paths.items() if i in numbers]
        write_text(tmp_path / f"pets/{split}.txt", "\n".join(lines))
    data = open_source(tmp_path / "pets")
    assert (data.layout, data.why) == ("text list of paths and labels", "it holds test.txt, train.txt")
    for split, numbers in (("train", (0, 1)), ("test", (2,))):
        write_folder({image: IMAGES[image] for image in IMAGES if image[1] in numbers}, tmp_path / "folders" / split)
    assert digest(data) == digest(open_source(tmp_path / "folders"))


@pytest.mark.parametrize("text", ["a note\n", "", "gone.png cat\n", "ant/000.png\n"])
def test_other_text_files_in_a_folder_of_classes(tmp_path, text):
    root = write_folder(IMAGES, tmp_path)
    for split in ("train", "test"):
        write_text(root / f"{split}.txt", text)
    assert open_source(root).layout == "class folders"
