"""`recog serve`: names of bundles, and what is refused before anything listens."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from recog.cli import build_app
from recog.cli.serve import name_bundles
from recog.core.errors import BundleError, ConfigError

GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1"


def run(*arguments):
    return CliRunner().invoke(build_app(("serve", "verify")), ["serve", *arguments])


def test_names_of_bundles(digits_run, monkeypatch):
    assert name_bundles([str(GOLDEN)]) == {"digits-format-1": str(GOLDEN)}
    assert name_bundles([f"a={GOLDEN}", f"b={GOLDEN}"]) == {"a": str(GOLDEN), "b": str(GOLDEN)}
    assert list(name_bundles([str(digits_run.folder)])) == [digits_run.folder.name]
    with pytest.raises(ConfigError, match="two bundles are called 'digits-format-1'"):
        name_bundles([str(GOLDEN), str(GOLDEN)])
    with pytest.raises(ConfigError, match="cannot be a model's name"):
        name_bundles([f"a/b={GOLDEN}"])
    with pytest.raises(BundleError, match="no bundle or run 'nothing'"):
        name_bundles(["nothing"])


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["nothing"], 4, "no bundle or run"),
        ([str(GOLDEN), "--host", "0.0.0.0"], 2, "--token-file"),
        ([str(GOLDEN), "--engine", "onnx"], 2, "there is no engine"),
        ([str(GOLDEN), "--limit", "max_image=3"], 2, "Did you mean 'max_images'"),
        ([str(GOLDEN), "--limit", "max_batch=3"], 2, "max_batch must be as large"),
        ([str(GOLDEN), "--limit", "deadline_s=0"], 2, "must be above 0"),
        ([str(GOLDEN), "--token-file", "/nowhere"], 2, "/nowhere"),
    ],
)
def test_what_is_refused(arguments, code, reason):
    result = run(*arguments)
    assert result.exit_code == code
    assert reason in " ".join(result.stderr.split())
