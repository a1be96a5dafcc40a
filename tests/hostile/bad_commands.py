"""Commands that a user or a script gets wrong, or that meet hostile names and streams: lines of bash with their outcome.

$R is recog, $G a bundle. The folder holds pets/ (two classes), images/ (two digits), and what `build` adds.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from containers import labelled_pngs, write_folder
from PIL import Image


@dataclass(frozen=True)
class Command:
    """`says`: a pattern of stdout or stderr. `code`: the exit code, or several where the moment decides."""

    kind: int
    name: str
    line: str
    code: int | tuple[int, ...]
    says: str = ""
    build: Callable[[Path], object] | None = None
    environment: tuple[tuple[str, str], ...] = ()


def build_world(folder: Path) -> None:
    write_folder(labelled_pngs(4, classes=("cat", "dog"), size=9), folder / "pets")
    (folder / "images").mkdir()
    for i in range(2):
        Image.fromarray(np.full((8, 8), 90 + i, np.uint8)).save(folder / "images" / f"{i}.png")


def _taken(folder: Path) -> None:
    (folder / "taken").write_text("mine")


def ignored_settings():
    for option, name in (
        ("--epochs 3", "--epochs"),
        ("--lr 0.1", "--lr"),
        ("--optimizer adam", "--optimizer"),
        ("--batch-size 8", "--batch-size"),
        ("--set augment.mixup=0.2", "augment.mixup"),
        ("--set loss.label_smoothing=0.1", "loss.label_smoothing"),
        ("--set schedule.warmup_fraction=0.1", "schedule.warmup_fraction"),
        ("--set stop.patience=3", "stop.patience"),
    ):
        says = f"recipe head does not use {name}. Remove .*, or use --recipe finetune"
        yield Command(49, f"head with {name}", f"$R train digits --recipe head {option}", 2, says)
    for recipe in ("head", "finetune", "scratch"):
        line = f"$R train digits --recipe {recipe} --weights gone.safetensors"
        yield Command(49, f"{recipe}: weights that are absent", line, 2, "gone.safetensors not found")
    yield Command(49, "an unknown setting", "$R train digits --set optim.rate=1", 2, "unknown setting 'optim.rate'")
    yield Command(
        49, "find-lr with lr", "$R train digits --find-lr --lr 0.1 --recipe scratch", 2, "conflicts with --find-lr"
    )
    yield Command(49, "scan with a setting", "$R scan pets --set augment.mixup=1", 2, "--set needs --preview")
    yield Command(49, "scan with --run only", "$R scan pets --run $G", 2, "--run needs --deep")
    yield Command(49, "an unknown tracker", "$R train digits --log-to nothing", 2, "one of none, mlflow, wandb")
    line = "$R predict $G images --save taken && false || test $? = 3 && grep -q mine taken"
    yield Command(49, "save into a file", line, 0, "taken, which is not a folder", _taken)
    yield Command(49, "push to no repository", "$R push $G flowers", 4, "expected OWNER/NAME")
    yield Command(
        49, "an address of the hub without a name", "$R predict hf://flowers images", 4, "expected OWNER/NAME"
    )
    yield Command(49, "an unknown slice", "$R evaluate $G digits --slice shape", 2, "cannot be sliced by 'shape'")


def _odd_classes(folder: Path) -> None:
    for name in ("\x1b[31mcat", "\u202edog", "a\nb", "x\u200by", os.fsdecode(b"caf\xe9")):
        write_folder({(name, i): data for (_, i), data in labelled_pngs(3, classes=(name,)).items()}, folder / "odd")


def _odd_images(folder: Path) -> None:
    for name in ("\x1b[2J.png", "\u202egnp.png", "a\nb.png", "\x9b31m.png"):
        Image.fromarray(np.full((8, 8), 90, np.uint8)).save(folder / "images" / name)


def _odd_list(folder: Path) -> None:
    rows = "".join(f"pets/cat/{i:03d}.png,\x1b[31mcat,\x07\npets/dog/{i:03d}.png,dog,b\n" for i in range(4))
    (folder / "list.csv").write_text("path,label,\x1b]0;title\x07\n" + rows)


def marks():
    """Files of marked images that cannot be obeyed."""
    for option, text, says in (
        ("--exclude", "file,action\ncat/000.png,exclude\n", "has no column 'image'"),
        ("--exclude", "image,action\ncat/000.png,delete\n", "line 2: the action is 'delete'"),
        ("--exclude", "image\ncat/999.png\n", "1 image that pets does not have: cat/999.png"),
        ("--exclude", "image,action\ncat/000.png,\n", "no row .* has the action 'exclude'"),
        ("--relabel", "image,new_label\ncat/000.png,dgo\n", "'dgo' is no class of pets"),
        ("--relabel", "image,label\ncat/000.png,dog\n", "has no column 'new_label'"),
    ):
        yield Command(39, f"{option} {says}", f"$R scan pets {option} marks.csv", 3, says, _put_marks(text))
    yield Command(39, "marks that are absent", "$R scan pets --exclude gone.csv", 3, "there is no file gone.csv")


def _put_marks(text):
    return lambda folder: (folder / "marks.csv").write_text(text)


def hostile_texts():
    escaped = r"\\x1b\[31mcat"
    yield Command(51, "class folders: scan", "$R scan odd", 0, escaped, _odd_classes)
    yield Command(51, "class folders: scan as JSON", "$R scan odd --json", 0, r"\\u001b\[31mcat", _odd_classes)
    yield Command(51, "class folders: evaluate", "$R evaluate $G odd", (2, 3, 4), "", _odd_classes)
    for option in ("", "--csv", "--json"):
        escape = r"\\u001b\[2J" if option == "--json" else r"\\x1b\[2J"
        yield Command(51, f"files: predict {option}", f"$R predict $G images {option}", 0, escape, _odd_images)
    yield Command(51, "a list: scan", "$R scan list.csv", 0, escaped, _odd_list)
    yield Command(51, "an argument: scan", r"$R scan $'gone\x1b[31m\u202e'", 3, r"gone\\x1b\[31m\\u202e")
    yield Command(51, "an argument: predict", r"$R predict $G $'gone\x1b[31m.png'", 3, r"gone\\x1b\[31m.png")
    yield Command(51, "a setting", r"$R train digits --set $'\x1b[31m=1'", 2, r"\\x1b\[31m")
    yield Command(51, "a bundle", r"$R predict $'gone\x1b[31m' images", 4, r"gone\\x1b\[31m")


def _wide_images(folder: Path) -> None:
    for name in ("ü中.png", os.fsdecode(b"\xff.png")):
        Image.fromarray(np.full((8, 8), 90, np.uint8)).save(folder / "images" / name)


def encodings():
    for encoding in ("cp1252", "latin-1", "ascii", "utf-8"):
        environment = (("PYTHONIOENCODING", encoding),)
        wide = "ü中.png" if encoding == "utf-8" else r"\\u4e2d.png"
        for option in ("", "--csv"):
            line = f"$R predict $G images {option}"
            yield Command(52, f"predict {option} in {encoding}", line, 0, wide, _wide_images, environment)
        line = "$R predict $G images --json"
        yield Command(52, f"predict --json in {encoding}", line, 0, '"file": "images/', _wide_images, environment)
    yield Command(
        52, "the C locale", "$R predict $G images", 0, "", _wide_images, (("LC_ALL", "C"), ("PYTHONUTF8", "0"))
    )


LONG = "x" * 300


def _odd_places(folder: Path) -> None:
    (folder / "file").write_text("x")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    (folder / "own.png").write_bytes((folder / "images/0.png").read_bytes())


def outputs():
    """`says` of a name: what is wrong with it."""
    names = {
        "a/b": "contains /",
        "..": "is no name",
        "": "is no name",
        "../up": "contains /",
        LONG: "has more than 200 bytes",
    }
    names |= {"a:b": "contains :", ".hid": "starts with", "CON": "is reserved by Windows", "a\x1bb": r"contains \\x1b"}
    for name, says in names.items():
        line = f"$R train pets --name=$'{name}'"
        yield Command(53, f"a run called '{name[:9]}'", line, 2, f"--name is '.*', which {says}")
    for out in ("file/below", "loop/x", LONG, "folder", "file"):
        line = f"$R evaluate $G pets --out {out}"
        yield Command(53, f"--out {out[:10]}", line, (2, 3, 74), "error: ", _odd_places)
    for preview in ("file/x.png", "loop/x.png", f"{LONG}.png", "folder", "own.png", "new.jpg"):
        line = f"$R scan pets --preview {preview} && exit 1; code=$?; cmp own.png images/0.png && exit $code"
        yield Command(53, f"--preview {preview[:10]}", line, (2, 3, 74), "error: ", _odd_places)
    for line in (
        "$R scan loop",
        "$R predict $G loop",
        "$R evaluate $G loop",
        f"$R scan {LONG}",
        f"$R predict {LONG} images",
    ):
        yield Command(53, f"{line[:20]} to read", line, (2, 3, 4, 74), "", _odd_places)


def _odd_run(change: Callable[[Path], object]) -> Callable[[Path], object]:
    def build(folder: Path) -> None:
        shutil.copytree(os.environ["RECOG_TEST_RUN"], folder / "run")
        change(folder / "run")

    return build


def _interrupted(change: Callable[[Path], object] = lambda run: None) -> Callable[[Path], object]:
    """A run as it is after an interruption: without its bundle and report."""

    def cut(run: Path) -> None:
        shutil.rmtree(run / "bundle")
        for name in ("report.json", "report.html"):
            (run / name).unlink()
        change(run)

    return _odd_run(cut)


def _put_pipe(name: str) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return change


def _pipe(name: str) -> Callable[[Path], object]:
    return _odd_run(_put_pipe(name))


def _put_text(name: str, text: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(text)


def _text(name: str, text: str) -> Callable[[Path], object]:
    return _odd_run(_put_text(name, text))


def _bundle_elsewhere(run: Path) -> None:
    (run / "bundle").rename(run / "else")
    (run / "bundle").symlink_to("/etc")


def run_folders():
    evaluate, resume = "$R evaluate run digits", "$R train --resume run"
    deep = "[" * 100_000
    yield Command(
        54, "splits.json nested deeply", evaluate, 4, "nested more than 32 levels deep", _text("splits.json", deep)
    )
    yield Command(54, "splits.json of another form", evaluate, 4, "splits.json", _text("splits.json", '{"splits": 1}'))
    yield Command(54, "recog.json as a pipe", evaluate, 4, "", _pipe("bundle/recog.json"))
    yield Command(54, "model.onnx as a pipe", evaluate, 4, "", _pipe("bundle/model.onnx"))
    for name in ("splits.json", "test_openings.jsonl"):
        yield Command(54, f"{name} as a pipe", evaluate, (3, 4), f"{name} is a named pipe; expected a", _pipe(name))
    linked = "evaluations is a symbolic link; expected a folder"
    yield Command(
        54, "evaluations as a link", evaluate, 3, linked, _odd_run(lambda run: (run / "evaluations").symlink_to("/"))
    )
    yield Command(54, "a bundle that is a link elsewhere", evaluate, 4, "", _odd_run(_bundle_elsewhere))
    yield Command(
        54, "a finished run", resume, 7, "run is finished: there is nothing to resume", _odd_run(lambda run: None)
    )
    yield Command(54, "an interrupted run", resume, 0, "done in", _interrupted())
    for name, change, code, says in (
        ("run.toml that is no TOML", _put_text("run.toml", "x = ["), 2, "run.toml"),
        ("a pipe for run.toml", _put_pipe("run.toml"), 7, "there is no run 'run' to resume"),
        ("a pipe for debug.log", _put_pipe("debug.log"), 0, "debug.log cannot be written in full"),
        ("a pipe for metrics.jsonl", _put_pipe("metrics.jsonl"), 0, "metrics.jsonl cannot be written in full"),
        ("deep JSON for splits.json", _put_text("splits.json", deep), 4, "error: run/splits.json is nested more"),
    ):
        yield Command(54, name, resume, code, says, _interrupted(change))


def streams():
    for line in (
        "$R --help",
        "$R --version",
        "$R predict --help",
        "$R predict $G images",
        "$R predict $G images --csv",
    ):
        yield Command(58, f"{line} into a full disk", f"{line} >/dev/full", 74)
    for line in ("$R predict $G images --csv", "$R predict $G images --json", "$R --version"):
        yield Command(58, f"{line} into a closed stream", f"{line} >&-", 0)
    yield Command(58, "stderr into a full disk", "$R predict $G gone.png 2>/dev/full", 3)
    yield Command(58, "all streams closed", "$R predict $G images <&- >&- 2>&-", 0)
    yield Command(58, "a reader that leaves", "$R scan pets --json | head -c 9", 0)
    for name in ("INT", "TERM"):
        for delay in (0.2, 0.4):
            line = f"timeout -s {name} {delay} $R predict $G - < <(sleep 5)"  # never ends before the signal
            yield Command(58, f"{name} after {delay} s", line, (124, 130, 143))  # timeout's own code, or recog's


COMMANDS = [*ignored_settings(), *marks(), *hostile_texts(), *encodings(), *outputs(), *run_folders(), *streams()]
KINDS = sorted({command.kind for command in COMMANDS})


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
