"""The command line: one module per command, loaded by name when called; parsing and printing only."""

from __future__ import annotations

import importlib
import sys

import typer

import recog
from recog.cli.process import run_process

COMMANDS = ("scan", "train", "evaluate", "compare", "predict", "verify", "runs", "report", "models", "cache")
NEED_NOTHING = ("runs", "models", "cache")  # do their work without an argument; the others show their help

_HELP = """Train, evaluate and deploy image classifiers.

Start with: recog train digits, or recog train FOLDER, where FOLDER holds one folder of images per class."""

_EPILOG = """Exit codes: 0 success, 2 usage or setting, 3 data or images, 4 bundle, 5 training, 6 missing dependency,
7 nothing to resume, 70 fault in recog (traceback in a log file), 74 disk, 130 interrupted, 143 terminated."""


def build_app(names: tuple[str, ...]) -> typer.Typer:
    """The application with the commands `names`; each lives in the module of its name, in a function of its name."""
    app = typer.Typer(
        name="recog",
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in names:
        module = importlib.import_module(f"recog.cli.{name}")
        app.command(name, no_args_is_help=name not in NEED_NOTHING)(getattr(module, name))
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(recog.__version__)
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", callback=_print_version, is_eager=True
    ),
) -> None:
    """The options of `recog` itself."""


def main() -> None:
    """Entry point of the `recog` command. Only the command that is called is imported."""
    called = sys.argv[1] if len(sys.argv) > 1 else ""
    sys.exit(run_process(lambda: build_app((called,) if called in COMMANDS else COMMANDS)))
