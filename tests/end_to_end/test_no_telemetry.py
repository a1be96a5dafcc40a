"""In a new home, every way into recog leaves no file that recog did not write: no device id, no database of events."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1"
CONSOLE_SCRIPT = "import sys; from recog.cli import main; sys.exit(main())"  # as pip writes it


def files_after(home: Path, *arguments: str) -> list[str]:
    """Every file below the new `home`, which is also cache, temporary and working folder, after python `arguments`."""
    home.mkdir()
    folders = {"HOME": home, "USERPROFILE": home, "XDG_CACHE_HOME": home / ".cache", "TMPDIR": home, "TEMP": home}
    unset = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "HF_HOME", "TORCH_HOME")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {key: str(folder) for key, folder in folders.items()}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=home, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" not in done.stderr.lower()
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir())


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "recog", "verify", str(GOLDEN)),
        ("-c", CONSOLE_SCRIPT, "verify", str(GOLDEN)),
        ("-c", f"import recog; recog.load({str(GOLDEN)!r})"),
        ("-c", "from recog.runtime.engines.onnxruntime_engine import OnnxEngine"),
        ("-c", f"import recog; recog.load({str(GOLDEN)!r}, engine='openvino')"),
        ("-m", "recog", "models", "lite"),
    ],
    ids=["module", "console script", "load", "submodule", "openvino", "timm and the hub"],
)
def test_nothing_is_written_by_the_way(tmp_path, arguments):
    assert files_after(tmp_path / "home", *arguments) == []


@pytest.mark.slow
def test_a_training_writes_its_run_alone(tmp_path):
    files = files_after(tmp_path / "home", "-m", "recog", "train", "digits", "--epochs", "1")
    assert [file for file in files if not file.startswith(("runs/", ".cache/recog/"))] == []
    assert "runs/digits-1/bundle/recog.json" in files


def test_the_user_may_decide_otherwise(monkeypatch):
    code = "import recog, os; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]
