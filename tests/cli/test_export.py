import json

import pytest
import typer

from recog.cli.export import export, push


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


def push_here(capsys, *arguments, **options):
    options = {"yes": False, "private": False, "as_json": False} | options
    push(*arguments, **options)
    return capsys.readouterr()


def test_a_dry_run_lists_the_files_and_warns_of_images(digits_run, capsys):
    out, err = push_here(capsys, str(digits_run.folder), "anna/digits")
    assert out == ""
    assert "model.onnx" in err
    assert "warning: reference.safetensors holds 16 images of your data" in err
    assert "would go to anna/digits; --yes uploads them" in err


def test_a_push_as_json(digits_run, capsys):
    out, _ = push_here(capsys, str(digits_run.folder), "anna/digits", as_json=True)
    table = json.loads(out)
    assert table["address"] is None
    assert set(table["files"]) == {path.name for path in digits_run.bundle.iterdir()}


def test_a_wrong_name_on_the_hub_ends_with_exit_code_4(digits_run, capsys):
    with pytest.raises(typer.Exit) as ended:
        push_here(capsys, str(digits_run.folder), "digits")
    assert ended.value.exit_code == 4
    assert "expected OWNER/NAME, such as anna/flowers" in capsys.readouterr().err
