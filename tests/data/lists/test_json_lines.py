import json

import pytest

from recog.core.errors import DataError
from recog.data.lists.json_lines import json_listing
from recog.data.lists.label_format import AS_FOUND, LabelFormat


def listing(*rows, labels=AS_FOUND):
    return json_listing("\n".join(json.dumps(row) for row in rows), "metadata.jsonl", labels)


def test_one_label_or_a_list_and_further_keys():
    found = listing(
        {"file_name": "1.png", "label": "cat", "camera": "a", "group": 7, "split": "train"},
        {"file_name": "2.png", "labels": ["dog", "cat"], "iso": 100, "boxes": [1]},
        {"file_name": "3.png", "label": None},
    )
    rows = list(found.rows)
    assert [(r.where, r.path) for r in rows] == [(f"metadata.jsonl, line {i}", f"{i}.png") for i in (1, 2, 3)]
    assert [(r.labels, r.task == "multilabel") for r in rows] == [
        (("cat",), False),
        (("dog", "cat"), True),
        (None, False),
    ]
    assert [(r.split, r.group) for r in rows] == [("train", "7"), (None, None), (None, None)]
    assert [r.columns for r in rows] == [(("camera", "a"),), (("iso", "100"),), ()]
    assert (found.label_columns, found.notes) == ((), [])


def test_keys_of_0_and_1_are_recognised_where_no_row_has_a_label():
    rows = (
        {"file_name": "1.png", "cat": 1, "dog": False, "iso": 100, "split": "train"},
        {"iso": 1, "dog": True, "cat": 1.0, "file_name": "2.png", "split": "val"},
        {"file_name": "3.png", "cat": 0, "dog": 0, "split": "val"},
    )
    found = listing(*rows)
    assert found.label_columns == ("cat", "dog")
    assert found.notes == ["labels are the 2 columns cat, dog; no labels: iso"]
    assert [(r.labels, r.task == "multilabel", r.split, r.columns) for r in found.rows] == [
        (("cat",), True, "train", (("iso", "100"),)),
        (("cat", "dog"), True, "val", (("iso", "1"),)),
        ((), True, "val", ()),
    ]
    with pytest.raises(DataError, match="line 1 has no 'label', which other lines have; it has: file_name, cat"):
        list(listing(*rows, {"file_name": "4.png", "label": "cat"}).rows)


def test_named_keys_stand_before_a_label_and_must_hold_0_or_1():
    row = {"file_name": "1.png", "label": "x", "cat": 0, "dog": 1}
    found = listing(row, labels=LabelFormat(columns=("dog",)))
    assert [(r.labels, r.columns) for r in found.rows] == [(("dog",), (("label", "x"), ("cat", "0")))]
    with pytest.raises(DataError, match="line 2 has '' in the label column 'dog'; expected 0 or 1"):
        listing(row, {"file_name": "2.png"}, labels=LabelFormat(columns=("dog",)))
    with pytest.raises(DataError, match="has no label column 'cow'; it has: file_name, label, cat, dog"):
        listing(row, labels=LabelFormat(columns=("cow",)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1 is not valid JSON"),
        ("[1]", "line 1 is no JSON object"),
        ('\n{"file_name": "1.png", "label": [[1]]}', "line 2 has the label"),
        ('{"label": "a"}', "m.*jsonl has no column 'file_name'"),
    ],
)
def test_lines_that_cannot_be_used(text, says):
    with pytest.raises(DataError, match=says):
        list(json_listing(text, "metadata.jsonl", AS_FOUND).rows)


def test_only_a_line_feed_ends_a_line():
    # U+2028, U+2029 and U+0085 may stand in a JSON string (RFC 8259, section 7); str.splitlines() ends lines there
    first = '{"file_name": "a.png", "label": "a", "caption": "one\u2028two\u0085three"}'
    text = first + '\r\n{"file_name": "b.png", "label": "null"}\n'
    rows = list(json_listing(text, "m.jsonl", LabelFormat()).rows)
    assert [(row.path, row.labels) for row in rows] == [("a.png", ("a",)), ("b.png", ("null",))]
    assert dict(rows[0].columns)["caption"] == "one\u2028two\u0085three"


@pytest.mark.parametrize("missing", ["null", "NaN"])
def test_null_and_not_a_number_are_no_label(missing):
    (row,) = json_listing(f'{{"file_name": "a.png", "label": {missing}}}', "m.jsonl", LabelFormat()).rows
    assert row.labels is None
