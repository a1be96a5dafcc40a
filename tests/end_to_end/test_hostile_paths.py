"""Paths and names that cannot be used: every verb refuses them in one sentence, before its work, and writes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

GOLDEN = str(Path(__file__).parents[1] / "golden" / "digits-format-1")
LONG, DEEP = "x" * 300, "y/" * 3000
PATHS = (LONG, DEEP, "loop", "file/x", "a\nb", "")
NAMES = ("a/b", LONG, "", ".", "..", "../up", "a:b", "a ", ".hid", "a\nb")
OUTS = ("file/x", "loop/x", LONG, DEEP, ".", "folder", "file", "")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    for name in ("cat", "dog"):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(6):
            level = 20 * i + 100 * (name == "dog")
            Image.fromarray(np.full((8, 8), level, np.uint8)).save(folder / "data" / name / f"{i}.png")
    (folder / "file").write_text("x")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "user.png").write_bytes((folder / "data/cat/0.png").read_bytes())
    (folder / os.fsdecode(b"da\xff")).symlink_to("data")
    return folder


def refused(folder, *arguments):
    """The one message of a command that is refused; nothing in `folder` changes."""
    before = sorted(map(str, folder.rglob("*")))
    done = subprocess.run([sys.executable, "-m", "recog", *arguments], cwd=folder, capture_output=True, timeout=120)
    err = done.stderr.decode()
    assert done.returncode in {2, 3, 4, 7, 74}, (arguments, err)
    assert "fault in recog" not in err
    assert "Traceback" not in err
    assert sorted(map(str, folder.rglob("*"))) == before
    return done.stdout.decode() + err


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_portable_component(name, place):
    assert "--name is '" in refused(place, "train", "data", f"--name={name}")


@pytest.mark.parametrize("path", OUTS)
def test_out_where_no_folder_can_be_created(path, place):
    refused(place, "evaluate", GOLDEN, "data", "--out", path)


@pytest.mark.parametrize("path", [*OUTS, "user.png", "new.jpg", "file/x.png", "loop/x.png"])
def test_preview_where_no_png_can_be_created(path, place):
    said = refused(place, "scan", "data", "--preview", path)
    assert "can be trained on" not in said  # refused before the scan
    assert (place / "user.png").read_bytes() == (place / "data/cat/0.png").read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ("scan", "PATH"),
        ("train", "PATH"),
        ("train", "data", "--config", "PATH"),
        ("train", "data", "--weights", "PATH"),
        ("train", "--resume", "PATH"),
        ("predict", "PATH", "user.png"),
        ("predict", GOLDEN, "PATH"),
        ("evaluate", GOLDEN, "PATH"),
        ("compare", GOLDEN, "PATH", "--data", "data"),
        ("verify", "PATH"),
        ("report", "PATH", "--no-open"),
    ],
    ids=lambda arguments: "-".join(arguments).replace(GOLDEN, "bundle"),
)
def test_no_path_to_read_is_a_fault(arguments, place):
    for path in PATHS:
        refused(place, *(path if word == "PATH" else word for word in arguments))


def test_data_below_a_name_that_is_not_utf_8_cannot_be_recorded(place):
    assert "is not UTF-8" in refused(place, "train", os.fsdecode(b"da\xff"))


def test_preview_creates_the_folder_and_replaces_an_earlier_preview(place):
    for _ in range(2):
        command = [sys.executable, "-m", "recog", "scan", "data", "--preview", "previews/sample.png"]
        assert subprocess.run(command, cwd=place, capture_output=True, timeout=120).returncode == 0
    with Image.open(place / "previews/sample.png") as sheet:
        assert sheet.format == "PNG"
