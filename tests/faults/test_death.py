"""Death at any instant of a save (T1): the same command goes on, loses no more than a save interval, and ends alike."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from small_training import hash_of, train

KILLS = int(os.environ.get("RECOG_KILLS", "8"))  # 50 for the long form

POINTS = {  # name: (before or after, or the per cent of its bytes, call, file)
    "before the temporary file": ("before", "open", "tensors"),
    "after 0 % of the bytes": (0, "write", "tensors"),
    "after 25 % of the bytes": (25, "write", "tensors"),
    "after 50 % of the bytes": (50, "write", "tensors"),
    "after 99 % of the bytes": (99, "write", "tensors"),
    "before fsync of the file": ("before", "fsync", "tensors"),
    "before the rename": ("before", "replace", "tensors"),
    "between the rename and fsync of the folder": ("after", "replace", "tensors"),
    "before the manifest": ("before", "open", "manifest"),
    "after the manifest": ("after", "replace", "manifest"),
    "before pruning": ("before", "unlink", "manifest"),
    "after pruning": ("after", "unlink", "tensors"),
}


class Death:
    """Patches `os` so that the process ends at one point of the save of a given number."""

    def __init__(self, point, save_number):
        self.when, self.call, self.file = POINTS[point]
        self.saves_left = save_number
        self.current = ""  # the file that is being written or removed

    def install(self):
        for name in ("open", "write", "fsync", "replace", "unlink"):
            setattr(os, name, partial(self.intercept, name, getattr(os, name)))

    def intercept(self, name, real, *args, **kwargs):
        if name in ("open", "unlink"):
            self.see(name, Path(args[0]).name)
        due = self.saves_left == 0 and (name, self.current) == (self.call, self.file)
        if due and self.when == "before":
            os._exit(137)
        if due and isinstance(self.when, int):
            real(args[0], args[1][: len(args[1]) * self.when // 100])
            os._exit(137)
        result = real(*args, **kwargs)
        if due and self.when == "after":
            os._exit(137)
        return result

    def see(self, call, name):
        kinds = {".safetensors": "tensors", ".json": "manifest"}
        self.current = next((kind for suffix, kind in kinds.items() if suffix in name), self.current)
        self.saves_left -= call == "open" and ".safetensors.tmp-" in name


def in_child(function):
    """Run `function` in a forked process; its process number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        torch.set_num_threads(1)
        function()
        code = 0
    finally:
        os._exit(code)


def end_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(folder, death=None):
    """The command that is given again and again; it notes where it starts, what it has saved, and the final hash."""
    if death is not None:
        death.install()
    state = train(
        folder / "checkpoints",
        on_start=lambda step: note(folder / "starts", step),
        on_saved=lambda step: note(folder / "saved", step),
    )
    (folder / "final").write_text(hash_of(state))


def note(path, number):
    with path.open("a") as file:
        file.write(f"{number}\n")


def numbers_in(path):
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def check_resumed(folder, expected):
    saved = max(numbers_in(folder / "saved"), default=0)
    assert end_of(in_child(lambda: run(folder))) == 0
    assert numbers_in(folder / "starts")[-1] >= saved  # no more is lost than what was done since the last save
    assert (folder / "final").read_text() == expected
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    manifests = {name for name in names if name.endswith(".json")}
    assert names == manifests | {name.replace(".json", ".safetensors") for name in manifests}  # nothing else is left
    assert len(manifests) in (2, 3)  # three where it died before the last pruning, and no step was left to take


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    assert end_of(in_child(lambda: run(folder))) == 0
    return (folder / "final").read_text()


@pytest.mark.parametrize("save_number", [1, 5], ids=["first save", "later save"])
@pytest.mark.parametrize("point", POINTS)
def test_death_at_a_point_of_a_save(point, save_number, expected, tmp_path):
    if "pruning" in point:
        save_number = max(save_number, 3)  # the first save that has something to prune
    assert end_of(in_child(lambda: run(tmp_path, Death(point, save_number)))) == 137
    check_resumed(tmp_path, expected)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(KILLS))
def test_death_at_a_random_time(number, expected, tmp_path):
    delays, longest, deaths = random.Random(number), 0.5, 0
    while deaths < 3:
        pid = in_child(lambda: run(tmp_path))
        time.sleep(delays.uniform(0, longest))
        os.kill(pid, signal.SIGKILL)
        if end_of(pid) == -signal.SIGKILL:
            deaths += 1
        else:  # it had ended before: begin anew, and be quicker
            shutil.rmtree(tmp_path)
            tmp_path.mkdir()
            longest, deaths = longest / 2, 0
    check_resumed(tmp_path, expected)


def test_the_clock_may_jump(expected, tmp_path, monkeypatch):
    jumps = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: jumps.uniform(0, 4e9))
    assert hash_of(train(tmp_path)) == expected
