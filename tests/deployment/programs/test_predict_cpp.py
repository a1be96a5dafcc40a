"""The C++ program of an export, where a compiler and the headers of ONNX Runtime are: Debian 13 has libonnxruntime-dev."""

import os
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from recog.runtime.predictor import load

GOLDEN = Path(__file__).parents[2] / "golden" / "digits-format-1"
HEADER = "onnxruntime_cxx_api.h"
PLACES = ("/usr/include/onnxruntime", "/usr/include/onnxruntime/core/session", "/usr/local/include/onnxruntime")


def headers():
    """The folder in RECOG_ONNXRUNTIME_INCLUDE, or where packages put it."""
    for place in (os.environ.get("RECOG_ONNXRUNTIME_INCLUDE"), *PLACES):
        if place and (Path(place) / HEADER).is_file():
            return place
    pytest.skip(f"no {HEADER}: install libonnxruntime-dev, or name its folder in RECOG_ONNXRUNTIME_INCLUDE")


def library(folder):
    """The one inside the Python package, as a link of the name that the loader looks for."""
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    if not found:
        pytest.skip("this onnxruntime has its library within the Python module")
    link = folder / "libonnxruntime.so.1"
    link.symlink_to(found[0])
    return link


def test_it_prints_the_logits_of_the_bundle(tmp_path):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    include, linked = headers(), library(tmp_path)
    source = tmp_path / "predict.cpp"
    source.write_bytes((files("recog.deployment") / "programs" / "predict.cpp").read_bytes())
    command = [compiler, "-std=c++17", "-Wall", "-Werror", f"-I{include}", str(source), str(linked)]
    subprocess.run([*command, f"-Wl,-rpath,{tmp_path}", "-o", str(tmp_path / "predict")], check=True)
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), dtype=np.uint8)
    image.tofile(tmp_path / "pixels")
    ran = subprocess.run(
        [tmp_path / "predict", GOLDEN / "model.onnx", tmp_path / "pixels"], capture_output=True, text=True, check=True
    )
    expected = load(GOLDEN).engine(image).logits[0]
    np.testing.assert_allclose([float(line) for line in ran.stdout.split()], expected, rtol=1e-4)
