"""Addresses of the hub that are refused; tests/verbs/test_push.py downloads from a server that speaks as the hub does."""

import pytest

from recog.bundle.hub import fetch_bundle
from recog.core.errors import BundleError

pytest.importorskip("huggingface_hub")


@pytest.fixture(autouse=True)
def _nobody_listens(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://anna", "expected OWNER/NAME"),
        ("hf://../../etc/passwd", "expected OWNER/NAME"),
        ("hf://anna/digits@../x", "expected a branch, a tag or a commit"),
        ("hf://anna/none", "the hub did not answer as expected"),
    ],
)
def test_what_is_no_bundle_of_the_hub(address, message):
    with pytest.raises(BundleError, match=message):
        fetch_bundle(address)
