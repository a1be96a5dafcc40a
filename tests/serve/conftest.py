"""One service for the tests of this folder, on a bundle that is committed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from service import serving

GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1-trust"


@pytest.fixture(scope="session")
def golden():
    return GOLDEN


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
def service():
    with serving(f"digits={GOLDEN}", "--quiet") as running:
        yield running


@pytest.fixture(scope="session")
def expected(digits):
    """What the bundle predicts in this process."""
    from recog.runtime.predictor import load

    return load(GOLDEN).predict(digits, reject=True)
