"""The base install, without torch and its company: what answers works, what trains says what to install."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1"
ABSENT = ("torch", "torchvision", "timm", "onnx", "onnxscript", "sklearn", "tensorboard", "pandas", "matplotlib")


def recog_without_extras(*arguments):
    code = (
        f"import sys\nfor name in {ABSENT!r}: sys.modules[name] = None\n"  # importing it raises ModuleNotFoundError
        f"sys.argv = ['recog', *{[str(a) for a in arguments]!r}]\nfrom recog.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    return done


def test_verify_and_predict_work(tmp_path):
    assert recog_without_extras("verify", GOLDEN).returncode == 0
    from recog.bundle.reference import read_reference

    (tmp_path / "digit.png").write_bytes(read_reference(GOLDEN).images[0])
    done = recog_without_extras("predict", GOLDEN, tmp_path / "digit.png", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["label"] == "0"  # the reference takes the classes in turn, 0 first


def test_evaluate_works_on_a_folder(tmp_path):
    from recog.bundle.reference import read_reference

    for i, image in enumerate(read_reference(GOLDEN).images[:10]):
        (tmp_path / "data" / str(i)).mkdir(parents=True)
        (tmp_path / "data" / str(i) / "digit.png").write_bytes(image)
    done = recog_without_extras("evaluate", GOLDEN, tmp_path / "data", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_images"] == 10


@pytest.mark.parametrize("arguments", [["train", "digits"], ["evaluate", GOLDEN, "digits"]])
def test_what_needs_an_extra_names_it(arguments):
    done = recog_without_extras(*arguments)
    assert done.returncode == 6
    assert "pip install 'recog[train]'" in done.stderr


def test_python_says_it_too():
    code = (
        "import sys; sys.modules['torch'] = None\nimport recog\n"
        "try: recog.train\nexcept Exception as e: print(type(e).__name__, e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("MissingExtraError this needs torch")
