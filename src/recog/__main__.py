"""Entry point of `recog` and `python -m recog`."""

import _signal  # type: ignore[import-not-found]  # what `signal` wraps, without the imports in which Ctrl-C prints a traceback


def main() -> None:
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        # until a command begins, Ctrl-C ends the process in silence; in the middle of an import it would print a traceback
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from recog.cli import main as run

    run()


if __name__ == "__main__":
    main()
