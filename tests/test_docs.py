"""README and docs name only what exists: options, settings, links, fields of the bundle."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from typer.main import get_command

import recog
from recog.cli import COMMANDS, build_app
from recog.recipes.config import TrainConfig

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("README*.md")), ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PICTURES = sorted((ROOT / "docs" / "pictures").iterdir())
GOLDEN = ROOT / "tests" / "golden" / "digits-format-1-trust"
OTHER_TOOLS = {
    "--constraint", "--editable", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id",
    "--max-restarts", "--logdir", "--help", "--strict", "--read-only", "--cap-drop", "--security-opt", "--from",
    "--no-cache-dir", "--data-binary", "--data-dir", "--pretrained", "--num-classes", "--checkpoint", "--initial-checkpoint",
    "--model-ema", "--amp", "--img-size",
}  # fmt: skip
MODULES = {f"data.{path.stem}" for path in (ROOT / "src" / "recog" / "data").iterdir()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_exists(page):
    commands = get_command(build_app(COMMANDS)).commands.values()
    known = {
        name for command in commands for option in command.params for name in (*option.opts, *option.secondary_opts)
    } | OTHER_TOOLS
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", page.read_text())) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_exists(page):
    tables = {field.name: field.default_factory for field in fields(TrainConfig) if is_dataclass(field.default_factory)}
    known = {f"{table}.{field.name}" for table, kind in tables.items() for field in fields(kind)}
    named = re.findall(rf"`(?:--set '?)?((?:{'|'.join(tables)})\.[a-z]\w*)(?:=[^`]*)?`", page.read_text())
    settings = {name for name in named if not re.search(r"\.(json|safetensors|onnx|py|xml|bin|pt2|plan)$", name)}
    assert settings - known <= {"data.name", "data.fingerprint", "data.num_images"} | MODULES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists()


def test_the_site_builds(tmp_path):
    """Strict: a link or an anchor that leads nowhere is an error."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pictures_are_small_and_shown():
    pages = "".join(page.read_text() for page in PAGES)
    for picture in PICTURES:
        assert picture.stat().st_size < 150_000
        assert f"pictures/{picture.name})" in pages


@pytest.mark.parametrize("name", ["recog.json", "calibration.json", "report.json"])
def test_the_format_page_has_every_field(name):
    page = re.sub(r"```.*?```", "", (ROOT / "docs" / "bundle.md").read_text(), flags=re.DOTALL)
    named = {word for code in re.findall(r"`([^`]+)`", page) for word in re.findall(r"\w+", code)}
    table = json.loads((GOLDEN / name).read_text())
    parts = [table, *(table.get(key) or {} for key in ("preprocess", "fit", "sets", "unknown", "data"))]
    missing = {key for part in parts for key in part if not key.endswith("_ci95")} - named
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_import_and_function_exists(page):
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        for line in re.findall(r"^from recog.*$", code, re.MULTILINE):
            exec(line, {})
        assert set(re.findall(r"\brecog\.(\w+)\(", code)) <= set(recog.__all__)


def test_the_deployment_files_are_those_of_the_page():
    page = (ROOT / "docs" / "deploy.md").read_text()
    blocks = re.findall(r"```(?:dockerfile|ini|yaml)\n(.*?)```", page, re.DOTALL)
    files = [
        ROOT / "examples" / "deploy" / name
        for name in ("Dockerfile", "recog.service", "kubernetes.yaml", "kserve.yaml")
    ]
    assert blocks == [file.read_text() for file in files]
    assert all(str(file.relative_to(ROOT)) in page for file in files)
