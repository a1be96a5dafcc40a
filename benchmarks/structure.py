"""The structure of `src/recog` in figures, so that a refactoring can be judged by what it changed.

It counts files and rooms, small modules that only one other module uses, imports upwards and in circles, branches on the
task and, with `--trace`, the files and functions that `recog train digits` and `recog predict` enter. No file is known by
its name here: everything is read from the source and from the import contracts in `pyproject.toml`.

    python benchmarks/structure.py [--trace] [--label before|after] [--out FILE.md] [--verbose]

`--label` names the column of figures. A FILE.md that has columns with other labels keeps them.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "recog"
SMALL = 80  # lines; a module below this with one importer might be part of it
ENTER = "--enter"  # this script starts itself with it, to trace one command in a process of its own

# The ways in which the code asks whether an image has one label or several. Each is a pattern over the text of a test as
# `ast.unparse` writes it: the condition of an `if`, `elif`, `while`, conditional expression, comprehension or `case`, or a
# comparison or `isinstance` that stands elsewhere. A test that asks in two ways counts once, under the first of them.
# Templates are not read, and a look-up by task in a table is no branch. Whoever renames what is asked for here must change
# the pattern too, or the count falls although the branches are still there.
WAYS = {
    "task by name": r"\btask (==|!=) |(==|!=) [\w.]*\btask\b|'multi(class|label)'",
    "shape of the targets": r"\b(own|targets?|labels|truth)\.ndim\b(?! == 4)",  # 4 axes: weights of a convolution
    "kind of report": r"\bisinstance\(.*\b(Report|(Class|Label|Multi|Single)\w*(Report|Calibration|Thresholds|Scores))\b",
    "label thresholds": r"\bthresholds is |^(not )?([\w.]*(?<!scores)\.)?thresholds$",  # scores.thresholds: cuts of confidence
    "answer of several labels": r"\b(said|preds) is ",
    "score of one task only": r"\b(val_map|mean_average_precision|confusion)\)? is ",
    "flag": r"\b(several|_?is_set|is_multi\w*|multi_?hot|(?<!types\.)is_list)\b",  # types.is_list is pyarrow's
}


@dataclass(frozen=True, kw_only=True)
class Module:
    name: str  # dotted
    is_package: bool  # an `__init__.py`, which goes by the package's name
    num_lines: int
    tree: ast.Module


def read_modules(package: Path) -> dict[str, Module]:
    """Every module of `package` by its dotted name."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        is_package = path.name == "__init__.py"
        inside = path.parent if is_package else path.with_suffix("")
        name = ".".join(inside.relative_to(package.parent).parts)
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        modules[name] = Module(name=name, is_package=is_package, num_lines=len(text.splitlines()), tree=tree)
    return modules


def count_sizes(modules: Mapping[str, Module]) -> dict[str, object]:
    sizes = [module.num_lines for module in modules.values() if module.num_lines or not module.is_package]
    rooms = Counter(name.rpartition(".")[0] for name, module in modules.items() if not module.is_package)
    largest, num_files = rooms.most_common(1)[0]
    return {
        "Python files": len(modules),
        "of these, empty `__init__.py`": len(modules) - len(sizes),
        "lines": sum(sizes),
        "median lines of a file that is not an empty `__init__.py`": f"{statistics.median(sizes):g}",
        "rooms (package folders, nested ones too)": sum(module.is_package for module in modules.values()) - 1,
        "files in the largest room, without `__init__.py`": f"{num_files} ({largest.partition('.')[2] or largest})",
    }


def imports_of(module: Module, names: set[str], *, at_start: bool) -> set[str]:
    """The modules among `names` that `module` imports when it runs, or only those `at_start`, outside of functions."""
    found = set() if at_start else _loaded_by_name(module)
    for node in _running(module.tree, at_start=at_start):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & names
            if inner - names:
                found.add(node.module)
    return (found & names) - {module.name}


def _running(node: ast.AST, *, at_start: bool) -> Iterator[ast.AST]:
    """`node` and all below it but for what stands under TYPE_CHECKING and, `at_start`, in functions."""
    if at_start and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return
    yield node
    is_for_types = isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING"
    for child in node.orelse if is_for_types else ast.iter_child_nodes(node):
        yield from _running(child, at_start=at_start)


def _loaded_by_name(module: Module) -> set[str]:
    """What a module that calls `import_module` may mean by its texts, alone and behind the start of an f-string."""
    nodes = list(ast.walk(module.tree))
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")]
    if not calls:
        return set()
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    formatted = [call.args[0].values[0] for call in calls if call.args and isinstance(call.args[0], ast.JoinedStr)]
    starts = {start.value for start in formatted if isinstance(start, ast.Constant)}
    return texts | {f"{start}{text}" for start in starts for text in texts}


def used_once(modules: Mapping[str, Module]) -> dict[str, str]:
    """Small module -> its one importer."""
    importers: dict[str, list[str]] = {name: [] for name in modules}
    for module in modules.values():
        for name in imports_of(module, set(modules), at_start=False):
            importers[name].append(module.name)
    small = [name for name, module in modules.items() if module.num_lines < SMALL and not module.is_package]
    return {name: importers[name][0] for name in small if len(importers[name]) == 1}


def find_circles(modules: Mapping[str, Module]) -> set[frozenset[str]]:
    """The largest sets of modules of which each imports each, over others or itself, at their start."""
    graph = {name: imports_of(module, set(modules), at_start=True) for name, module in modules.items()}
    reached: dict[str, set[str]] = {}
    for name in graph:
        reached[name], waiting = set(), [name]
        while waiting:
            new = graph[waiting.pop()] - reached[name]
            reached[name] |= new
            waiting += new
    return {frozenset(n for n in reached[name] if name in reached[n]) for name in graph if name in reached[name]}


def broken_contracts() -> str:
    """How many of the import contracts of pyproject.toml import-linter finds broken."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    output = subprocess.run(command, cwd=ROOT, env=_environment(), capture_output=True, text=True).stdout
    counts = re.search(r"(\d+) kept, (\d+) broken", output)
    if counts is None:
        raise SystemExit(f"lint-imports gave no result:\n{output[-2000:]}")
    kept, broken = map(int, counts.groups())
    return f"{broken} of {kept + broken}"


def find_branches(module: Module) -> list[tuple[str, str, str]]:
    """(place, way, test) of every branch on the task."""
    found: list[tuple[str, str, str]] = []
    seen: set[ast.AST] = set()
    for node in ast.walk(module.tree):  # parents come before their children
        for test, text in _tests(node):
            is_new = node is not test or node not in seen
            seen.update(ast.walk(test))
            way = next((way for way, pattern in WAYS.items() if re.search(pattern, text)), None)
            if is_new and way is not None:
                found.append((f"{module.name}:{test.lineno}", way, text))
    return found


def _tests(node: ast.AST) -> list[tuple[Any, str]]:
    """The tests that `node` makes, each with its text; a `case` is written as the comparison that it stands for."""
    match node:
        case ast.If() | ast.While() | ast.IfExp():
            tests = [node.test]
        case ast.comprehension():
            tests = node.ifs
        case ast.match_case(guard=ast.expr()):
            tests = [node.guard]
        case ast.Compare() | ast.Call(func=ast.Name(id="isinstance")):
            tests = [node]
        case ast.Match():
            patterns = [(case.pattern, ast.unparse(case.pattern)) for case in node.cases]
            form = f"isinstance({ast.unparse(node.subject)}, {{}})", f"{ast.unparse(node.subject)} == {{}}"
            return [(pattern, form["(" not in text].format(text)) for pattern, text in patterns if text != "_"]
        case _:
            tests = []
    return [(test, ast.unparse(test)) for test in tests]


def trace() -> dict[str, object]:
    """What `recog train digits` and a `recog predict` with its bundle enter, in a new folder with an empty cache."""
    from PIL import Image
    from sklearn.datasets import load_digits

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trained, output = _enter(folder, "train", "digits")
        levels = load_digits().images[0] * (255 / 16)
        Image.fromarray(levels.round().astype("uint8")).save(folder / "digit.png")
        (bundle,) = folder.glob("runs/*/bundle")
        predicted, _ = _enter(folder, "predict", str(bundle), "digit.png")
    return {
        "files that `recog train digits` enters": len({file for file, *_ in trained}),
        "functions that `recog train digits` enters": len(trained),
        "lines that `recog train digits` prints": len(output.splitlines()),
        "files that `recog predict BUNDLE IMAGE` enters": len({file for file, *_ in predicted}),
        "functions that `recog predict BUNDLE IMAGE` enters": len(predicted),
    }


def _enter(folder: Path, *arguments: str) -> tuple[list[list[object]], str]:
    """The functions that a command enters, in its own process and all threads of it, and what it prints into a pipe."""
    found = folder / "entered.json"
    command = [sys.executable, str(Path(__file__).resolve()), ENTER, str(found), *arguments]
    environment = {**_environment(), "XDG_CACHE_HOME": str(folder / "cache")}
    pipe, joined = subprocess.PIPE, subprocess.STDOUT
    ended = subprocess.run(command, cwd=folder, env=environment, stdout=pipe, stderr=joined, text=True)
    if ended.returncode:
        raise SystemExit(f"recog {' '.join(arguments)} ended with {ended.returncode}:\n{ended.stdout[-2000:]}")
    return json.loads(found.read_text(encoding="utf-8")), ended.stdout


def enter_here(found: Path, arguments: Sequence[str]) -> None:
    """Run a command of recog in this process and write the functions of the package that it enters to `found`."""
    start = str(PACKAGE) + os.sep
    entered: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(start):
            entered.add(frame.f_code)

    sys.argv = ["recog", *arguments]
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        from recog.cli import main as run_command

        run_command()
    finally:
        sys.setprofile(None)
        # modules and class bodies are not optimised; of the rest, comprehensions and lambdas have no name of their own
        functions = [code for code in entered if code.co_flags & inspect.CO_OPTIMIZED and code.co_name[0] != "<"]
        places = {(code.co_filename, code.co_qualname, code.co_firstlineno) for code in functions}
        found.write_text(json.dumps(sorted(places)), encoding="utf-8")


def _environment() -> dict[str, str]:
    """This one, with the package of this checkout before an installed one, and lines of one length."""
    return {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "COLUMNS": "80"}


def read_table(text: str) -> dict[str, dict[str, str]]:
    """Figure -> {label: value}, from a table that `write_table` wrote."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    header, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines] or [[]]
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


def write_table(table: Mapping[str, Mapping[str, str]]) -> str:
    labels = list(dict.fromkeys(label for values in table.values() for label in values))
    rows = [[name, *(values.get(label, "-") for label in labels)] for name, values in table.items()]
    header, *lines = [f"| {' | '.join(row)} |" for row in [["figure", *labels], *rows]]
    return "\n".join([header, "|---" * (len(labels) + 1) + "|", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", action="store_true", help="also run the two commands, which takes a minute")
    parser.add_argument("--label", default="now", help="the name of the column")
    parser.add_argument("--out", type=Path, help="a Markdown file to write; columns with other labels stay")
    parser.add_argument("--verbose", action="store_true", help="list small modules, circles and branches too")
    options = parser.parse_args()
    modules = read_modules(PACKAGE)
    once, circles = used_once(modules), find_circles(modules)
    branches = [branch for module in modules.values() for branch in find_branches(module)]
    figures = {
        **count_sizes(modules),
        f"modules under {SMALL} lines with exactly one importer": len(once),
        "broken import contracts (imports upwards)": broken_contracts(),
        "import circles between modules": len(circles),
        "branches on the task": len(branches),
        "files with such branches": len({place.partition(":")[0] for place, _, _ in branches}),
        **(trace() if options.trace else {}),
    }
    old = read_table(options.out.read_text(encoding="utf-8")) if options.out and options.out.exists() else {}
    names = dict.fromkeys([*figures, *old])
    table = {name: {**old.get(name, {}), options.label: str(figures.get(name, "-"))} for name in names}
    text = "# The structure of the package\n\nBy `python benchmarks/structure.py --trace`, which says how each is counted.\n\n"
    text += write_table(table) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    if options.verbose:
        print("Small modules and their importer:", *(f"{name} <- {one}" for name, one in once.items()), sep="\n")
        print("\nCircles:", *(", ".join(sorted(circle)) for circle in circles), sep="\n")
        print("\nBranches:", *(f"{place}  {way}: {test}" for place, way, test in branches), sep="\n")
        print("\nBy way:", *(f"{n} {way}" for way, n in Counter(way for _, way, _ in branches).most_common()), sep="\n")


if __name__ == "__main__":
    if sys.argv[1:2] == [ENTER]:
        enter_here(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
