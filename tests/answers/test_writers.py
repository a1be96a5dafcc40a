import csv
import io
import json
import os

import pytest
from answers.examples import ANIMALS, answer, bad, prediction, predictor

from recog.answers.columns import default_columns, parse_columns
from recog.answers.writers import AnswerLayout, CsvWriter, JsonWriter, answer_file, check_output
from recog.core.errors import ConfigError, DataError, DiskError

NOT_UTF8 = os.fsdecode(b"caf\xe9.png")
ANSWERS = [
    answer("=1+1.png", prediction([0.7, 0.1, 0.2], in_set=[1, 1, 0])),
    answer("\x1b[31m\u202eb.png", prediction([0.1, 0.7, 0.2], in_set=[1, 1, 0])),
    answer(NOT_UTF8, prediction([0.1, 0.2, 0.7], in_set=[0, 0, 1])),
    bad("d.png"),
]


def layout(columns="", *, task="multiclass", top=1, sets=False, raw=False):
    model = predictor(task)
    found = (
        parse_columns(columns, model, sets=sets, reject=False)
        if columns
        else default_columns(model, top=top, sets=sets)
    )
    return AnswerLayout(columns=found, is_nested=not columns, top=top, sets=sets, raw=raw)


def write(path, given, answers=ANSWERS):
    with answer_file(path, given) as writer:
        for item in answers:
            writer.add(item)
    return path


def test_csv(tmp_path):
    rows = list(csv.reader(write(tmp_path / "a.csv", layout(sets=True)).open(encoding="utf-8", newline="")))
    assert rows == [
        ["file", "label", "confidence", "label_set", "error"],
        ["'=1+1.png", "cat", "0.700000", "cat | =dog", ""],
        ["\\x1b[31m\\u202eb.png", "'=dog", "0.700000", "'=dog | cat", ""],
        ["caf\\udce9.png", "eel", "0.700000", "eel", ""],
        ["d.png", "", "", "", "truncated"],
    ]


def test_raw_csv_has_the_cells_as_they_are(tmp_path):
    rows = list(csv.reader(write(tmp_path / "a.csv", layout("file,label", raw=True)).open(encoding="utf-8")))
    assert rows[1:3] == [["=1+1.png", "cat"], ["\\x1b[31m\\u202eb.png", "=dog"]]


def test_several_labels_in_csv(tmp_path):
    item = answer("a.png", prediction([0.7, 0.1, 0.6], preds=[1, 0, 1], task="multilabel"))
    text = write(tmp_path / "a.csv", layout(task="multilabel"), [item, bad("b.png")]).read_text(encoding="utf-8")
    assert text.splitlines() == [
        "file,labels,prob_cat,prob_=dog,prob_eel,error",
        "a.png,cat | eel,0.700000,0.100000,0.600000,",
        "b.png,,,,,truncated",
    ]


def test_json_keeps_every_name_exactly(tmp_path):
    path = write(tmp_path / "a.json", layout(top=2))
    rows = json.loads(path.read_bytes())
    assert [row["file"] for row in rows] == [item.name for item in ANSWERS]
    assert rows[0] == {
        "file": "=1+1.png",
        "label": "cat",
        "confidence": 0.7,
        "top": [{"label": "cat", "prob": 0.7}, {"label": "eel", "prob": 0.2}],
    }
    assert rows[3] == {"file": "d.png", "error": "truncated", "remedy": "Replace it."}
    assert b"\x1b" not in path.read_bytes()
    assert json.loads(write(tmp_path / "none.json", layout(), []).read_bytes()) == []


def test_json_has_sets_and_changed_labels_only_where_asked():
    unsure = answer("a", prediction([0.7, 0.1, 0.2], in_set=[1, 0, 0]), labels=("unsure",))
    assert layout(sets=True).record(unsure)["label_set"] == ["cat"]
    assert "label_set" not in layout().record(unsure)
    assert layout().record(unsure)["label"] == "unsure"
    assert layout().record(unsure)["top"] == [{"label": "cat", "prob": 0.7}]
    assert layout("id,probs").record(unsure) == {"id": "a", "cat": 0.7, "=dog": 0.1, "eel": 0.2}


def test_json_of_standard_output_is_ascii_and_equals_that_of_a_list():
    text = io.StringIO()
    writer = JsonWriter(text, layout(), ascii_only=True)
    for item in ANSWERS:
        writer.add(item)
    writer.close()
    expected = json.dumps([layout().record(item) for item in ANSWERS], indent=2)
    assert text.getvalue() == expected + "\n"
    assert text.getvalue().isascii()


def test_json_lines_have_one_object_per_line(tmp_path):
    lines = write(tmp_path / "a.jsonl", layout("id,label,error")).read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["label"] for line in lines[:-1]] == ["cat", "=dog", "eel", None]
    assert lines[-1] == ""


def test_parquet_has_typed_columns(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("recog.answers.writers._ROWS_OF_GROUP", 3)  # two groups of rows
    table = parquet.read_table(write(tmp_path / "a.parquet", layout(sets=True)))
    assert [str(kind) for kind in table.schema.types] == [
        "string",
        "string",
        "double",
        "list<element: string>",
        "string",
    ]
    assert table.column("label_set").to_pylist() == [["cat", "=dog"], ["=dog", "cat"], ["eel"], None]
    assert table.column("confidence").to_pylist() == [0.7, 0.7, 0.7, None]
    assert table.column("file").to_pylist()[:3] == ["=1+1.png", "\\x1b[31m\\u202eb.png", "caf\\udce9.png"]
    assert parquet.read_table(write(tmp_path / "none.parquet", layout("id"), [])).num_rows == 0


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_an_interrupted_file_vanishes(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    writing = answer_file(tmp_path / f"a{suffix}", layout())
    writing.__enter__().add(ANSWERS[0])
    assert len(list(tmp_path.iterdir())) == 1
    assert not writing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(DataError, match="exists already"), answer_file(path, layout()):
        path.write_text("mine")
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]
    assert path.read_text() == "mine"


def test_a_folder_for_the_file_is_made(tmp_path):
    assert write(tmp_path / "new" / "a.csv", layout()).is_file()


def test_names_of_output_are_checked_before_the_work(tmp_path):
    check_output(tmp_path / "new" / "A.CSV")
    for name in ("answers", "a.txt", "-", "/dev/stdout", "a.xlsx"):
        with pytest.raises(ConfigError, match="has to end with .csv, .json, .jsonl or .parquet"):
            check_output(tmp_path / name)
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(DataError, match="exists already; nothing was written"):
        check_output(tmp_path / "a.csv")
    with pytest.raises(DiskError, match="is not a folder"):
        check_output(tmp_path / "a.csv" / "b.csv")


def test_a_csv_writer_prints_its_header_at_once():
    text = io.StringIO()
    CsvWriter(text, layout("id,probs"))
    assert text.getvalue() == f"id,cat,'=dog,{ANIMALS[2]}\n"
