"""The command line: parsing and printing only; the module of a command is loaded when it is called."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

import recog
from recog.cli.guard import run_process

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "scan": "scan",
        "train": "train",
        "tune": "tune",
        "evaluate": "evaluate",
        "compare": "evaluate",
        "robustness": "robustness",
        "predict": "predict",
        "explain": "explain",
        "serve": "serve",
        "bench": "bench",
        "export": "export",
        "verify": "export",
        "runs": "runs",
        "report": "runs",
        "push": "export",
        "models": "models",
        "cache": "runs",
    }
)
"""Command -> the module of this room that has it, in a function of the command's name."""

_HELP = """Train, evaluate and deploy image classifiers.

Start with: recog train digits, or recog train FOLDER, where FOLDER holds one folder of images per class."""

_EPILOG = """Exit codes: 0 success, 2 usage or setting, 3 data or images, 4 bundle, 5 training, 6 missing dependency,
7 nothing to resume, 70 fault in recog (traceback in a log file, or shown with RECOG_DEBUG=1), 74 disk, 130 interrupted,
143 terminated."""


ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("fit", "learn"), "Did you mean 'recog train DATA'?"),
        **dict.fromkeys(("finetune", "fine-tune"), "Did you mean 'recog train DATA --recipe finetune'?"),
        **dict.fromkeys(("search-params", "hpo", "optimize", "sweep", "hyperopt"), "Did you mean 'recog tune DATA'?"),
        **dict.fromkeys(("resume", "continue"), "Did you mean 'recog train --resume RUN'?"),
        **dict.fromkeys(("val", "validate", "test", "eval", "score"), "Did you mean 'recog evaluate RUN DATA'?"),
        **dict.fromkeys(("infer", "inference", "classify", "label"), "Did you mean 'recog predict RUN FILE'?"),
        **dict.fromkeys(("detect", "segment", "track"), "recog classifies whole images: 'recog predict RUN FILE'."),
        **dict.fromkeys(("convert", "onnx", "quantize", "openvino"), "Did you mean 'recog export RUN --to onnx'?"),
        **dict.fromkeys(("deploy", "server", "api"), "Did you mean 'recog serve RUN'?"),
        **dict.fromkeys(("inspect", "info", "stats", "analyze", "check"), "Did you mean 'recog scan DATA'?"),
        **dict.fromkeys(("list", "ls", "history"), "Did you mean 'recog runs'?"),
        **dict.fromkeys(("show", "open", "view"), "Did you mean 'recog report RUN'?"),
        **dict.fromkeys(("upload", "publish", "share"), "Did you mean 'recog push RUN OWNER/NAME'?"),
        **dict.fromkeys(("attack", "corrupt", "stress"), "Did you mean 'recog robustness RUN DATA'?"),
        "diff": "Did you mean 'recog compare BUNDLE_A BUNDLE_B --data DATA'?",
        "help": "Did you mean 'recog --help'?",
        "version": "Did you mean 'recog --version'?",
    }
)
"""Commands of other tools: ours for the same purpose."""

FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "optim.epochs": "--epochs",
        "optim.lr": "--lr",
        "optim.name": "--optimizer",
        "loader.batch_size": "--batch-size",
        "loader.num_workers": "--workers",
        "model.name": "--model",
        "model.weights": "--weights",
        "model.channels": "--channels",
        "data.source": "DATA",
    }
)
"""Settings of `recog train` that have an option of another name."""


VALUES: Mapping[str, str] = MappingProxyType(
    {
        option: value
        for value, options in {
            "N": "batch-size channels classes-at-depth epochs limit min-images nearest port restarts seed threads top trials "
            "workers",
            "N,...": "batch-sizes",
            "X,...": "eps",
            "X": "lr min-confidence",
            "SECONDS": "seconds",
            "TIME": "budget tune",
            "NAME": "allowed-host balance device engine host log-to method model name optimizer recipe sampler storage to",
            "RULE": "bad-images",
            "SPLIT": "split",
            "COLUMN": "slice",
            "CLASS": "positive",
            "AIM": "threshold",
            "TEXT": "group label-separator",
            "TEMPLATE": "label-pattern",
            "COLUMN,...": "columns label-columns",
            "ENCODING": "encoding names",
            "RUN": "from resume",
            "FILE|RUN": "weights",
            "DATA": "data images",
            "FILE": "config output predictions preview sheet space token-file",
            "DIR": "out sort-into",
            "NAME=VALUE": "set",
        }.items()
        for option in options.split()
    }
)
"""What an option takes, as `--help` calls it; one with other words has a metavar of its own."""

_HELP_WORDS: Sequence[tuple[str, str]] = (
    (r"([\d.]+)<=x<=([\d.]+)(?=[];])", r"\1 to \2"),
    (r"x>=([\d.]+)(?=[];])", r"at least \1"),
)
"""In typer's words on a range: ours."""


class _Group(TyperGroup):
    """Shows whole sentences in `--help`, and names the command that another tool's command stands for."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [(name, self.commands[name].get_short_help_str(limit=1000)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in ELSEWHERE and args[0] not in self.commands:
            ctx.fail(f"No such command '{args[0]}'. {ELSEWHERE[args[0]]}")
        return super().resolve_command(ctx, args)


_RULES: Sequence[tuple[str, str]] = (
    (r"valid integer", "a whole number"),
    (r"valid (?:number|float)", "a number"),
    (r"greater than or equal to (\S+)", r"\1 or more"),
    (r"less than or equal to (\S+)", r"at most \1"),
    (r"x>=(\S+?)\.?$", r"\1 or more"),
    (r"(\S+)<=x<=(\S+?)\.?$", r"from \1 to \2"),
    (r"is not one of (.+?)\.?$", r"one of \1"),
)
"""In typer's words on a wrong value, by its version: what the value must be."""


class _Command(TyperCommand):
    """States wrong and missing values as recog does, and what an unknown option probably means: another one, or a setting.

    In `--help` and the usage line, arguments are DATA and BUNDLE, and an option is followed by what it takes.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        found = super().get_params(ctx)
        for parameter in found:
            name = (parameter.opts or parameter.secondary_opts)[0].lstrip("-")
            is_argument = parameter.param_type_name == "argument"
            parameter.metavar = parameter.metavar or (name.upper() if is_argument else VALUES.get(name))
        return found

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for kind in ("argument", "option"):
            records = [each.get_help_record(ctx) for each in self.get_params(ctx) if each.param_type_name == kind]
            if rows := [(_without_type(name), _in_words(text)) for name, text in filter(None, records)]:
                with formatter.section(f"{kind.capitalize()}s"):
                    formatter.write_dl(rows)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if self.name == "predict":
            args = importlib.import_module("recog.cli.predict").to_output(args)
        if self.name == "train" and not args and not ctx.resilient_parsing:  # as completion parses
            ctx.fail("There is no data to train on. Name a folder of class folders, such as photos/, or 'digits'.")
        try:
            return super().parse_args(ctx, list(args))
        except Exception as error:
            if hasattr(error, "possibilities"):  # typer's NoSuchOption, which it does not export
                option = str(getattr(error, "option_name", ""))
                ctx.fail(f"No such option: {option}{self._meant(option)}")
            parameter = getattr(error, "param", None)
            if parameter is not None and str(error.__class__.__name__) == "MissingParameter":
                name = next((option for option in parameter.opts if option.startswith("--")), parameter.opts[0].upper())
                ctx.fail(f"{name} is missing. {parameter.help}")
            if parameter is not None:
                ctx.fail(_wrong_value(parameter.opts, str(getattr(error, "message", error)), args))
            raise

    def _meant(self, option: str) -> str:
        own = {name: parameter for parameter in self.params for name in parameter.opts if name.startswith("--")}
        if self.name != "train" and (verbs := _verbs_with(option)):
            return f", which is an option of recog {', '.join(verbs)}; see recog {self.name} --help"
        near = difflib.get_close_matches(option, own, n=1, cutoff=0.75)
        if self.name == "train" and (not near or _is_known_elsewhere(option)):
            near = [_as_option(key, list(own)) for key in _settings_named(option)]
        elif near:
            return f". Did you mean {near[0]}: {getattr(own[near[0]], 'help', '')}"
        return f". Did you mean {' or '.join(near)}?" if near else f"; see recog {self.name} --help"


def _without_type(name: str) -> str:
    """'--split a|b' of typer's '--split <a|b>', and 'DATA' of 'DATA <str>'."""
    return re.sub(r"<([^<>]*\|[^<>]*)>", r"\1", re.sub(r" <[^<>|]*>", "", name)).removeprefix(" / ")


def _in_words(text: str) -> str:
    for pattern, words in _HELP_WORDS:
        text = re.sub(pattern, words, text)
    return text


def _verbs_with(option: str) -> list[str]:
    """The commands that have `option`, which is then no misspelling of another one."""
    app = typer.main.get_command(build_app(COMMANDS))
    commands: Mapping[str, Any] = getattr(app, "commands", {})
    return [name for name, command in commands.items() if any(option in each.opts for each in command.params)]


def _wrong_value(options: Sequence[str], reason: str, args: Sequence[str]) -> str:
    """'--epochs is 'x'; it must be a whole number.', from what was typed and typer's `reason`."""
    name = next((option for option in options if option.startswith("--")), options[0])
    values = [arg.partition("=")[2] for arg in args if arg.startswith(f"{name}=")]
    values += [value for option, value in pairwise(args) if option in options]
    rule = next((found.expand(text) for pattern, text in _RULES if (found := re.search(pattern, reason))), "")
    if not values or not rule:
        return f"{name}: {reason}"
    return f"{name} is '{values[-1]}'; it must be {rule.replace(chr(39), '')}."


def _is_known_elsewhere(option: str) -> bool:
    """Whether another tool has this option for a setting of ours, such as --imgsz."""
    from recog.core.config import SETTINGS_ELSEWHERE

    return "".join(filter(str.isalnum, option.lower())) in SETTINGS_ELSEWHERE


def _settings_named(option: str) -> list[str]:
    from recog.core.config import suggest_settings
    from recog.recipes.config import TrainConfig

    return suggest_settings(option.lstrip("-").replace("-", "_"), TrainConfig)


def _as_option(key: str, own: list[str]) -> str:
    last = key.rpartition(".")[2]
    flag = FLAGS.get(key, "" if last == "name" else f"--{last.replace('_', '-')}")  # --name is the run's, not loss.name
    return flag if flag in own or flag == "DATA" else f"--set {key}=VALUE"


def build_app(names: Iterable[str]) -> typer.Typer:
    """The application with the commands `names` of COMMANDS."""
    app = typer.Typer(
        name="recog",
        cls=_Group,
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in names:
        module = importlib.import_module(f"recog.cli.{COMMANDS[name]}")
        app.command(name, cls=_Command)(getattr(module, name))
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
