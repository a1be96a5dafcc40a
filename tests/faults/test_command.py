"""The whole command: killed, interrupted, started twice, in odd surroundings; it goes on, or says in one line why not."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

EPOCHS, STEPS = 30, 5
SETTINGS = (
    *("--recipe", "scratch", "--epochs", f"{EPOCHS}", "--batch-size", "10", "--name", "run"),
    *("--set", "augment.mixup=0.3", "--set", "optim.ema_decay=0.9", "--set", "checkpoint.every_s=0.2"),
    *("--set", "compute.num_threads=1", "--set", "compute.precision=bfloat16"),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of 24 grey images 8 px wide, one brightness each under noise."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for number, name in enumerate(("dunkel", "grün", "hell")):
        (folder / name).mkdir(parents=True)
        for i in range(24):
            pixels = (90 * number + rng.integers(0, 60, (8, 8))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def start(folder, *arguments, env=None):
    command = [sys.executable, "-m", "recog", "train", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def end(process):
    """(exit code, stderr) of a process that is about to end."""
    _, said = process.communicate(timeout=120)
    assert "Traceback" not in said
    return process.returncode, said


def wait_for_step(folder, process, number):
    metrics = folder / "runs" / "run" / "metrics.jsonl"
    for _ in range(6000):
        if metrics.exists() and metrics.read_text().count('"kind": "step"') >= number:
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    raise TimeoutError(f"step {number} was not reached")


def weights_of(folder):
    return hashlib.sha256((folder / "runs" / "run" / "bundle" / "model.safetensors").read_bytes()).hexdigest()


def resume(folder):
    code, said = end(start(folder, "--resume", "run"))
    assert code == 0, said
    assert "resuming from runs/run/checkpoints/epoch-" in said
    steps = [json.loads(line) for line in (folder / "runs" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if row["kind"] == "step"] == list(range(1, EPOCHS * STEPS + 1))
    return weights_of(folder)


@pytest.fixture(scope="module")
def expected(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    code, said = end(start(folder, photos, *SETTINGS))
    assert code == 0, said
    return weights_of(folder)


def test_a_killed_run_goes_on_by_the_same_command_each_time(photos, expected, tmp_path):
    process = start(tmp_path, photos, *SETTINGS)
    wait_for_step(tmp_path, process, 30)
    process.kill()
    end(process)
    process = start(tmp_path, "--resume", "run")
    wait_for_step(tmp_path, process, 70)
    process.kill()
    end(process)
    assert resume(tmp_path) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_within_seconds_after_a_checkpoint(number, photos, expected, tmp_path):
    process = start(tmp_path, photos, *SETTINGS)
    wait_for_step(tmp_path, process, 20)
    process.send_signal(number)
    asked = time.monotonic()
    code, said = end(process)
    assert time.monotonic() - asked < 10
    assert code == 128 + number
    assert f"stopped by {number.name} after step" in said
    assert "recog train --resume runs/run" in said
    assert "error" not in said
    assert resume(tmp_path) == expected


def test_a_second_run_in_the_same_folder_is_refused_and_harms_nothing(photos, expected, tmp_path):
    first = start(tmp_path, photos, *SETTINGS)
    wait_for_step(tmp_path, first, 10)
    first.send_signal(signal.SIGSTOP)  # so that it cannot end before the second has begun
    code, said = end(start(tmp_path, "--resume", "run"))
    assert code == 7
    assert f"another process ({first.pid}) is training in runs/run" in said
    code, said = end(start(tmp_path, photos, *SETTINGS))
    assert code == 2
    assert "runs/run already exists" in said
    first.send_signal(signal.SIGCONT)
    code, said = end(first)
    assert code == 0, said
    assert weights_of(tmp_path) == expected
    code, said = end(start(tmp_path, "--resume", "run"))
    assert code == 7
    assert "is finished: there is nothing to resume" in said


def test_odd_surroundings_change_nothing(photos, expected, tmp_path):
    """The C locale, no home, no network, no GPU, a terminal that can do nothing."""
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "LC_ALL": "C",
        "HOME": "/proc/nowhere",
        "CUDA_VISIBLE_DEVICES": "",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "TERM": "dumb",
        "OMP_NUM_THREADS": "1",
    }
    code, said = end(start(tmp_path, photos, *SETTINGS, env=env))
    assert code == 0, said
    assert weights_of(tmp_path) == expected


@pytest.mark.parametrize("kind", ["below a file", "a file system that takes no folders"])
def test_a_place_that_cannot_be_written_is_one_clear_error(kind, photos, tmp_path):
    folder = tmp_path
    if kind == "below a file":
        (tmp_path / "runs").write_text("")
    else:
        folder = "/proc"
    code, said = end(start(folder, photos, *SETTINGS))
    assert code == 74, said
    assert "cannot create the folder" in said


@pytest.mark.parametrize("given", [("--epochs", "3"), ("--set", "seed=1"), ("--name", "other")])
def test_nothing_else_can_be_given(given, tmp_path):
    code, said = end(start(tmp_path, "--resume", "run", *given))
    assert code == 2
    assert "--resume continues with the settings of run" in said
