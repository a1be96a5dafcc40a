import pytest
from containers import digest, write_list, write_text

from recog.core.errors import DataError
from recog.data.lists.label_format import LabelFormat
from recog.data.lists.list_reader import ListReader
from recog.data.lists.rows import Row
from recog.data.lists.tables import read_list
from recog.data.sources import open_source


def reader_of(*rows):
    reader = ListReader(name="pets", where="x.csv")
    for number, (path, *labels) in enumerate(rows):
        reader.add(Row(f"x.csv, line {number + 2}", path, tuple(labels) or None), path, f"root/{path}")
    return reader


def test_rows_become_samples_with_classes_in_natural_order():
    data = reader_of(("b/1.png", "dog 10"), ("a/2.png", "dog 9"), ("a/3.png",)).dataset(layout="list", why="columns")
    assert data.class_names == ("dog 9", "dog 10")
    assert [(s.name, s.label, s.subfolder) for s in data.samples] == [("b/1.png", 1, "b"), ("a/2.png", 0, "a")]
    assert [(e.name, e.reason) for e in data.exclusions] == [("a/3.png", "no label (line 4)")]


def test_a_row_may_repeat_but_not_with_another_label():
    assert reader_of(("1.png", "a"), ("1.png", "a")).exclusions[0].reason == "listed again (line 3)"
    with pytest.raises(DataError, match="line 3 gives '1.png' the label 'b', but line 2 gives it 'a'"):
        reader_of(("1.png", "a"), ("1.png", "b")).dataset(layout="list", why="columns")


@pytest.mark.parametrize("cells", [("0", "1"), ("0.0", "1.0"), ("00", "01")])
def test_numbers_are_named_by_a_file_beside_the_list(tmp_path, cells):
    write_text(tmp_path / "classes.txt", "ant\nbee\ncow\n")
    data = read_list(write_list(tmp_path / "x.csv", f"path,label\n1.png,{cells[0]}\n2.png,{cells[1]}\n"))
    assert data.class_names == ("ant", "bee")
    assert data.notes[-1] == "class names from classes.txt, numbered from 0"


def test_names_are_not_numbered(tmp_path):
    write_text(tmp_path / "classes.txt", "x\ny\n")
    data = read_list(write_list(tmp_path / "x.csv", "path,label\n1.png,ant\n2.png,1\n"))
    assert data.class_names == ("1", "ant")


ROWS = "image,label\n" + "".join(
    f"{i}.png,{label}\n" for i, label in [(1, "a"), (1, "b"), (2, "b"), (3, "b"), (3, "c")]
)


def test_a_row_per_label_is_joined_to_labels_of_an_image(tmp_path):
    data = open_source(write_list(tmp_path / "x.csv", ROWS))
    assert (data.task, [s.labels for s in data.samples]) == ("multilabel", [(0, 1), (1,), (1, 2)])
    assert "2 of 3 images stand in several rows with different labels: any number of labels an image" in data.notes
    joined = open_source(
        write_list(tmp_path / "y.csv", "image,label\n1.png,a|b\n2.png,b\n3.png,b|c\n"),
        labels=LabelFormat(separator="|"),
    )
    assert digest(data) == digest(joined)


def test_few_images_with_several_labels_are_a_contradiction_unless_the_task_is_stated(tmp_path):
    path = write_list(
        tmp_path / "x.csv", "image,label\n1.png,a\n1.png,b\n" + "".join(f"{i}.png,a\n" for i in range(2, 9))
    )
    with pytest.raises(
        DataError, match="line 3 gives '1.png' the label 'b', but line 2 gives it 'a'.*--task multilabel"
    ):
        open_source(path)
    assert open_source(path, labels=LabelFormat(task="multilabel")).samples[0].labels == (0, 1)
    path = write_list(tmp_path / "x.csv", ROWS)
    with pytest.raises(DataError, match="line 3 gives '1.png' the label 'b'"):
        open_source(path, labels=LabelFormat(task="multiclass"))


def test_rows_per_label_keep_one_split_an_image(tmp_path):
    rows = "image,label,split\n1.png,a,train\n1.png,b,test\n2.png,a,train\n2.png,b,train\n"
    with pytest.raises(DataError, match="One image has one label and one split"):
        open_source(write_list(tmp_path / "x.csv", rows))


def test_a_list_of_one_label_an_image_may_be_stated_as_multilabel(tmp_path):
    """As the test images of a bundle whose training list had a row per label."""
    data = open_source(
        write_list(tmp_path / "x.csv", "image,label\n1.png,a\n2.png,b\n"), labels=LabelFormat(task="multilabel")
    )
    assert (data.task, [s.labels for s in data.samples]) == ("multilabel", [(0,), (1,)])
    joined = write_list(tmp_path / "y.csv", "image,label\n1.png,a|b\n2.png,b|a\n3.png,a\n")
    assert "--label-separator '|'" in open_source(joined, labels=LabelFormat(task="multilabel")).notes[-1]
