"""`recog robustness` as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recog.cli import build_app

BUNDLE = Path(__file__).parents[1] / "golden" / "digits-format-1-trust"


def typed(*words):
    return CliRunner().invoke(build_app(("robustness", "bench")), ["robustness", *map(str, words)])


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_table_and_json(tmp_path):
    options = ["--quick", "--limit", 20, "--corruptions", "contrast,fog", "--out", tmp_path / "a"]
    result = typed(BUNDLE, "digits", *options)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) <= 25
    assert "ImageNet-C's corruptions (2 of 15)" in result.stdout
    assert f"report: {tmp_path / 'a' / 'robustness.html'}" in result.stderr.replace("\n", "")
    options[-1] = tmp_path / "b"
    table = json.loads(typed(BUNDLE, "digits", *options, "--json").stdout)
    assert table["corruptions"] == json.loads((tmp_path / "a" / "robustness.json").read_text())["corruptions"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--severities", "one"], 2, "--severities is 'one'"),
        (["--severities", "9"], 2, "expected some of 1, 2, 3, 4, 5"),
        (["--corruptions", "rain"], 2, "no corruption 'rain'"),
        (["--out", "."], 2, "--out is '.'"),
    ],
)
def test_wrong_options(words, code, message):
    result = typed(BUNDLE, "digits", *words)
    assert result.exit_code == code
    assert message in result.stderr
