"""Messages name only settings and options that exist."""

import ast
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import typer

import recog
from recog.cli import COMMANDS, build_app
from recog.recipes.config import TrainConfig

NO_SETTINGS = {
    "calibration.json",
    "model.onnx",
    "model.xml",
    "model.pt2",
    "model.plan",
    "model.safetensors",
    "model.state_dict",
    "data.pkl",
}  # files, and a method in an example
SOURCE = Path(recog.__file__).parent
OTHERS = {  # of torchrun, and of programs that send, fetch and unpack
    "--data-binary",
    "--nproc-per-node",
    "--max-restarts",
    "--rdzv-endpoint",
    "--rdzv-id",
    "--raw",
    "--recursive",
    "--unzip",
    "--zstd",
}


def texts(path):
    """(line, text) of every string that is no docstring; fields of f-strings are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def options():
    group = typer.main.get_command(build_app(tuple(COMMANDS)))
    commands = [group, *group.commands.values()]
    return {
        name
        for command in commands
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts, "--help")
    }


def settings():
    sections = {name: value for name, value in vars(TrainConfig()).items() if is_dataclass(value)}
    return {f"{name}.{field.name}" for name, section in sections.items() for field in fields(section)}


def named(pattern):
    return [
        (f"{path.relative_to(SOURCE)}:{line}", found)
        for path in sorted(SOURCE.rglob("*.py"))
        for line, text in texts(path)
        for found in re.findall(pattern, text)
    ]


def test_options_in_messages_exist():
    found = named(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]")
    assert len(found) > 100
    known = options() | OTHERS
    assert [(where, option) for where, option in found if option not in known] == []


def test_settings_in_messages_exist():
    sections = {name.partition(".")[0] for name in settings()}
    found = named(rf"(?<![\w.])((?:{'|'.join(sorted(sections))})\.[a-z_0-9]+)")
    assert len(found) > 50
    assert [(where, name) for where, name in found if name not in settings() | NO_SETTINGS] == []
