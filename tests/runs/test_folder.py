import os
import shutil
import subprocess
import sys

import pytest

from recog.core.errors import CheckpointError, ConfigError
from recog.runs.folder import (
    RUN_CONFIG,
    find_unfinished,
    has_begun,
    is_restart,
    locked,
    make_run_folder,
    write_launch,
)
from recog.training.distributed import World

HOLD = """
import pathlib, sys
from recog.runs.folder import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_first_free_number_is_taken(tmp_path):
    assert [make_run_folder(tmp_path, "a", fixed=False).name for _ in range(2)] == ["a-1", "a-2"]
    with pytest.raises(ConfigError, match="already exists"):
        make_run_folder(tmp_path, "a-1", fixed=True)


def test_what_torchrun_restarts_knows_its_own_run(tmp_path):
    """By the count of restarts; by the launch's id where machines came or went, which is not counted."""
    first, again = (World(launch="job-7", num_restarts=count) for count in (0, 1))
    assert not is_restart(tmp_path / "a", again)  # ended before it had a folder
    folder = make_run_folder(tmp_path, "a", fixed=True, world=first)
    assert is_restart(folder, again)
    assert not is_restart(folder, first)
    write_launch(folder, first)
    assert is_restart(folder, first)
    assert not is_restart(folder, World(launch="job-8"))
    assert not is_restart(folder, World())
    assert not has_begun(folder, again)  # not planned yet: the folder is taken up, and planned in
    assert make_run_folder(tmp_path, "a", fixed=True, world=again) == folder
    (folder / RUN_CONFIG).touch()
    assert has_begun(folder, again)
    assert has_begun(folder, first)
    with pytest.raises(ConfigError, match="already exists"):
        make_run_folder(tmp_path, "a", fixed=True, world=World(launch="job-8"))


def test_no_launch_leaves_no_mark(tmp_path):
    write_launch(tmp_path, World())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_second_process_is_refused_until_the_first_has_died(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(CheckpointError, match=rf"another process \({holder.pid}\) is training in"),
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
    with pytest.raises(CheckpointError, match=r"runs/a is finished: there is nothing to resume.*recog train --config"):
        find_unfinished("a")
