"""One service for the tests of this folder, on a bundle that is committed."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from PIL import Image
from service import GOLDEN, serving


@pytest.fixture(scope="session")
def golden(tmp_path_factory):
    """In a run folder with a page, as `recog train` leaves it."""
    run = tmp_path_factory.mktemp("digits-1")
    bundle = Path(shutil.copytree(GOLDEN, run / "bundle"))
    shutil.copy(bundle / "run.toml", run)
    (run / "report.html").write_text("<!doctype html><title>digits-1</title>")
    return bundle


@pytest.fixture(scope="session")
def digits():
    """The first 40 of scikit-learn's digits as PNG files."""
    from sklearn.datasets import load_digits

    files = []
    for image in load_digits().images[:40]:
        file = io.BytesIO()
        Image.fromarray((image * 255 / 16).astype("uint8")).save(file, "PNG")
        files.append(file.getvalue())
    return files


@pytest.fixture(scope="session")
def service(golden):
    with serving(f"digits={golden}", "--quiet") as running:
        yield running


@pytest.fixture(scope="session")
def expected(digits):
    """What the bundle predicts in this process."""
    from recog.runtime.predictor import load

    return load(GOLDEN).predict(digits, reject=True)
