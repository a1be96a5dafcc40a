import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recog.core.errors import CheckpointError, ConfigError, DataError
from recog.recipes.config import DataConfig, TrainConfig
from recog.runs.folder import (
    RUN_CONFIG,
    find_unfinished,
    has_begun,
    is_restart,
    load_run_config,
    locked,
    make_run_folder,
    resumed_config,
    write_launch,
    write_run_config,
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


@pytest.mark.parametrize("source", ["rgb", "rgb/train-{000..003}.tar", "linked", "digits"])
def test_data_are_found_where_the_folder_of_runs_is_a_link(tmp_path, monkeypatch, source):
    """work/runs leads to disk/deep/runs, from where '..' leads elsewhere; 'digits' is data by name."""
    for folder in ("work/rgb", "disk/deep/runs/a", "photos"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "work/runs").symlink_to(tmp_path / "disk/deep/runs")
    (tmp_path / "work/linked").symlink_to(tmp_path / "photos")
    monkeypatch.chdir(tmp_path / "work")
    write_run_config(Path("runs/a"), TrainConfig(data=DataConfig(source=source)))
    assert load_run_config(Path("runs/a/run.toml")).data.source == source
    monkeypatch.chdir(tmp_path)
    found = load_run_config(Path("work/runs/a/run.toml")).data.source
    assert found == (source if source == "digits" else f"work/{source}")


def test_data_that_moved_are_asked_for_and_taken_from_their_new_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rgb").mkdir()
    (tmp_path / "runs/a").mkdir(parents=True)
    write_run_config(Path("runs/a"), TrainConfig(data=DataConfig(source="rgb")))
    assert resumed_config(Path("runs/a"), None).data.source == "rgb"
    (tmp_path / "rgb").rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"/rgb: they or the run were moved.* recog train PLACE --resume runs/a"):
        resumed_config(Path("runs/a"), None)
    assert resumed_config(Path("runs/a"), "moved").data.source == "moved"


def test_data_of_a_moved_config_are_never_looked_for_from_the_current_folder(tmp_path, monkeypatch):
    """run.toml has ../../rgb; from the folder one/two, that would be another folder of this name."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.toml").write_text('[data]\nsource = "../../rgb"\n')
    (tmp_path / "rgb").mkdir()
    (tmp_path / "one/two").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "one/two")
    assert not Path(load_run_config(tmp_path / "run/run.toml").data.source).exists()


def test_folders_of_images_are_recorded_relative_to_the_run(tmp_path, monkeypatch):
    for folder in ("runs/a", "photos", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    write_run_config(Path("runs/a"), TrainConfig(data=DataConfig(source="photos", images=("photos",))))
    assert "../../photos" in (tmp_path / "runs/a" / RUN_CONFIG).read_text()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_run_config(tmp_path / "runs/a" / RUN_CONFIG).data.images == ("../photos",)
