"""The browser export: files dropped on the page get the labels and probabilities that `recog predict` gives."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from picture_files import DISPLAY_P3, matrix_profile
from PIL import Image, ImageCms

from recog.core.errors import RecogError
from recog.deployment.targets import find_runtime
from recog.runtime.predictor import load
from recog.verbs.export import export

SRGB = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))  # columns, D50
GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1-trust"
CLASSIFY = """async (files) => {
    const { listModels, classify } = await import("./page/service.js");
    const [model] = await listModels();
    const made = files.map(([name, data]) => new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
    return classify(model, made);
}"""


class Isolated(http.server.SimpleHTTPRequestHandler):
    """With the headers that the README of the export names."""

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    try:
        find_runtime()
    except RecogError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("web") / "page"
    export(GOLDEN, "browser", images="digits", out=folder, seconds=0.01)
    return folder


@pytest.fixture(scope="module")
def address(exported):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Isolated, directory=str(exported)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def pictures(folder):
    """Smooth images, as photos are, of many sizes and kinds of files."""
    generator = np.random.default_rng(0)
    made = []
    for i, (size, name, options) in enumerate(
        [
            ((8, 8), "a.png", {}),
            ((61, 40), "b.png", {}),
            ((40, 61), "c.webp", {"lossless": True}),
            ((30, 27), "d.jpg", {"quality": 95, "subsampling": "4:4:4"}),  # too small to be reduced
            ((33, 50), "colour-halved.jpg", {"quality": 75, "subsampling": "4:2:0"}),
            ((200, 150), "reduced.jpg", {"quality": 90}),  # while it is decoded
        ]
    ):
        grid = generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        path = folder / f"{i}-{name}"
        Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC).save(path, **options)
        made.append(path)
    return made


def test_it_answers_as_recog_does(open_page, address, tmp_path):
    page = open_page(address)
    assert page.page.evaluate("crossOriginIsolated")
    files = pictures(tmp_path)
    given = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in files]
    answers = page.page.evaluate(CLASSIFY, given)
    for path, answer, expected in zip(files, answers, load(GOLDEN).predict(files, reject=True), strict=True):
        assert answer["label"] == expected.top(1)[0][0], path.name  # beside it stands whether it is unknown
        # the same pixels, but where colour of half the resolution is enlarged, and where recog's decoder reduces
        tolerance = 5e-2 if path.stem.endswith(("colour-halved", "reduced")) else 1e-3
        assert np.abs(np.array(list(answer["probs"].values())) - expected.probs).max() <= tolerance, path.name
        if tolerance == 1e-3:
            assert answer["label_set"] == list(expected.label_set), path.name
            assert answer["is_unknown"] == expected.is_unknown, path.name
            assert answer["unknown_score"] == pytest.approx(expected.unknown_score, abs=1e-3), path.name
    page.check_clean()


def test_colour_profiles_are_read_as_recog_reads_them(open_page, address, tmp_path):
    """One that means sRGB changes no level; of others the browser's rounding is another one."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    gamma = matrix_profile(SRGB, gamma=2.2, name=b"sRGB's colours, not its curve")
    rng = np.random.default_rng(1)
    grid = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((30, 27), Image.Resampling.BICUBIC)
    files, tolerances = [], []
    for i, (kind, profile, tolerance) in enumerate(
        [
            ("png", srgb, 1e-5),
            ("jpg", srgb, 1e-5),
            ("webp", srgb, 1e-5),
            ("jpg", gamma, 2e-2),
            ("png", DISPLAY_P3, 2e-2),
        ]
    ):
        files.append(tmp_path / f"{i}.{kind}")
        options = {"jpg": {"quality": 95, "subsampling": "4:4:4"}, "webp": {"lossless": True}}.get(kind, {})
        grid.save(files[-1], icc_profile=profile, **options)
        tolerances.append(tolerance)
    page = open_page(address)
    given = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in files]
    answers = page.page.evaluate(CLASSIFY, given)
    probs = load(GOLDEN).predict_proba(files)
    differences = [np.abs(np.array(list(a["probs"].values())) - p).max() for a, p in zip(answers, probs, strict=True)]
    assert (np.array(differences) <= tolerances).all(), differences


def test_the_page_shows_labels_and_says_that_images_stay(open_page, address, tmp_path):
    page = open_page(address)
    page.page.locator("#files").set_input_files([str(path) for path in pictures(tmp_path)[:3]])
    page.page.locator(".card").nth(2).wait_for()
    labels = [item.inner_text().split()[0] for item in page.page.locator(".card .label").all()]
    expected = [answer.label for answer in load(GOLDEN).predict([str(path) for path in pictures(tmp_path)[:3]])]
    assert labels == expected[::-1]  # the newest first
    assert page.page.locator("#privacy").inner_text() == "Images stay in this browser."
    assert page.page.locator("#snippets").is_hidden()
    page.screenshot("exported-page")
    page.page.set_viewport_size({"width": 390, "height": 844})
    assert page.overflow_px() == 0
    page.screenshot("exported-page-phone")
    page.check_clean()


def test_a_file_that_is_no_image_is_an_error_of_its_own(open_page, address):
    given = [["a.png", base64.b64encode(b"no image").decode()]]
    (answer,) = open_page(address).page.evaluate(CLASSIFY, given)
    assert answer == {"name": "a.png", "error": "This browser cannot read the file as an image."}


def test_all_that_it_needs_is_in_its_folder(exported):
    names = {path.name for path in (exported / "ort").iterdir()}
    assert names == {"ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"}
    for name in ("index.html", "page/app.js", "page/service.js", "pixels.mjs"):
        assert "://" not in (exported / name).read_text(encoding="utf-8"), name
    assert json.loads((exported / "contract.json").read_bytes())["name"] == GOLDEN.name
