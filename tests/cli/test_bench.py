import json

import pytest
import typer

from recog.cli.bench import bench


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_row_per_engine_and_the_fastest(digits_run, capsys):
    bench(str(digits_run.folder), seconds=0.01)
    shown = capsys.readouterr()
    assert "images/s, batch 32" in shown.out
    assert "openvino-bf16" in shown.out
    assert "\nfastest: " in shown.out
    assert "recorded for recog predict" in shown.err


def test_json(digits_run, capsys):
    bench(str(digits_run.folder), seconds=0.01, batch_sizes="2", as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert list(report["rows"][0]["speeds"]) == ["2"]
    assert report["chosen"] in {row["engine"] for row in report["rows"]}


def test_batch_sizes_that_are_no_numbers_are_refused(digits_run, capsys):
    with pytest.raises(typer.Exit) as left:
        bench(str(digits_run.folder), batch_sizes="many")
    assert left.value.exit_code == 2
    assert "--batch-sizes is 'many'; expected whole numbers" in capsys.readouterr().err
