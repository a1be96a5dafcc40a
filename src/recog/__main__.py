"""Entry point of `recog` and `python -m recog`."""

import signal


def main() -> None:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # until a command begins, Ctrl-C ends the process in silence; in the middle of an import it would print a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from recog.cli import main as run

    run()


if __name__ == "__main__":
    main()
