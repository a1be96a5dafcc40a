"""Exports of Label Studio 1.x: its JSON, JSON-MIN and CSV give the same rows."""

import csv
import io
import json

import pytest
from containers import write_text

from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.lists.exports.label_studio import is_label_studio, label_studio_listing
from recog.data.sources import open_source


def choice(labels, control="choice"):
    return {"value": {"choices": list(labels)}, "from_name": control, "to_name": "image", "type": "choices"}


def task(number, *results, name=None, cancelled=False):
    path = f"/data/upload/3/{number:08x}-{name or number}.png"
    annotation = {"id": number, "result": list(results), "was_cancelled": cancelled}
    return {
        "id": number,
        "annotations": [annotation] if results else [],
        "data": {"image": path},
        "file_upload": path[15:],
    }


def rows(document, **options):
    return [
        (row.where, row.path, row.labels, row.task == "multilabel")
        for row in label_studio_listing(document, "x.json", **options).rows
    ]


def test_a_row_per_task_with_a_choice():
    document = [
        task(1, choice(["cat"])),
        task(2, choice(["cat", "dog"])),
        task(3),
        task(4, choice(["dog"]), cancelled=True),
    ]
    assert is_label_studio(document)
    assert rows(document) == [
        ("x.json, task 1", "/data/upload/3/00000001-1.png", ("cat",), False),
        ("x.json, task 2", "/data/upload/3/00000002-2.png", ("cat", "dog"), True),
    ]
    found = label_studio_listing(document, "x.json")
    assert found.notes == ["tasks without a choice are left aside: 2, such as '/data/upload/3/00000003-3.png'"]
    assert found.why == "4 tasks with choices of the control 'choice'"


def test_boxes_are_counted_and_controls_may_be_named():
    box = {
        "value": {"x": 1, "rectanglelabels": ["cat"]},
        "from_name": "box",
        "to_name": "image",
        "type": "rectanglelabels",
    }
    document = [task(1, choice(["cat"]), box, choice(["sharp"], "quality"))]
    with pytest.raises(
        DataError, match="choices of several controls: choice, quality. Name one: --label-column choice"
    ):
        label_studio_listing(document, "x.json")
    assert rows(document, wanted="quality")[0][2] == ("sharp",)
    assert label_studio_listing(document, "x.json", "choice").notes == [
        "results that are no choices, such as boxes, are not used: 1"
    ]
    with pytest.raises(DataError, match="no choices 'breed', which --label-column names; it has: choice, quality"):
        label_studio_listing(document, "x.json", "breed")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([task(1, {"value": {"rectanglelabels": ["cat"]}})], "without choices"),
        ([{**task(1, choice(["a"])), "data": {"a": "1.png", "b": "2.png"}}], "which of its data is the image: a, b"),
        ([task(1, choice(["a"]), choice(["b"]))], "task 1 has annotations that differ: a and b"),
    ],
)
def test_what_cannot_be_read_is_said(document, says):
    with pytest.raises(DataError, match=says):
        label_studio_listing(document, "x.json")


def test_other_lists_are_none():
    assert not is_label_studio([])
    assert not is_label_studio([{"image": "1.png", "label": "a"}])
    assert not is_label_studio([1])


LABELS = {1: ["cat"], 2: ["dog"], 3: ["cat"], 4: ["dog"]}
SEVERAL = {**LABELS, 2: ["dog", "cat"]}


def as_json(labels):
    return json.dumps([task(number, choice(names), name="abcd"[number - 1]) for number, names in labels.items()])


def minimal(labels):
    for number, names in labels.items():
        value = names[0] if len(names) == 1 else {"choices": names}
        path = f"/data/upload/3/{number:08x}-{'abcd'[number - 1]}.png"
        yield {"image": path, "id": number, "choice": value, "annotator": 1, "annotation_id": number, "lead_time": 1.5}


def as_csv(labels):
    file = io.StringIO()
    writer = csv.DictWriter(file, ["annotation_id", "annotator", "choice", "id", "image", "lead_time"])
    writer.writeheader()
    for row in minimal(labels):
        cell = row["choice"]
        writer.writerow({**row, "choice": cell if isinstance(cell, str) else json.dumps(cell)})
    return file.getvalue()


@pytest.mark.parametrize("labels", [LABELS, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize(
    ("name", "write"),
    [("x.json", as_json), ("x.json", lambda labels: json.dumps(list(minimal(labels)))), ("x.csv", as_csv)],
)
def test_the_three_exports(tmp_path, name, write, labels):
    for stem in "abcd":
        write_text(tmp_path / "images" / f"{stem}.png", "")
    path = write_text(tmp_path / name, write(labels))
    for source in (path, tmp_path):
        data = open_source(source)
        assert data.task == ("multiclass" if labels is LABELS else "multilabel")
        expected = [(f"images/{'abcd'[n - 1]}.png", {*names}) for n, names in labels.items()]
        assert [(s.name, {data.class_names[k] for k in s.labels}) for s in data.samples] == expected
        assert any("paths of Label Studio matched by the file's name" in note for note in data.notes)


def test_options_that_an_export_has_no_use_for(tmp_path):
    path = write_text(tmp_path / "x.json", as_json(LABELS))
    with pytest.raises(
        DataError, match="--path-column is for lists of images, and .*x.json is an export of Label Studio"
    ):
        open_source(path, layout=DataLayout(path_column="image"))
