"""Names with control, bidirectional and invisible characters: none of them leaves any verb, on a terminal or in a file."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

HIDDEN = "\x1b[31m\x07\x9b\u202a\u202e\u2066\u2069\u200b\u200e\u2060\ufeff\u061c\u2028\nx"
CLASSES = (f"cat{HIDDEN}", f"dog{HIDDEN}\x7f\ty")
BINARY = (".safetensors", ".onnx", ".png")


def recog(folder, *arguments, expect=0):
    command = [sys.executable, "-m", "recog", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=300)
    assert done.returncode == expect, done.stderr.decode()
    for stream in (done.stdout, done.stderr):
        assert hidden_in(stream) <= allowed(arguments), arguments
    return done.stdout.decode()


def allowed(arguments):
    """Tabs separate the cells that `predict` and `runs` write into a pipe."""
    return {"\t"} if arguments[0] in {"predict", "runs"} and not {"--csv", "--json"} & set(arguments) else set()


def hidden_in(data):
    """Characters other than newline that a terminal obeys or does not show."""
    return {c for c in data.decode() if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data of two classes, hostile names at every level, and a run on it."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    rows = []
    for number, name in enumerate(CLASSES):
        for split in ("train", "test"):
            inner = folder / f"data{HIDDEN}" / split / name
            inner.mkdir(parents=True)
            for i in range(120):
                pixels = (150 * number + rng.integers(0, 60, (8, 8))).astype(np.uint8)
                Image.fromarray(pixels).save(inner / f"{i}{HIDDEN}.png")
                rows.append(
                    [str((inner / f"{i}{HIDDEN}.png").relative_to(folder)), name, split, f"site {i % 2}{HIDDEN}"]
                )
            (inner / f"notes{HIDDEN}.txt").write_text("")
        (inner / f"bad{HIDDEN}.png").write_bytes(b"no image")
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split", f"site{HIDDEN}"], *rows])
    settings = ("--recipe", "scratch", "--epochs", "1", "--set", "compute.num_threads=1")
    recog(folder, "train", f"data{HIDDEN}", "--name", "run", "--bad-images", "quarantine", *settings)
    recog(folder, "train", "list.csv", "--name", "listed", "--verbose", *settings)
    return folder


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("scan", "DATA"), 0),
        (("scan", "DATA", "--json"), 0),
        (("scan", "list.csv", "--preview", "sample.png"), 0),
        (("evaluate", "run", "DATA"), 0),
        (("evaluate", "run", "DATA", "--verbose", "--slice", "source-folder", "--out", "evaluation"), 0),
        (("evaluate", "listed", "list.csv", "--slice", f"site{HIDDEN}", "--verbose"), 0),
        (("evaluate", "run", "DATA", "--slice", f"none{HIDDEN}"), 2),
        (("evaluate", "run", "DATA", "--split", f"none{HIDDEN}"), 2),
        (("compare", "run", "listed", "--data", "DATA"), 0),
        (("predict", "run", "DATA"), 3),
        (("predict", "run", "DATA", "--csv"), 3),
        (("predict", "run", "DATA", "--json"), 3),
        (("verify", "run"), 0),
        (("verify", "DATA"), 4),
        (("runs",), 0),
        (("report", "run", "--no-open"), 0),
        (("report", f"none{HIDDEN}"), 4),
        (("cache",), 0),
        (("models", f"none{HIDDEN}"), 2),
        (("train", f"none{HIDDEN}"), 3),
        (("train", "--resume", f"none{HIDDEN}"), 7),
        (("train", "DATA", "--model", f"none{HIDDEN}"), 2),
        (("train", "DATA", "--set", f"none{HIDDEN}=1"), 2),
    ],
)
def test_no_verb_prints_one(place, arguments, code):
    data = f"data{HIDDEN}"
    out = recog(place, *(data if word == "DATA" else word for word in arguments), expect=code)
    if "--json" in arguments:
        assert out.isascii()
        found = json.loads(out)  # with the names as they are
        names = (
            [*found["class_names"]] if isinstance(found, dict) else [row["label"] for row in found if "label" in row]
        )
        assert set(names) == set(CLASSES)


def test_csv_has_one_line_per_image(place):
    table = list(csv.reader(io.StringIO(recog(place, "predict", "run", f"data{HIDDEN}", "--csv", expect=3))))
    assert len(table) == 1 + 4 * 120 + 2
    assert {len(row) for row in table} == {4}


def test_no_text_file_of_a_run_has_one(place):
    recog(place, "evaluate", "run", f"data{HIDDEN}", "--bad-images", "quarantine")
    files = [path for path in (place / "runs").rglob("*") if path.is_file() and path.suffix not in BINARY]
    texts = [path for path in files if "tensorboard" not in path.parts]
    assert {path.name for path in texts} >= {"README.md", "report.html", "report.json", "run.toml", "quarantine.txt"}
    for path in texts:
        tabs = {"\t"} if path.name == "quarantine.txt" else set()  # between name and reason
        assert hidden_in(path.read_bytes()) <= tabs, path


def test_a_terminal_gets_none_but_rich_styles(place):
    """Under a pseudo-terminal rich draws tables; the names within them stay escaped."""
    import pty

    main, other = pty.openpty()
    command = [sys.executable, "-m", "recog", "predict", "run", f"data{HIDDEN}/test/{CLASSES[0]}/0{HIDDEN}.png"]
    process = subprocess.Popen(command, cwd=place, stdout=other, stderr=other, env={**os.environ, "COLUMNS": "200"})
    os.close(other)
    seen = b""
    try:
        while part := os.read(main, 4096):
            seen += part
    except OSError:  # Linux ends a pseudo-terminal so
        pass
    assert process.wait() == 0
    os.close(main)
    text = seen.decode().replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\r\n", "\n")
    assert hidden_in(text.encode()) == set()
    assert r"cat\x1b[31m" in text
