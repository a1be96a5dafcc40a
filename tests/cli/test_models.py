from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from recog.cli import build_app


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    app = build_app(("models", "cache"))
    return lambda *arguments: CliRunner().invoke(app, ["models", *arguments])


def test_the_table_on_stdout_within_80_columns_and_what_its_words_mean_on_stderr(run):
    done = run()
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["network", "parameters", "input", "weights", "their", "licence"]
    assert lines[1].split() == ["lenet5", "61,706", "32", "x", "32", "grey", "none"]
    assert max(map(len, lines)) <= 80
    assert "installed: with recog's packages" in done.stderr
    assert "vit_tiny is vit_tiny_patch16_224" in done.stderr
    assert "names no licence; the weights derive from Google's EfficientNet-Lite (Apache-2.0)" in done.stderr


def test_json_alone_on_stdout(run):
    table = json.loads(run("resnet18", "--json").stdout)
    assert table["pattern"] == "resnet18"
    first = table["networks"][0]
    assert (first["name"], first["num_parameters"], first["image_size"]) == ("resnet18", 11_689_512, [224, 224])
    assert first["weights_at_hand"] in (True, False)


def test_what_was_not_counted_is_said(run):
    done = run("vit_")
    assert "not counted" in done.stdout
    assert "too many to count the parameters of all" in done.stderr


def test_nothing_that_matches_is_wrong_use(run):
    done = run("mobilnet_v2")
    assert done.exit_code == 2
    assert "Did you mean 'mobilenet_v2'?" in " ".join(done.stderr.split())
