import pytest
from containers import digest, labelled_pngs, write_list, write_text

from recog.core.errors import ConfigError, DataError
from recog.data.lists.label_format import (
    LabelFormat,
    bit_text,
    check_same_columns,
    find_label_columns,
    joined_label_notes,
    labels_of_bits,
)
from recog.data.lists.tables import read_list
from recog.data.sources import open_source

BARS = LabelFormat(separator="|")


def sets_of(dataset):
    return [(s.name, {dataset.class_names[k] for k in s.labels}) for s in dataset.samples]


@pytest.mark.parametrize(
    ("separator", "cell", "labels"),
    [
        ("|", "cat|dog", ("cat", "dog")),
        ("|", " cat | dog |", ("cat", "dog")),
        ("|", "dog|cat|dog", ("dog", "cat")),
        ("|", "", ()),
        ("|", "NaN|null", ("NaN", "null")),
        (" ", "clear  primary", ("clear", "primary")),
        (", ", "cat, dog", ("cat", "dog")),
        ("", "cat|dog", ("cat|dog",)),
        ("", "", None),
        *(("", name, (name,)) for name in ("null", "NaN", "None", "NA", "<NA>", "nan")),  # names that a class may have
    ],
)
def test_the_labels_of_a_cell(separator, cell, labels):
    assert LabelFormat(separator=separator).labels_in(cell) == labels


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"separator": "|", "columns": ("a", "b")}, "exclude each other"),
        ({"separator": '"'}, "without quotes"),
        ({"separator": "\n"}, "line breaks"),
        ({"columns": ("a", "a")}, "name one twice"),
    ],
)
def test_a_format_that_cannot_be_is_refused(fields, says):
    with pytest.raises(ConfigError, match=says):
        LabelFormat(**fields)


ROWS = [("line 2", ["1.png", "1", "0", "7"]), ("line 3", ["2.png", "0.0", "1.0", "1"])]


def test_columns_of_0_and_1_are_found_by_what_they_hold():
    header = ["path", "cat", "dog", "size"]
    found = find_label_columns(header, ROWS, where="x", reserved=frozenset({"path"}), wanted=())
    assert found == {"cat": 1, "dog": 2}
    assert [labels_of_bits(cells, found) for _, cells in ROWS] == [("cat",), ("dog",)]
    assert find_label_columns(header, ROWS, where="x", reserved=frozenset({"path", "cat"}), wanted=()) == {}  # one only
    assert find_label_columns(header, [], where="x", reserved=frozenset(), wanted=()) == {}


def test_a_cell_of_json_or_parquet_as_a_csv_has_it():
    assert [bit_text(cell) for cell in (True, False, 1, 0.0, None, "x", [1])] == ["1", "0", "1", "0.0", "", "x", "[1]"]


def test_files_of_one_dataset_have_the_same_label_columns():
    check_same_columns([("a", ("cat", "dog")), ("b", ("dog", "cat"))])
    with pytest.raises(DataError, match=r"b has as columns of 0 and 1 cat, but a has cat, dog\. Name those"):
        check_same_columns([("a", ("cat", "dog")), ("b", ("cat",))])


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (("cats",), "x.csv has no label column 'cats'; it has: path, cat, dog, size. Did you mean 'cat'"),
        (("size",), "line 2 has '7' in .* 'size'; expected 0 or 1. Correct it"),
    ],
)
def test_columns_that_were_named_must_be_there_and_hold_0_and_1(wanted, says):
    with pytest.raises(DataError, match=says):
        find_label_columns(["path", "cat", "dog", "size"], ROWS, where="x.csv", reserved=frozenset(), wanted=wanted)


class TestCsv:
    def test_labels_joined_by_a_separator(self, tmp_path):
        text = "path,label,split\n1.png,cat|dog,train\n2.png,,train\n3.png,eel,test\n4.png,nan,train\n"
        data = read_list(write_list(tmp_path / "x.csv", text), BARS)
        assert (data.task, data.class_names) == ("multilabel", ("cat", "dog", "eel", "nan"))
        assert sets_of(data) == [("1.png", {"cat", "dog"}), ("2.png", set()), ("3.png", {"eel"}), ("4.png", {"nan"})]
        assert data.exclusions == ()

    def test_a_column_may_be_called_labels_then(self, tmp_path):
        data = read_list(write_list(tmp_path / "x.csv", "path,labels\n1.png,b a\n"), LabelFormat(separator=" "))
        assert sets_of(data) == [("1.png", {"a", "b"})]

    def test_numbers_that_pandas_wrote_are_mended_label_by_label(self, tmp_path):
        data = read_list(write_list(tmp_path / "x.csv", "path,label\n1.png,1.0|10\n2.png,2\n"), BARS)
        assert data.class_names == ("1", "2", "10")

    def test_columns_of_0_and_1_name_the_labels_in_natural_order_and_keep_their_case(self, tmp_path):
        text = "Path,split,Dog 10,Dog 2,width\n1.png,train,1,1,640\n2.png,val,0,0,480\n"
        data = read_list(write_list(tmp_path / "x.csv", text))
        assert (data.task, data.class_names) == ("multilabel", ("Dog 2", "Dog 10"))
        assert [(s.labels, s.split) for s in data.samples] == [((0, 1), "train"), ((), "val")]
        assert data.notes == ("labels are the 2 columns Dog 10, Dog 2; no labels: width",)

    def test_of_several_such_columns_the_user_may_name_the_labels(self, tmp_path):
        path = write_list(tmp_path / "x.csv", "path,cat,dog,night\n1.png,1,0,1\n")
        assert read_list(path).class_names == ("cat", "dog", "night")
        assert read_list(path, LabelFormat(columns=("dog", "cat"))).class_names == ("cat", "dog")

    @pytest.mark.parametrize("text", ["path,cat,dog\n1.png,1,maybe\n", "path,cat\n1.png,1\n", "path,cat,dog\n"])
    def test_fewer_than_two_such_columns_are_no_labels(self, tmp_path, text):
        with pytest.raises(DataError, match=r"no column 'label'.* columns of 0 and 1"):
            read_list(write_list(tmp_path / "x.csv", text))

    def test_a_label_column_stands_before_columns_of_0_and_1(self, tmp_path):
        data = read_list(write_list(tmp_path / "x.csv", "path,label,night,rain\n1.png,cat,0,1\n"))
        assert (data.task, data.class_names) == ("multiclass", ("cat",))

    def test_one_row_per_label_is_refused_with_the_way_out(self, tmp_path):
        with pytest.raises(DataError, match=r"the label 'dog', but line 2 gives it 'cat'.*Join the labels"):
            read_list(write_list(tmp_path / "x.csv", "path,label\n1.png,cat\n1.png,dog\n"), BARS)

    def test_no_label_anywhere_is_nothing_to_learn(self, tmp_path):
        with pytest.raises(DataError, match="has a label; there is nothing to learn"):
            read_list(write_list(tmp_path / "x.csv", "path,label\n1.png,\n"), BARS)


def test_class_folders_have_no_separator(tmp_path):
    from containers import labelled_pngs, write_folder

    with pytest.raises(DataError, match="in which an image has one label"):
        open_source(write_folder(labelled_pngs(1), tmp_path / "d"), labels=BARS)


def test_a_label_that_train_lacks_is_an_error_and_one_that_test_lacks_is_not(tmp_path):
    text = "path,label,split\n1.png,cat,train\n2.png,cat|dog,{}\n3.png,,{}\n"
    with pytest.raises(DataError, match="split 'train' .* lacks 1 of 2 classes: dog"):
        open_source(write_list(tmp_path / "a.csv", text.format("test", "train")), labels=BARS)
    assert open_source(write_list(tmp_path / "b.csv", text.format("train", "test")), labels=BARS).task == "multilabel"


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_metadata_with_several_labels(tmp_path, name):
    from containers import labelled_pngs, write_folder

    folder = write_folder(labelled_pngs(3, classes=("x",)), tmp_path)
    tables = {
        "metadata.csv": "file_name,labels\nx/000.png,cat|dog\nx/001.png,\nx/002.png,cat\n",
        "metadata.jsonl": '{"file_name": "x/000.png", "labels": ["dog", "cat"]}\n{"file_name": "x/001.png", "labels": []}\n'
        '{"file_name": "x/002.png", "labels": ["cat"]}\n',
    }
    write_text(folder / name, tables[name])
    data = open_source(folder, labels=BARS if name.endswith(".csv") else LabelFormat())
    assert data.task == "multilabel"
    assert sets_of(data) == [("x/000.png", {"cat", "dog"}), ("x/001.png", set()), ("x/002.png", {"cat"})]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_metadata_with_columns_of_0_and_1(tmp_path, name):
    from containers import labelled_pngs, write_folder

    def row(path, cat, dog):
        csv, line = f"{path},{cat},{dog}\n", f'{{"file_name": "{path}", "cat": {cat}, "dog": {dog}}}\n'
        return csv if name.endswith("csv") else line

    head = "file_name,cat,dog\n" if name.endswith("csv") else ""
    folder = write_folder(labelled_pngs(2, classes=("train", "test")), tmp_path)
    write_text(folder / "train" / name, head + row("000.png", 1, 1) + row("001.png", 0, 0))
    write_text(folder / "test" / name, head + row("000.png", 1, 0) + row("001.png", 0, 0))
    data = open_source(folder)  # no image of test shows a dog, and it is a label all the same
    assert (data.task, data.class_names) == ("multilabel", ("cat", "dog"))
    assert sorted(sets_of(data)) == [
        ("test/000.png", {"cat"}),
        ("test/001.png", set()),
        ("train/000.png", {"cat", "dog"}),
        ("train/001.png", set()),
    ]
    assert data.notes == ("labels are the 2 columns cat, dog",)
    write_text(folder / "test" / name, head + row("000.png", 1, 5) + row("001.png", 0, 0))
    with pytest.raises(DataError, match="has no column 'label'"):
        open_source(folder)


ONE_HOT = "path,cat,dog,eel\n1.png,1,0,0\n2.png,0,1.0,0\n3.png,0,0,1\n4.png,1,0,0\n"


class TestOneHotColumns:
    def test_they_are_one_label_an_image_with_a_note(self, tmp_path):
        data = open_source(write_list(tmp_path / "x.csv", ONE_HOT))
        assert (data.task, [s.label for s in data.samples]) == ("multiclass", [0, 1, 2, 0])
        assert data.notes[-1].startswith("every image has exactly one label, so there is one class per image; --task")
        plain = open_source(write_list(tmp_path / "y.csv", "path,label\n1.png,cat\n2.png,dog\n3.png,eel\n4.png,cat\n"))
        assert digest(data) == digest(plain)

    @pytest.mark.parametrize("columns", [(), ("cat", "dog", "eel")])
    def test_the_user_decides(self, tmp_path, columns):
        path = write_list(tmp_path / "x.csv", ONE_HOT)
        for task in ("multiclass", "multilabel"):
            data = open_source(path, labels=LabelFormat(columns=columns, task=task))
            assert (data.task, [s.labels for s in data.samples]) == (task, [(0,), (1,), (2,), (0,)])
            assert not any("--task" in note for note in data.notes)

    def test_a_row_with_none_or_two_is_several_labels(self, tmp_path):
        path = write_list(tmp_path / "x.csv", ONE_HOT + "5.png,0,0,0\n")
        assert open_source(path).task == "multilabel"
        with pytest.raises(DataError, match="none to several labels an image; expected exactly one"):
            open_source(path, labels=LabelFormat(task="multiclass"))

    def test_parquet(self, tmp_path):
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        png = labelled_pngs(1)["ant", 0]
        columns = {"image": [{"bytes": png, "path": f"{i}.png"} for i in range(2)], "cat": [1, 0], "dog": [0, 1]}
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
        data = open_source(tmp_path / "x.parquet")
        assert (data.task, [s.label for s in data.samples]) == ("multiclass", [0, 1])

    def test_lists_of_one_label_are_one_label_an_image_unless_the_user_decides(self, tmp_path):
        rows = '{"path": "1.png", "label": ["a"]}\n{"path": "2.png", "label": ["b"]}\n'
        path = write_list(tmp_path / "x.jsonl", rows)
        data = open_source(path)
        assert (data.task, [s.label for s in data.samples]) == ("multiclass", [0, 1])
        assert "--task multilabel" in data.notes[-1]
        assert open_source(path, labels=LabelFormat(task="multilabel")).task == "multilabel"
        several = write_list(tmp_path / "y.jsonl", rows + '{"path": "3.png", "label": ["a", "b"]}\n')
        assert open_source(several).task == "multilabel"
        joined = write_list(tmp_path / "z.csv", "path,label\n1.png,a\n2.png,b\n")
        assert open_source(joined, labels=LabelFormat(separator="|")).task == "multilabel"


JOINED = [  # different labels, the separator that is hinted at
    (["a", "b", "a|b"], None),  # one alone may be a name
    (["a|b", "b|c", "a|c", "a|b|c"], "|"),
    (["cat;dog", "dog", "cat", "dog;cat"], ";"),
    (["haze primary", "clear primary", "haze water", "clear water", "haze", "clear primary water"], " "),
    (["golden retriever", "labrador retriever", "flat retriever"], None),
    (["red car", "blue car", "red bus", "blue bus"], None),
    (["tench, Tinca tinca", "goldfish, Carassius auratus"], None),
    (["['a', 'b']", "['a']"], ","),
    (["cat", "dog"], None),
    ([], None),
]


@pytest.mark.parametrize(("labels", "sign"), JOINED)
def test_joined_labels_are_hinted_at(labels, sign):
    notes = joined_label_notes(labels)
    assert [note.rpartition("if they are: ")[2] for note in notes] == ([f"--label-separator '{sign}'"] if sign else [])


def test_the_hint_works(tmp_path):
    cells = ["\"['a', 'b']\"", "\"['a']\"", '"[""c, d"", \'b\']"', "[]"]
    path = write_list(tmp_path / "x.csv", "path,label\n" + "".join(f"{i}.png,{cell}\n" for i, cell in enumerate(cells)))
    assert "--label-separator ','" in open_source(path).notes[-1]
    data = open_source(path, labels=LabelFormat(separator=","))
    assert sets_of(data)[:2] == [("0.png", {"a", "b"}), ("1.png", {"a"})]
    assert sets_of(data)[3] == ("3.png", set())
