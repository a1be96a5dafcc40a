import os
import shutil
import subprocess
import sys

import pytest

from recog.core.errors import CheckpointError, ConfigError
from recog.recipes.runs import find_unfinished, locked, make_run_folder

HOLD = """
import pathlib, sys
from recog.recipes.runs import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_first_free_number_is_taken(tmp_path):
    assert [make_run_folder(tmp_path, "a", fixed=False).name for _ in range(2)] == ["a-1", "a-2"]
    with pytest.raises(ConfigError, match="exists already"):
        make_run_folder(tmp_path, "a-1", fixed=True)


@pytest.mark.slow
def test_a_second_process_is_refused_until_the_first_has_died(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(CheckpointError, match=rf"being trained in by another process \({holder.pid}\)"),
            locked(tmp_path),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with locked(tmp_path):
        assert (tmp_path / "train.lock").read_text() == f"{os.getpid()}\n"


def test_what_can_be_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"there is no run 'a' to resume.*holds a run\.toml"):
        find_unfinished("a")
    (run / "run.toml").write_text("")
    assert find_unfinished("a").resolve() == run
    assert find_unfinished(run) == run
    (run / "bundle").mkdir()
    shutil.copy(__file__, run / "bundle" / "recog.json")
    with pytest.raises(CheckpointError, match=r"runs/a is finished: its bundle is sealed.*recog train --config"):
        find_unfinished("a")
