"""The process around a command: streams that are closed, full or of another encoding; errors that recog did not foresee."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1"
RECOG = (sys.executable, "-m", "recog")
FAULT = "import recog.runtime.predictor as p\ndef load(*_, **__): raise ValueError('odd\\n\\x1b[31m')\np.load = load\n"
FAULT += "from recog.__main__ import main\nmain()"


def shell(line, folder, **environment):
    """(exit code, stdout, stderr) of a command line; $R is recog, $G a bundle."""
    env = {**os.environ, "R": " ".join(RECOG), "G": str(GOLDEN), **environment}
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=env, capture_output=True, timeout=120)
    err = done.stderr.decode(errors="replace")
    assert "Traceback" not in err or environment.get("RECOG_DEBUG")
    assert "Exception ignored" not in err
    return done.returncode, done.stdout, err


@pytest.fixture
def digit(tmp_path):
    """A folder with one image under a name beyond Latin-1 and under one that is not UTF-8."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("ü中.png", os.fsdecode(b"\xff.png")):
        Image.fromarray(np.full((8, 8), 90, np.uint8)).save(folder / name)
    return tmp_path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$R --help >/dev/full", 74),
        ("$R --version >/dev/full", 74),
        ("$R predict --help >/dev/full", 74),
        ("$R predict $G images --csv >/dev/full", 74),
        ("$R predict $G images >/dev/full 2>&1", 74),
        ("$R predict $G absent.png 2>/dev/full", 3),
        ("$R predict 2>/dev/full", 2),
        ("$R nothing 2>/dev/full", 2),
        ("$R predict absent absent.png 2>/dev/full", 4),
    ],
)
def test_a_full_stream_has_its_exit_code_and_no_traceback(line, code, digit):
    assert shell(line, digit)[0] == code


@pytest.mark.parametrize(
    "line",
    [
        "$R predict $G images --csv >&-",
        "$R predict $G images --json >&-",
        "$R predict $G images 2>&-",
        "$R predict $G images <&- >&- 2>&-",
        "$R --version >&-",
    ],
)
def test_a_closed_stream_leads_nowhere(line, digit):
    assert shell(line, digit)[0] == 0


def test_no_file_is_opened_under_the_number_of_a_closed_stream(digit):
    """A library that prints to file descriptor 1 would write into that file."""
    code, _, err = shell(f"{sys.executable} -c '{_OPENED}' >&- <&-", digit)
    assert code == 0
    assert int(err) > 2


_OPENED = (
    "import sys; from recog.cli.guard import _open_closed_streams; _open_closed_streams(); "
    "print(open(sys.executable).fileno(), file=sys.stderr)"
)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_an_encoding_that_lacks_characters_escapes_them_and_notes_it(encoding, digit):
    for option in ("", "--csv"):
        code, out, err = shell(f"$R predict $G images {option}", digit, PYTHONIOENCODING=encoding)
        assert code == 0
        assert "\\u4e2d.png" in out.decode(encoding)
        assert "\\udcff.png" in out.decode(encoding)
        assert f"note: stdout is {'iso8859-1' if encoding == 'latin-1' else encoding}" in err


def test_json_is_valid_in_every_encoding_and_needs_no_note(digit):
    code, out, err = shell("$R predict $G images --json", digit, PYTHONIOENCODING="cp1252")
    assert (code, err) == (0, "")
    assert {row["file"] for row in json.loads(out)} == {"images/ü中.png", "images/\udcff.png"}


def test_utf_8_needs_no_note(digit):
    code, out, err = shell("$R predict $G images", digit, PYTHONIOENCODING="utf-8")
    assert (code, err) == (0, "")
    assert "ü中.png" in out.decode()


def test_a_usage_error_escapes_what_it_quotes(digit):
    code, _, err = shell("$R scan images $'b\\x1b[31m'", digit)
    assert code == 2
    assert "\\x1b[31m" in err
    assert "\x1b" not in err


def fault(folder, **environment):
    environment = {"XDG_CACHE_HOME": str(folder / "cache"), "FAULT": FAULT, **environment}
    return shell(f'{sys.executable} -c "$FAULT" predict $G images', folder, **environment)


def test_an_unforeseen_error_is_one_sentence_and_its_traceback_a_file(digit):
    code, _, err = fault(digit)
    (log,) = (digit / "cache/recog/logs").iterdir()
    assert code == 70
    assert err.splitlines() == [
        f"error: unexpected ValueError: odd \\x1b[31m. This is a fault in recog; please report it with {log}. "
        "RECOG_DEBUG=1 shows the traceback."
    ]
    text = log.read_text()
    assert "ValueError: odd" in text
    assert "line" in text
    assert "\x1b" not in text


def test_recog_debug_shows_the_traceback(digit):
    code, _, err = fault(digit, RECOG_DEBUG="1")
    assert code == 70
    assert "Traceback (most recent call last)" in err
    assert "\x1b" not in err


def test_a_log_that_cannot_be_written_changes_nothing_else(digit):
    (digit / "file").write_text("")
    bad = str(digit / "file")
    code, _, err = fault(digit, XDG_CACHE_HOME=bad, HOME=bad, TMPDIR=bad)
    assert code == 70
    assert "unexpected ValueError" in err


@pytest.mark.parametrize("command", ["scan .", "evaluate run digits", "train --resume run", "compare a b --data ."])
def test_from_a_folder_that_is_gone_it_is_one_sentence(command, tmp_path):
    code, _, err = shell(f"mkdir gone; cd gone; rmdir ../gone; $R {command}", tmp_path)
    assert code in {2, 3, 4, 7, 74}
    assert err.count("error: ") == 1


def test_a_fault_in_a_folder_that_is_gone_has_its_file_too(digit):
    line = f'mkdir gone; cd gone; rmdir ../gone; {sys.executable} -c "$FAULT" predict $G x.png'
    code, _, err = shell(line, digit, XDG_CACHE_HOME=str(digit / "cache"), FAULT=FAULT)
    assert code == 70
    assert len(list((digit / "cache/recog/logs").iterdir())) == 1
    assert err.count("error: ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_storm", [False, True])
def test_a_signal_at_any_moment_prints_no_traceback(number, is_storm, digit):
    """From recog's entry point on; before it, Python itself reports an interrupt."""
    code = "import os; from recog.__main__ import main; os.write(1, b'x'); main()"
    for delay in np.linspace(0.002, 0.5, 24):
        arguments = [sys.executable, "-c", code, "predict", str(GOLDEN), "images"]
        process = subprocess.Popen(arguments, cwd=digit, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        time.sleep(delay)
        for _ in range(2000 if is_storm else 1):
            process.send_signal(number)
            if process.poll() is not None:
                break
            time.sleep(0.001)
        _, err = process.communicate(timeout=60)
        assert b"Traceback" not in err, delay
        assert b"Exception ignored" not in err, delay
        assert process.returncode in {0, -number, 128 + number}, (delay, err)
