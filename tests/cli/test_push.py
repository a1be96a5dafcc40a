import json

import pytest
import typer

from recog.cli.push import push


def run(capsys, *arguments, **options):
    options = {"yes": False, "private": False, "as_json": False} | options
    push(*arguments, **options)
    return capsys.readouterr()


def test_a_dry_run_lists_the_files_and_warns_of_images(digits_run, capsys):
    out, err = run(capsys, str(digits_run.folder), "anna/digits")
    assert out == ""
    assert "model.onnx" in err
    assert "warning: reference.safetensors holds 16 images of your data" in err
    assert "would go to anna/digits; --yes uploads them" in err


def test_json(digits_run, capsys):
    out, _ = run(capsys, str(digits_run.folder), "anna/digits", as_json=True)
    table = json.loads(out)
    assert table["address"] is None
    assert set(table["files"]) == {path.name for path in digits_run.bundle.iterdir()}


def test_a_wrong_name_ends_with_exit_code_4(digits_run, capsys):
    with pytest.raises(typer.Exit) as ended:
        run(capsys, str(digits_run.folder), "digits")
    assert ended.value.exit_code == 4
    assert "expected OWNER/NAME, such as anna/flowers" in capsys.readouterr().err
