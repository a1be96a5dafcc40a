"""The browser export beside `recog predict` in headless Chromium: python benchmarks/export_browser.py RUN DATA

Labels and probabilities of the page, and how Chromium's JPEG decoder differs from Pillow's.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import io
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
from harness import write_result
from PIL import Image
from playwright.sync_api import sync_playwright

from recog.core.images.decode import decode
from recog.data.sources import open_source
from recog.runtime.predictor import load
from recog.verbs.export import export, file_of

NUM_PHOTOS = 50
CLASSIFY = """async (files) => {
    const { listModels, classify } = await import("./page/service.js");
    const [model] = await listModels();
    const bytes = (data) => Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    return classify(model, files.map((data, i) => new File([bytes(data)], String(i))));
}"""
DECODE = """async (data) => {
    const bitmap = await createImageBitmap(new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]));
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    const { data: pixels } = context.getImageData(0, 0, canvas.width, canvas.height);
    let text = "";
    for (let i = 0; i < pixels.length; i += 32768) text += String.fromCharCode(...pixels.subarray(i, i + 32768));
    return [bitmap.width, bitmap.height, btoa(text)];
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("data", help="labelled photos; of data with splits, the test split")
    arguments = parser.parse_args()
    samples = open_source(arguments.data).subset("test")
    chosen = [samples[i] for i in np.linspace(0, len(samples) - 1, NUM_PHOTOS).astype(int)]
    photos = [file_of(sample) for sample in chosen]
    predictor = load(arguments.run)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page"
        export(arguments.run, "browser", out=page, seconds=0.1)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(page)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as playwright:
            flags = ["--headless", "--no-sandbox", "--disable-gpu"]
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
            opened = browser.new_page()
            opened.goto(f"http://127.0.0.1:{server.server_port}/")
            rows = report(opened, "as found", photos, predictor)
            rows += report(opened, "4:2:0", [reencoded(photo) for photo in photos], predictor)
            rows += report(opened, "enlarged, 4:2:0", [reencoded(photo, scale=4) for photo in photos], predictor)
            version = browser.version
            browser.close()
        server.shutdown()
    heading = "| photos | n | labels equal | max difference of a probability | mean | decoded values that differ |"
    body = "\n".join([f"Chromium {version}, wasm on one thread.", "", heading, "|---|---|---|---|---|---|", *rows])
    write_result("export_browser", "The browser export beside recog predict", body)


def report(page, title, photos, predictor) -> list[str]:
    """Rows of the table: all photos, those that both decode to the same pixels at full size, and the others."""
    encoded = [base64.b64encode(photo).decode() for photo in photos]
    answers = page.evaluate(CLASSIFY, encoded)
    ours = predictor.predict_proba(photos)
    theirs = np.array([list(answer["probs"].values()) for answer in answers])
    pairs = zip(photos, encoded, strict=True)
    shares, most = np.array([decoder_difference(page, photo, text) for photo, text in pairs]).T
    rows = []
    num_profiles = sum("icc_profile" in Image.open(io.BytesIO(photo)).info for photo in photos)
    title = f"{title} ({num_profiles} with a colour profile)" if num_profiles else title
    for name, chosen in (("all", shares >= 0), ("same pixels", shares == 0), ("other pixels", shares > 0)):
        if not chosen.any():
            continue
        difference = np.abs(ours - theirs)[chosen]
        same = (ours.argmax(axis=1) == theirs.argmax(axis=1))[chosen].sum()
        pixels = f"{shares[chosen].mean():.2%}, at most {most[chosen].max():.0f} levels"
        rows.append(
            f"| {title}: {name} | {chosen.sum()} | {same} | {difference.max():.1e} | {difference.mean():.1e} | {pixels} |"
        )
    return rows


def decoder_difference(page, photo: bytes, text: str) -> tuple[float, float]:
    """(share of the values that Chromium decodes to another level than recog, the largest difference in levels)."""
    width, height, pixels = page.evaluate(DECODE, text)
    found = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)[..., :3]
    difference = np.abs(found.astype(int) - decode(photo))
    return float((difference > 0).mean()), float(difference.max())


def reencoded(photo: bytes, *, scale: int = 1) -> bytes:
    """The same photo as most cameras store it, with colour at half the resolution; so large that recog reduces it."""
    file = io.BytesIO()
    image = Image.fromarray(decode(photo))
    image.resize((scale * image.width, scale * image.height), Image.Resampling.BICUBIC).save(
        file, "JPEG", quality=90, subsampling="4:2:0"
    )
    return file.getvalue()


if __name__ == "__main__":
    main()
