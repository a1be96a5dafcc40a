"""Error messages and exit codes of the command line; user errors print no traceback."""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, ParamSpec

import typer

from recog.cli.output import print_note
from recog.core.errors import PeerError, RecogError, TrainingStopped, missing_extra
from recog.core.hardware import MAX_THREADS

P = ParamSpec("P")

EXIT_DISK = 74
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141  # as a shell reports a command that SIGPIPE ended
EXIT_TERMINATED = 143


def _use_threads(threads: int | None) -> int | None:
    """Everything that counts cores reads this variable, and so do OpenMP, torch and processes that are started."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    return threads


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


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """`command` with every foreseen failure as one message on stderr and its documented exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        try:
            command(*args, **kwargs)
        except PeerError as error:
            raise typer.Exit(error.exit_code) from None  # the process that failed first speaks for all
        except RecogError as error:
            _fail(str(error), error.exit_code, is_failure=not isinstance(error, TrainingStopped))
        except ModuleNotFoundError as error:
            missing = missing_extra(error)
            if missing is None:
                raise
            _fail(str(missing), missing.exit_code)
        except KeyboardInterrupt:
            _fail("interrupted; no partial files were left", EXIT_INTERRUPTED)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left, as `head` does
            raise typer.Exit(EXIT_PIPE) from None
        except OSError as error:
            if error.errno not in (
                errno.ENOSPC,
                errno.EROFS,
                errno.EACCES,
                errno.EDQUOT,
                errno.EFBIG,
                errno.EIO,
            ):
                raise
            _fail(
                f"{error.filename or 'the disk'}: {error.strerror}. Free space or choose another folder.",
                EXIT_DISK,
            )

    return run


def _fail(message: str, code: int, *, is_failure: bool = True) -> None:
    first, *listed = message.split("\n  ")  # other newlines come from names
    print_note(first, *(f"  {line}" for line in listed), prefix=("error: ", "bold red") if is_failure else ("", ""))
    raise typer.Exit(code) from None


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(EXIT_TERMINATED)
