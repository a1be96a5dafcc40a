"""Kinds 39, 49, 51 to 54 and 58: a wrong or hostile command ends with its exit code, in plain text and without a traceback."""

import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bad_commands
import ledger
import pytest
from bad_commands import COMMANDS, is_json

GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1"
MAX_S = 60


def verdict_of(command, folder):
    """'refused', 'answered' or 'ended', once all that is promised was checked."""
    folder.mkdir()
    bad_commands.build_world(folder)
    if command.build is not None:
        command.build(folder)
    own = {"R": f"{sys.executable} -m recog", "G": str(GOLDEN), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        ["bash", "-c", command.line],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **own, **dict(command.environment)},
        capture_output=True,
        timeout=MAX_S,
        check=False,
    )
    encoding = dict(command.environment).get("PYTHONIOENCODING", "utf-8")
    out, err = (stream.decode(encoding, "replace") for stream in (done.stdout, done.stderr))
    codes = command.code if isinstance(command.code, tuple) else (command.code,)
    assert done.returncode in codes, (command.name, done.returncode, out[-500:], err[-1000:])
    assert re.search(command.says, out + err), (command.name, out[-500:], err[-1000:])
    assert "Traceback" not in err, (command.name, err)
    assert "unexpected" not in err, (command.name, err)
    assert not [c for c in out + err if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t\r"], command.name
    assert "--json" not in command.line or done.returncode or not out or "|" in command.line or is_json(out), (
        command.name
    )
    return "answered" if done.returncode == 0 else "ended" if done.returncode >= 124 else "refused"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="bash, /dev/full and pipes")
def test_ledger(digits_run, tmp_path, capsys, monkeypatch):
    """`make ledger` prints it. One test, as each command is a process of its own."""
    monkeypatch.setenv("RECOG_TEST_RUN", str(digits_run.folder))
    verdicts: dict[int, Counter[str]] = {}
    failed = []

    def attempt(numbered):
        number, command = numbered
        try:
            return command.kind, verdict_of(command, tmp_path / str(number)), ""
        except (AssertionError, subprocess.TimeoutExpired) as error:
            return command.kind, "", f"kind {command.kind}, {command.name}: {str(error)[:1500]}"

    with ThreadPoolExecutor(2) as pool:
        for kind, verdict, error in pool.map(attempt, enumerate(COMMANDS)):
            verdicts.setdefault(kind, Counter())[verdict] += 1
            failed += [error] if error else []
    assert not failed, "\n".join(failed)
    assert sorted(verdicts) == bad_commands.KINDS
    with capsys.disabled():
        print("", *ledger.lines(verdicts), sep="\n")
