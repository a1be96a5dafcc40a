"""The programs beside an export prepare images byte for byte as recog does, without recog."""

import io
import json
import shutil
import subprocess
import sys
from importlib.resources import files
from itertools import product

import numpy as np
import pytest
from PIL import Image

from recog.core.preprocess import CROP_MODES, INTERPOLATIONS, Preprocess
from recog.deployment.programs.predict import Model

SIZES = ((37, 64), (64, 37), (48, 48), (9, 200), (200, 9), (20, 24))  # width, height
PIXELS_JS = files("recog.deployment") / "programs" / "pixels.mjs"
RULES = [
    Preprocess(image_size=size, channels=channels, interpolation=name, crop_mode=mode, crop_pct=pct, fill=fill)
    for name, mode in product(INTERPOLATIONS, CROP_MODES)
    for size, channels, pct, fill in (((24, 24), 3, 0.875, (10, 20, 30)), ((16, 21), 1, 1.0, (7,)))
]


def random_image(size, seed=0, mode="RGB"):
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    return Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def reader(rules):
    """A Model that only reads."""
    model = Model.__new__(Model)
    model.contract = {"preprocess": json.loads(json.dumps(rules.to_dict()))}
    return lambda data: model.read(io.BytesIO(data))


def test_python_reads_the_pixels_that_recog_reads():
    files_of_sizes = [encoded(random_image(size)) for size in SIZES]
    for rules in RULES:
        read = reader(rules)
        for data in files_of_sizes:
            np.testing.assert_array_equal(read(data), rules.read(data), err_msg=str(rules))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "data",
    [
        encoded(random_image((50, 40), mode="RGBA")),
        encoded(random_image((50, 40), mode="L")),
        encoded(random_image((50, 40)).quantize(16)),
        encoded(random_image((401, 300)), "JPEG"),  # above four times the scaled size: reduced while it is decoded
        encoded(
            random_image((50, 40)),
            "JPEG",
            exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
        ),
        encoded(random_image((50, 40)), "WEBP", lossless=True),
    ],
    ids=["transparent", "grey", "palette", "large JPEG", "turned", "WebP"],
)
def test_python_reads_every_common_kind_of_file(data, channels):
    rules = Preprocess(image_size=(24, 24), channels=channels, crop_pct=0.875)
    np.testing.assert_array_equal(reader(rules)(data), rules.read(data))


SCRIPT = """
import { readFileSync, writeFileSync } from "node:fs";
import { fit } from "./pixels.mjs";
const cases = JSON.parse(readFileSync("cases.json"));
const pixels = readFileSync("pixels");
let at = 0;
const results = cases.map(({ rules, width, height }) => {
  const data = pixels.subarray(at, (at += width * height * 4));
  return fit({ data, width, height }, rules);
});
writeFileSync("results", Buffer.concat(results));
"""


def fitted_by_node(folder, cases):
    """uint8 arrays [H, W, C] of `cases`: (Preprocess, Pillow image)."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js")
    (folder / "pixels.mjs").write_bytes(PIXELS_JS.read_bytes())
    (folder / "run.mjs").write_text(SCRIPT)
    table = [{"rules": rules.to_dict(), "width": image.width, "height": image.height} for rules, image in cases]
    (folder / "cases.json").write_text(json.dumps(table))
    (folder / "pixels").write_bytes(b"".join(image.convert("RGBA").tobytes() for _, image in cases))
    subprocess.run([node, "run.mjs"], cwd=folder, check=True)
    found, at, data = [], 0, (folder / "results").read_bytes()
    for rules, _ in cases:
        shape = (*rules.image_size, rules.channels)
        size = int(np.prod(shape))
        found.append(np.frombuffer(data[at : at + size], np.uint8).reshape(shape))
        at += size
    return found


def test_javascript_fits_pixels_bit_for_bit_as_pillow(tmp_path, monkeypatch):
    """Pillow, from version 13 on, scales some images first along the one axis, then along the other; the page always by width
    first, as Pillow did before. Only where the aspect changes does the order decide, and by rounding alone."""
    cases = [(rules, random_image(size, seed)) for rules in RULES for seed, size in enumerate(SIZES)]
    fitted = fitted_by_node(tmp_path, cases)
    for (rules, image), found in zip(cases, fitted, strict=True):
        difference = np.abs(found.astype(int) - rules.fit(image.convert("L" if rules.channels == 1 else "RGB"), ""))
        assert difference.max() <= (0 if rules.crop_mode == "center" else 10), (rules, image.size)
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda image, size, method: resize(resize(image, (size[0], image.height), method), size, method),
    )
    for (rules, image), found in zip(cases, fitted, strict=True):
        expected = rules.fit(image.convert("L" if rules.channels == 1 else "RGB"), "")
        np.testing.assert_array_equal(found, expected, err_msg=f"{rules} {image.size}")


def test_predict_needs_nothing_of_recog(tmp_path):
    """In a process where importing recog fails."""
    shutil.copyfile(files("recog.deployment") / "programs" / "predict.py", tmp_path / "predict.py")
    code = "import sys; sys.modules['recog'] = None; sys.path.insert(0, '.'); import predict; print(predict.Model.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "Model\n"
