"""Builds the wheel and installs it as a user does: `python .ci/wheel.py PYTHON`, PYTHON having the packages of all extras.

In a clean environment: the base install, which verifies a bundle; then one extra after the other, from the package index
where it is small. The large ones (torch, OpenVINO) come from PYTHON's environment: pip states what their extra lacks there.
At last a run is trained with the installed package, and its report is written.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = {
    "serve": "fastapi", "data": "pyarrow", "heic": "pillow_heif", "dicom": "pydicom", "dicom-jpeg": "pylibjpeg",
    "plots": "matplotlib", "hub": "huggingface_hub", "tune": "optuna", "postgresql": "psycopg",
}  # fmt: skip
OF_DEVELOPMENT = {"docs", "dev", "test-extras"}
LARGE = {"train": "timm", "fast": "openvino", "explain": "captum", "quantize": "nncf"}
CONSTRAINTS = ("--constraint", str(ROOT / "constraints.txt"))


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    print("$", *command, flush=True)
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}exit code {done.returncode}")
    return done.stdout


def check_files(wheel: Path) -> None:
    """Every file of the package that git knows is in the wheel: templates, the page, its scripts."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    known = {name.removeprefix("src/") for name in run("git", "ls-files", "src/recog").splitlines()}
    if known - packed:
        raise SystemExit(f"the wheel lacks {', '.join(sorted(known - packed))}")


def check_extras_are_known() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    unknown = declared.keys() ^ (SMALL.keys() | LARGE.keys() | OF_DEVELOPMENT)
    if unknown:
        raise SystemExit(f"pyproject.toml and this script differ on the extras {', '.join(sorted(unknown))}")


def check_extra(python: Path, wheel: Path, extra: str, module: str, *options: str) -> None:
    run(python, "-m", "pip", "install", "--quiet", *CONSTRAINTS, *options, f"{wheel}[{extra}]")
    run(python, "-c", f"import recog, {module}")


def main() -> None:
    full = Path(sys.argv[1]).absolute()
    check_extras_are_known()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(full, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
        (wheel,) = folder.glob("recog-*.whl")
        check_files(wheel)
        run(full, "-m", "venv", folder / "env")
        python = folder / "env" / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", *CONSTRAINTS, wheel)
        recog = python.with_name("recog")
        run(recog, "verify", ROOT / "tests" / "golden" / "digits-format-1", cwd=folder)
        for extra, module in SMALL.items():
            check_extra(python, wheel, extra, module)
        packages, environment = (
            run(each, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip() for each in (full, python)
        )
        (Path(environment) / "full.pth").write_text(packages)
        run(python, "-m", "pip", "uninstall", "--yes", "--quiet", "setuptools")  # venv's own is too old for torch
        for extra, module in LARGE.items():
            check_extra(python, wheel, extra, module, "--no-index")
        place = run(python, "-c", "import recog; print(recog.__file__)", cwd=folder)
        if not place.startswith(str(folder)):
            raise SystemExit(f"the package that ran is not the wheel's: {place}")
        run(recog, "train", "digits", "--epochs", "1", "--name", "digits", cwd=folder)
        run(recog, "report", "digits", "--png", "figures", cwd=folder)


if __name__ == "__main__":
    main()
