"""The process around a command: closed or failing streams, encodings that lack characters, usage errors, exit code."""

from __future__ import annotations

import codecs
import gc
import io
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from recog.cli.guard import EXIT_DISK, EXIT_PIPE, report_failure, set_start
from recog.cli.output import print_note, silence
from recog.core.hardware import process_start

_UsageError: Any = typer.BadParameter.__base__  # typer has it from click or carries it itself, by its version


def run_process(build: Callable[[], typer.Typer]) -> int:
    """Run the application that `build` returns on sys.argv; returns the exit code. Every failure is a message on stderr."""
    set_start(process_start())
    _open_closed_streams()
    escaping = _Escaping()
    codecs.register_error("recog.escape", escaping)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="recog.escape")
    try:
        result = build()(prog_name="recog", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except _UsageError as error:
        code = _report_usage(error)
    except BaseException as error:  # noqa: BLE001  the last place that can turn it into a sentence
        code = report_failure(error)
    code = _flush(code)
    if escaping.is_used:
        print_note(
            f"note: stdout is {sys.stdout.encoding}, so characters that it lacks are printed as escapes such as \\u4e2d; "
            "for UTF-8 set PYTHONIOENCODING=utf-8"
        )
    gc.freeze()  # with torch loaded, the interpreter's last collections of half a million objects take seconds
    return code


class _Escaping:
    """Error handler of an encoding: what it lacks becomes an escape, and it is recorded that this happened."""

    is_used = False

    def __call__(self, error: UnicodeError) -> tuple[str | bytes, int]:
        self.is_used = True
        return codecs.backslashreplace_errors(error)


def _open_closed_streams() -> None:
    """Streams that were closed before the start lead nowhere, or the next file that is opened would take their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  for the life of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _report_usage(error: Any) -> int:
    """The message of a wrong option or argument, which may quote a file name."""
    text = io.StringIO()
    error.show(file=text)
    print_note(*text.getvalue().rstrip("\n").split("\n"))
    return int(error.exit_code)


def _flush(code: int) -> int:
    """Write what the streams still hold; the exit code is that of a failure to do so if there was none before."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
        code = code or EXIT_PIPE
    except OSError as error:
        silence(sys.stdout)
        print_note(f"stdout: {error.strerror}. Free space or choose another file.", prefix=("error: ", "bold red"))
        code = code or EXIT_DISK
    try:
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)
    return code
