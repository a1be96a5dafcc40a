"""`torchrun -m recog train`: the run of one process, made by two."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow
# LeNet-5 has no BatchNorm, and 51 is odd: the shares are 25 and 26
SETTINGS = ("digits", "--recipe", "scratch", "--model", "lenet5", "--epochs", "2", "--lr", "0.05")
SMALL = ("--set", "loader.batch_size=51", "--set", "compute.num_threads=1")


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def recog_train(folder, *arguments, num_processes=1, options=()):
    start = [sys.executable]
    if num_processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}", *options]
    command = [*start, "-m", "recog", "train", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=400)


def records(run, kind):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def test_two_processes_have_the_loss_curve_of_one(tmp_path):
    """Steps within 1e-4, the same images evaluated, one report on stdout, one run folder; and what run.toml says of it."""
    alone = recog_train(tmp_path, *SETTINGS, *SMALL, "--name", "alone", "--json")
    together = recog_train(tmp_path, *SETTINGS, *SMALL, "--name", "together", "--json", num_processes=2)
    assert alone.returncode == 0, alone.stderr[-3000:]
    assert together.returncode == 0, together.stderr[-3000:]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["alone", "together"]
    one, two = (records(tmp_path / "runs" / name, "step") for name in ("alone", "together"))
    assert len(one) == len(two) == 2 * (1168 // 51)
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(one, two, strict=True)) < 1e-4
    for a, b in zip(*(records(tmp_path / "runs" / name, "epoch") for name in ("alone", "together")), strict=True):
        assert b["val_nll"] == pytest.approx(a["val_nll"], abs=1e-4)
        assert b["train_loss"] == pytest.approx(a["train_loss"], abs=1e-4)
    (report,) = together.stdout.splitlines()
    found, expected = json.loads(report)["report"], json.loads(alone.stdout)["report"]
    assert found["num_images"] == expected["num_images"] == 360
    assert found["nll"] == pytest.approx(expected["nll"], abs=1e-3)
    assert "2 processes train together: each takes its share of a batch of 51" in together.stderr
    assert together.stderr.count("run folder:") == 1
    assert 'device = "cpu"' in (tmp_path / "runs" / "together" / "run.toml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits", "--set", "optim.lr=-1"), "optim.lr is -1"),
        (("nowhere",), "there is no folder nowhere"),
        ((*SETTINGS, "--set", "loader.batch_size=1"), r"a step takes 1 images .* for 2 processes"),
    ],
)
def test_an_error_is_said_once_and_ends_all(tmp_path, arguments, message):
    done = recog_train(tmp_path, *arguments, num_processes=2)
    assert done.returncode != 0
    assert len(re.findall(r"^error: ", done.stderr, flags=re.M)) == 1
    assert re.search(rf"^error: {message}", done.stderr, flags=re.M)
    assert not list(tmp_path.glob("runs/*/bundle"))


def folders_of_grey(root, num_classes, *, shift=0):
    """Class folders of 12 small noisy pictures, each class brighter than the one before."""
    rng = np.random.default_rng(shift)
    for k in range(num_classes):
        folder = root / f"kind-{k}"
        folder.mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(60 * k, 60 * k + 40, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def on_two_machines(folders, *arguments):
    """As on two machines: two launchers that meet at an endpoint, each with a working directory and copies of its own."""
    meeting = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=job")
    endpoint = f"--rdzv-endpoint=localhost:{free_port()}"
    command = [sys.executable, "-m", "torch.distributed.run", *meeting, endpoint, "-m", "recog", "train", *arguments]
    processes = [
        subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for folder in folders
    ]
    wait_for_first(processes, limit_s=400)
    if any(process.returncode for process in processes):
        time.sleep(2)
        for process in processes:
            process.terminate()  # a launcher would wait five minutes for the machine that has left
    return [(process.communicate(timeout=400)[1], process.returncode) for process in processes]


def wait_for_first(processes, *, limit_s):
    end = time.monotonic() + limit_s
    while all(process.poll() is None for process in processes):
        assert time.monotonic() < end, "neither launcher has ended"
        time.sleep(0.1)


@pytest.mark.parametrize("is_same", [True, False])
def test_two_machines_with_copies_of_the_data_make_one_run_and_with_other_data_none(tmp_path, is_same):
    folders = [tmp_path / "a", tmp_path / "b"]
    for number, folder in enumerate(folders):
        folders_of_grey(folder / "data", 3, shift=0 if is_same else number)
    arguments = ("data", "--recipe", "scratch", "--model", "lenet5", "--epochs", "1", "--batch-size", "9")
    done = on_two_machines(folders, *arguments, "--name", "both", "--set", "compute.num_threads=1")
    bundles = [(folder / "runs" / "both" / "bundle").is_dir() for folder in folders]
    if is_same:
        assert [code for _, code in done] == [0, 0], done
        assert sorted(bundles) == [False, True]
    else:
        assert all(code != 0 for _, code in done)
        assert bundles == [False, False]
        errors = [line for text, _ in done for line in text.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "the 2 processes do not have the same data: process 1 differs from process 0" in errors[0]


def kill_worker(launcher, *, local_rank):
    """SIGKILL the process of `local_rank` that `launcher`, torchrun's process number, has started."""
    for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"LOCAL_RANK={local_rank}".encode() in variables:
            os.kill(int(pid), signal.SIGKILL)
            return
    raise AssertionError(f"torchrun {launcher} has no process {local_rank}")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the victim is found in /proc")
def test_a_killed_process_is_restarted_and_the_run_goes_on_from_its_last_checkpoint(tmp_path):
    """Dropout, EMA and mixup in two processes; one is killed after nine steps: the bundle is that of a run undisturbed."""
    arguments = ("digits", "--recipe", "scratch", "--model", "cnn_32_64", "--epochs", "1")
    settings = ("augment.mixup=0.2", "optim.ema_decay=0.9", "checkpoint.every_steps=4", "model.drop_rate=0.3")
    more = [part for setting in (*settings, *SMALL[1::2]) for part in ("--set", setting)]
    done = recog_train(tmp_path, *arguments, *more, "--name", "calm", num_processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    options = ("--standalone", "--nproc-per-node=2", "--max-restarts=1", "--monitor-interval=0.1")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *options,
        "-m",
        "recog",
        "train",
        *arguments,
        *more,
        "--name",
        "run",
    ]
    with (tmp_path / "stderr").open("w+") as stderr:
        torchrun = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=stderr)
        metrics = tmp_path / "runs" / "run" / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not (metrics.exists() and len(records(metrics.parent, "step")) >= 9):
            assert time.monotonic() < deadline
            assert torchrun.poll() is None
            time.sleep(0.05)
        kill_worker(torchrun.pid, local_rank=1)
        code = torchrun.wait(timeout=400)
        said = (tmp_path / "stderr").read_text()
    assert code == 0, said[-3000:]
    assert re.search(r"^resuming from .*checkpoints/epoch-\d+-step-\d+\.json: 0 epochs and \d+ steps", said, re.M)
    assert said.count("another process of this training has ended") == 1
    runs = [tmp_path / "runs" / name for name in ("calm", "run")]
    calm, restarted = ((run / "bundle" / "model.safetensors").read_bytes() for run in runs)
    assert restarted == calm
    assert [record["step"] for record in records(runs[1], "step")] == list(range(1, 1168 // 51 + 1))
