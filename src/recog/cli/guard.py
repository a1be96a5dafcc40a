"""The process around a command: error messages, signals, exit codes, and streams that are closed, full or lack characters.

No failure prints a traceback unless RECOG_DEBUG is set.
"""

from __future__ import annotations

import codecs
import errno
import functools
import gc
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, Literal, ParamSpec

import typer

from recog.cli.output import print_note, silence
from recog.core.errors import ConfigError, PeerError, RecogError, TrainingStopped, missing_extra
from recog.core.hardware import MAX_THREADS, process_start

P = ParamSpec("P")

EXIT_FAULT = 70  # EX_SOFTWARE of sysexits.h
EXIT_DISK = 74
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141  # as a shell reports a command that SIGPIPE ended
EXIT_TERMINATED = 143
_DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO}
_PATH_ERRORS = {errno.ENAMETOOLONG, errno.ELOOP}  # only a path that was given causes them
_STORM_S = 1.0  # signals this soon after the first are the same request; clean-up is not interrupted by them


def _use_threads(threads: int | None) -> int | None:
    """Everything that counts cores reads this variable, and so do OpenMP, torch and processes that are started."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    return threads


_start: float | None = None  # of the process, until a command asks for it


def set_start(started: float) -> None:
    """The process has begun at `started`, in seconds of time.perf_counter, to run one command."""
    global _start  # noqa: PLW0603  a fact of the process
    _start = started


def pop_start() -> float:
    """When the command began, in seconds of time.perf_counter: with the process, or now where a program calls it."""
    global _start  # noqa: PLW0603
    started, _start = _start, None
    return time.perf_counter() if started is None else started


Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="Number of threads; default: OMP_NUM_THREADS, else the cores available to the process.",
        min=1,
        max=MAX_THREADS,
        callback=_use_threads,
    ),
]

ViewsOption = Annotated[
    Literal["one", "mirror", "shifts", "selective"],
    typer.Option(
        "--views",
        help="Average over several views of each image: mirror (2), shifts (6), selective (6 where unsure).",
    ),
]


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """`command` with every failure as one message on stderr and its documented exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with _interruptible() as interruption:
            try:
                command(*args, **kwargs)
            except typer.Exit:
                raise
            except BaseException as error:  # noqa: BLE001  the last place that can turn it into a sentence
                raise typer.Exit(report_failure(error, interruption.number)) from None

    return run


def report_failure(error: BaseException, interrupted_by: int = 0) -> int:
    """Print one message on stderr for `error`; returns the exit code. `interrupted_by` is the signal that caused it, if any."""
    if isinstance(error, PeerError):
        return error.exit_code  # the process that failed first reports for all
    if isinstance(error, RecogError) and not interrupted_by:
        return _fail(str(error), error.exit_code, is_failure=not isinstance(error, TrainingStopped))
    if interrupted_by == signal.SIGTERM:
        return _fail("terminated; no file is half-written", EXIT_TERMINATED, is_failure=False)
    if interrupted_by or isinstance(error, KeyboardInterrupt):  # an import that is interrupted raises ImportError
        return _fail("interrupted; no file is half-written", EXIT_INTERRUPTED, is_failure=False)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    missing = missing_extra(error) if isinstance(error, ModuleNotFoundError) else None
    if missing is not None:
        return _fail(str(missing), missing.exit_code)
    code = _report_os_error(error) if isinstance(error, OSError) else None
    return _report_fault(error) if code is None else code


def _report_os_error(error: OSError) -> int | None:
    """As `report_failure` for what a path, a disk or a pipe causes; None for any other error."""
    if isinstance(error, BrokenPipeError):
        silence(sys.stdout)  # the reader left, as `head` does
        silence(sys.stderr)
        return EXIT_PIPE
    if error.errno in _DISK_ERRORS:
        place = error.filename or "the disk"
        return _fail(f"{place}: {error.strerror}. Free space or choose another folder.", EXIT_DISK)
    if error.errno in _PATH_ERRORS:
        return _fail(f"{error.filename}: {error.strerror}. Choose another path.", ConfigError.exit_code)
    if not _is_here():
        return _fail("the current folder no longer exists. Change to another folder and start again.", EXIT_DISK)
    return None


def _fail(message: str, code: int, *, is_failure: bool = True) -> int:
    first, *listed = message.split("\n  ")  # other newlines come from names
    print_note(first, *(f"  {line}" for line in listed), prefix=("error: ", "bold red") if is_failure else ("", ""))
    return code


def _is_here() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def _report_fault(error: BaseException) -> int:
    """An error that recog did not foresee: one sentence, and the traceback in a file."""
    import traceback

    lines = "".join(traceback.format_exception(error)).splitlines()
    if os.environ.get("RECOG_DEBUG", "0") not in ("", "0"):
        print_note(*lines)
    reason = " ".join(traceback.format_exception_only(error)[-1].split())
    return _fail(
        f"unexpected {reason[:500]}. This is a fault in recog; please report it with {_write_log(lines)}. "
        "RECOG_DEBUG=1 shows the traceback.",
        EXIT_FAULT,
    )


def _write_log(lines: list[str]) -> str:
    """Write the traceback to a new file of the user's cache, else of the temporary folder; returns how a message names it."""
    import tempfile

    from recog.core.files import cache_folder
    from recog.core.text import visible
    from recog.core.version import __version__

    command = " ".join(map(repr, sys.argv[1:]))
    text = "\n".join(map(visible, [f"recog {__version__}, Python {sys.version}, {sys.platform}", command, *lines, ""]))
    for find_folder in (lambda: cache_folder("logs"), tempfile.gettempdir):
        try:
            descriptor, name = tempfile.mkstemp(
                prefix=time.strftime("error-%Y%m%d-%H%M%S-"), suffix=".log", dir=find_folder()
            )
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
        except (OSError, RecogError):
            continue
        return name
    return "its traceback, for which no folder can be written"


class _Interruption:
    """The SIGINT or SIGTERM that arrived, raised as KeyboardInterrupt or SystemExit; a storm of them is raised once."""

    def __init__(self) -> None:
        self.number = 0
        self._raised_at = -_STORM_S

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() - self._raised_at < _STORM_S:
            return
        self.number, self._raised_at = number, time.monotonic()
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(EXIT_TERMINATED)

    def on_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """A signal that was raised where Python drops exceptions, such as in a destructor, is sent again."""
        if not issubclass(unraisable.exc_type, (KeyboardInterrupt, SystemExit)):
            sys.__unraisablehook__(unraisable)
        elif self.number:
            self._raised_at = -_STORM_S
            threading.Timer(0.05, os.kill, (os.getpid(), self.number)).start()


@contextmanager
def _interruptible() -> Iterator[_Interruption]:
    """While entered, SIGINT and SIGTERM interrupt; before and after, they end the process in silence, as nothing is begun."""
    interruption = _Interruption()
    numbers = [
        n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN
    ]  # as nohup sets it
    before = {number: signal.signal(number, interruption.on_signal) for number in numbers}
    hook, sys.unraisablehook = sys.unraisablehook, interruption.on_unraisable
    try:
        yield interruption
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


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
