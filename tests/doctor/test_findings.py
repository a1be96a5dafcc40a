import json

import pytest
from small_findings import dataset, findings

from recog.doctor.findings import KINDS, excluded_copies, table_rows


def test_names_that_a_spreadsheet_would_run_are_quoted_in_the_csv():
    found = findings(names=["=1.png", "b", "c", "d"])
    assert next(table_rows(found))[0] == "'=1.png"


def test_counts_and_json():
    found = findings()
    assert found.counts == {"leak": 1, "label_error": 1, "small_class": 1}
    table = json.loads(json.dumps(found.to_dict()))
    assert table["findings"][0]["images"] == ["x/0.png", "x/1.png"]
    assert table["findings"][0]["actions"] == {"x/0.png": "exclude"}
    assert table["shortcuts"][0]["worst_auroc"] == 0.9


def test_of_copies_those_outside_the_last_split_are_excluded():
    data = dataset("abcd")  # train, test, train, test
    assert excluded_copies(data, [(0, 1), (1, 2), (3, 3)]) == {0: "exclude", 2: "exclude"}
    assert excluded_copies(data, [(0, 2), (1, 3)]) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_advice_that_ends_as_a_sentence(kind):
    assert KINDS[kind].advice.endswith(".")
