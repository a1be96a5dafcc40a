"""A finished run goes as JSON to the processes that did not write it."""

import json

from recog.verbs.run import run_from_json, run_to_json


def test_a_run_is_the_same_after_json(digits_run):
    there = run_from_json(json.loads(json.dumps(run_to_json(digits_run))))
    assert (there.folder, there.bundle, there.duration_s) == (
        digits_run.folder,
        digits_run.bundle,
        digits_run.duration_s,
    )
    assert there.report.to_dict() == digits_run.report.to_dict()
    assert repr(there) == repr(digits_run)
