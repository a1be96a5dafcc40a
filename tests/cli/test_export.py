import json

import pytest
import typer

from recog.cli.export import export


def test_the_gate_as_a_table_and_the_folder(digits_run, tmp_path, capsys):
    export(str(digits_run.folder), "onnx", out=tmp_path / "out", seconds=0.01)
    shown = capsys.readouterr()
    assert "269 images (validation split): labels equal on 269" in shown.out
    assert "images/s, batch 32" in shown.out
    assert shown.err.splitlines()[-1] == f"export: {tmp_path / 'out'}"


def test_json(digits_run, tmp_path, capsys):
    export(str(digits_run.folder), "triton", out=tmp_path / "out", seconds=0.01, as_json=True)
    table = json.loads(capsys.readouterr().out)
    assert (table["gate"]["target"], table["gate"]["passed"]) == ("triton", True)


def test_an_unknown_target(digits_run, capsys):
    with pytest.raises(typer.Exit) as left:
        export(str(digits_run.folder), "tflite")
    assert left.value.exit_code == 2
    assert (
        "--to is 'tflite'; it must be one of onnx, openvino, torch, triton, browser, tensorrt."
        in capsys.readouterr().err
    )
