import pytest

from recog.core.errors import BundleError
from recog.evaluation.results.report_format import FORMAT_VERSION, agree, check_header


def test_header():
    check_header({"format_version": 1, "evidence": "evaluation"})
    check_header({"format_version": FORMAT_VERSION, "evidence": "evaluation"})
    with pytest.raises(BundleError, match="install that version or newer"):
        check_header({"format_version": FORMAT_VERSION + 1, "evidence": "evaluation"})
    with pytest.raises(BundleError, match="no format_version"):
        check_header({"evidence": "evaluation"})


def test_numbers_agree_to_nine_digits_and_all_else_exactly():
    assert agree(0.1 + 0.2, 0.3)
    assert not agree(0.3001, 0.3)
    assert not agree("0.3", 0.3)
    assert agree({"a": [1, None], "more": 2}, {"a": [1, None]})  # what was derived must be there
    assert not agree({"a": [1]}, {"a": [1, 2]})
    assert not agree({}, {"a": 1})
    assert not agree(None, {"a": 1})
