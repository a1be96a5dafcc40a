"""docs/report.schema.json: every report that recog writes is valid by it, and it knows every key."""

import copy
import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.report import no_evidence

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "report.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def written(report):
    return json.loads(json.dumps(report.to_dict()))


def labels_report():
    from label_batches import label_report

    return label_report()[0]


def few():
    """Two images of two of three classes: most of what may be undefined is."""
    return evaluate(
        np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=np.float32),
        np.array([0, 0]),
        class_names=("a", "b", "c"),
        names=("1", "2"),
        data=DataFacts(name="d", excluded=(("x", "truncated"),)),
    )


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("report", [labels_report, few], ids=["multilabel", "undefined"])
def test_reports_are_valid_and_have_its_keys(report):
    table = written(report())
    assert VALIDATOR.is_valid(table)
    known = SCHEMA["$defs"][table["task"]]
    assert set(known["required"]) <= set(table) <= set(known["properties"])


def test_the_report_of_a_run_is_valid(digits_run):
    table = json.loads((digits_run.folder / "report.json").read_text())
    assert VALIDATOR.is_valid(table)
    assert set(table) == set(SCHEMA["$defs"]["multiclass"]["properties"])
    assert table["training"]["duration_s"] > 0
    assert table["trust"]["sets"] is None or table["trust"]["sets"]["num_images"] == table["num_images"]


def test_a_model_without_evaluation_is_valid():
    VALIDATOR.validate(no_evidence("not asked for"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("accuracy",), 1.2),
        (("num_images",), 0),
        (("confusion", 0, 0), -1),
        (("classes", 0, "recall"), "high"),
        (("data", "excluded"), None),
        (("task",), "regression"),
        (("more",), 1),
    ],
)
def test_what_is_no_report_is_refused(path, value):
    table = copy.deepcopy(written(few()))
    place = table
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not VALIDATOR.is_valid(table)
