"""Every command and every Python block of README and docs runs, on small data of the names that the pages use.

A block that cannot run here is preceded by `<!-- not run: REASON -->`. On `digits`, which is the same everywhere, the lines of
the output begin as the page shows them. A command that is shown with an error fails with that error. `recog serve` runs, at a
free port, until the page ends. A translated page has the blocks of its original.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from containers import labelled_pngs, png, write_folder
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRANSLATED = {ROOT / "README.zh-CN.md": PAGES[0]} | {
    page: page.parents[1] / page.name for page in sorted((ROOT / "docs" / "zh").glob("*.md"))
}
FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
_BLOCK = re.compile(
    r"(?P<mark><!-- not run: [^\n]+ -->\n+)?^```(?P<kind>\w*)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)
_COMMAND = re.compile(r"^\$ (.*(?:\\\n.*)*)", re.MULTILINE)
PRELUDE = """
import recog
clf = recog.load("flowers-1")
files = sorted(map(str, __import__("pathlib").Path("test").iterdir())) * 40
paths = sorted(map(str, __import__("pathlib").Path("small").glob("*/*.png")))
labels = [path.split("/")[1] for path in paths]
logits = __import__("numpy").eye(10, dtype="float32")
"""


@dataclass(frozen=True)
class Block:
    kind: str
    text: str

    @property
    def error(self) -> str | None:
        """The message of the error that the only command of the block ends with, as far as it is shown."""
        found = re.search(r"^[Ee]rror: (.*?)(?: \.\.\.)?$", self.text, re.MULTILINE)
        return found and found[1]

    @property
    def commands(self) -> list[str]:
        """Lines that begin with '$ '; without any, and without a language, all lines, where the block is one of commands."""
        found = _COMMAND.findall(self.text)
        is_plain = not self.kind and re.match(r"(recog|make|pip|torchrun) ", self.text)
        return found or (self.text.strip().splitlines() if is_plain else [])


def blocks_of(page: Path) -> list[Block]:
    return [Block(m["kind"], m["text"]) for m in _BLOCK.finditer(page.read_text()) if not m["mark"]]


def photo(seed, size=100):
    return png(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8))


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_data(folder):
    images = labelled_pngs(30, FLOWERS, size=100)  # so many that 'unknown' can be fitted on the validation split
    for (name, i), data in images.items():
        place = Path("train" if i < 26 else "test") / name / f"{i:03d}.png"
        write(folder / "all" / "flowers" / place, data)
        if i < 8 or i >= 26:  # fewer to train on, as fine-tuning takes long
            write(folder / "flowers" / place, data)
        if i >= 26:
            write(folder / "test" / f"{name}{i}.png", data)
    shutil.copytree(folder / "flowers", folder / "more-flowers")
    for name in ("photo.jpg", "sign.jpg"):
        Image.open(io.BytesIO(photo(len(name)))).save(folder / name)
    for i in range(3):
        write(folder / "photos" / f"{i}.png", photo(i))
    with (folder / "sample_submission.csv").open("w") as file:
        csv.writer(file).writerows([["image_id", "label"], *([path.stem, "?"] for path in (folder / "test").iterdir())])
    write_folder(labelled_pngs(12, ("defect", "good"), size=100), folder / "scans")
    write_folder(labelled_pngs(8, ("daisy",), size=100), folder / "daisies")
    for (name, i), data in labelled_pngs(8, ("daisy", "roses"), size=100).items():
        write(folder / "damaged" / name / f"{i}.png", data[:2000] if name == "daisy" and i < 5 else data)
    write_folder(labelled_pngs(12, ("a", "b", "c"), size=8), folder / "small")
    birds = labelled_pngs(7, ("owl", "rook"), size=100)
    for i, ((name, _), data) in enumerate(birds.items()):
        write(folder / "birds" / "images" / f"{name}{i}.png", data)
    with (folder / "birds" / "train.csv").open("w") as file:
        rows = [[f"{name}{i}", name] for i, (name, _) in enumerate(birds)]
        csv.writer(file).writerows([["image_id", "species"], *rows])
    for (name, i), data in labelled_pngs(8, ("cat", "dog"), size=100).items():
        write(folder / "pets" / f"{name}.{i}.jpg", data)
        write(folder / "pets" / f"{name}.{i}_mask.png", photo(i, 10))


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """The data, commands on the path, and the runs flowers-1 and flowers-2."""
    folder = tmp_path_factory.mktemp("docs")
    write_data(folder)
    for name, module in (("recog", "recog"), ("torchrun", "torch.distributed.run")):
        write(folder / "bin" / name, f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n'.encode())
        (folder / "bin" / name).chmod(0o755)
    run("recog train all/flowers --name flowers-1", folder)
    shutil.copytree(folder / "runs" / "flowers-1", folder / "runs" / "flowers-2")
    return folder


def environment_of(folder):
    return os.environ | {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'src'}:{os.environ.get('PYTHONPATH', '')}",
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "I": "1",
    }


def run(command, folder, *, fails=False):
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment_of(folder), capture_output=True, text=True, timeout=550
    )
    assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}{done.stderr}"
    return done.stderr + done.stdout


@contextmanager
def serving(command, folder):
    """The address of the service that `command` starts; it must end well when it is told to stop."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command.partition(' #')[0]} --port {port}"],
        cwd=folder, env=environment_of(folder), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        seen = ""
        while "ready: " not in seen:
            line = process.stderr.readline()
            assert line, f"{command}\n{seen}"
            seen += line
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == 0


def beginnings(output):
    """The first word of each line that is not indented, but for "..." and for epochs and expected times,
    which depend on the machine."""
    lines = [
        line for line in output.splitlines() if line.strip() and not line.startswith(" ") and " expected; " not in line
    ]
    words = [line.split()[0].rstrip(":") for line in lines]
    return [word for word in words if word not in ("epoch", "...")]


def test_every_page_has_its_blocks_found():
    kinds = [block.kind for page in PAGES for block in blocks_of(page)]
    assert kinds.count("python") > 10
    assert sum(len(block.commands) for page in PAGES for block in blocks_of(page)) > 20


def test_a_reason_stands_before_every_block_that_is_not_run():
    text = "\n".join(page.read_text() for page in PAGES)
    assert len(re.findall(r"<!-- not run", text)) == len(re.findall(r"<!-- not run: \w.{5,} -->\n+```", text))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.commands for b in blocks_of(page))], ids=lambda p: p.name
)
def test_the_commands_of_a_page_run(page, workshop, tmp_path):
    folder = shutil.copytree(workshop, tmp_path / "here", symlinks=True)
    address = "127.0.0.1:8000"
    with ExitStack() as services:
        for block in blocks_of(page):
            for command in block.commands:
                if command.startswith("recog serve") and not block.error:
                    address = services.enter_context(serving(command, folder))
                else:
                    check_command(command.replace("127.0.0.1:8000", address), block, folder)


def check_command(command, block, folder):
    output = run(command, folder, fails=block.error is not None)
    if block.error:
        assert _counts_aside(block.error) in _counts_aside(output)
    elif " digits" in command and block.text.count("\n") > 1:
        shown = beginnings(block.text.split("\n", 1)[1])
        actual = beginnings(output)
        assert [word for word in actual if word in shown] == shown, output


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_translated_page_has_the_blocks_of_its_original(page):
    """Compared up to comments: what they do is tested with the original."""
    ours, theirs = ([_code(block) for block in blocks_of(p)] for p in (page, TRANSLATED[page]))
    assert ours == theirs


def _counts_aside(text):
    return re.sub(r"\d+", "0", text)


def _code(block):
    return block.kind, re.sub(r"\s+#.*", "", block.text)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.kind == "python" for b in blocks_of(p))], ids=lambda p: p.name
)
def test_the_python_of_a_page_runs(page, workshop, tmp_path):
    folder = shutil.copytree(workshop, tmp_path / "here", symlinks=True)
    for file in (ROOT / "tests" / "golden" / "digits-format-1").iterdir():  # for the page on the format
        shutil.copy(file, folder)
    code = "\n".join([PRELUDE, *(block.text for block in blocks_of(page) if block.kind == "python")])
    (folder / "page.py").write_text(
        f"if __name__ == '__main__':\n{''.join(f'    {x}' for x in code.splitlines(True))}\n"
    )
    run(f"{sys.executable} page.py", folder)
