"""The page of the service: images dropped, chosen and pasted get the labels that `recog predict` gives."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from service import serving
from sklearn.datasets import load_digits

from recog.runtime.predictor import load

GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1-trust"
PHONE = (390, 844)
DROP = """([name, data]) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
    const init = { bubbles: true, cancelable: true };
    document.dispatchEvent(new DragEvent("drop", { ...init, dataTransfer: transfer }));
}"""
PASTE = (
    DROP.replace("DragEvent", "ClipboardEvent").replace('"drop"', '"paste"').replace("dataTransfer:", "clipboardData:")
)


@pytest.fixture(scope="module")
def service(digits_run, tmp_path_factory):
    """In a run folder, whose page the service shows."""
    run = tmp_path_factory.mktemp("run")
    bundle = shutil.copytree(GOLDEN, run / "bundle")
    shutil.copy(GOLDEN / "run.toml", run)
    shutil.copy(digits_run.folder / "report.html", run)
    with serving(f"digits={bundle}", "--quiet") as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    for number in range(20):
        image = Image.fromarray((load_digits().images[number] * 255 / 16).astype("uint8"))
        image.save(folder / f"{number:02d}.png")
    return sorted(folder.iterdir())


def predicted(*paths):
    command = [sys.executable, "-m", "recog", "predict", str(GOLDEN), *map(str, paths), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = (
        [json.loads(line) for line in done.stdout.splitlines()]
        if done.stdout.startswith("{")
        else json.loads(done.stdout)
    )
    return [row["label"] for row in rows]


def labels(page, count):
    """The labels of the cards, the newest last."""
    page.locator(".card").nth(count - 1).wait_for()  # no wait_for_function: it evaluates text, which the policy forbids
    assert page.locator(".card").count() == count
    texts = [item.inner_text() for item in page.locator(".card .label").all()]
    return [text.split()[0] for text in reversed(texts)]


def encoded(path):
    import base64

    return [path.name, base64.b64encode(path.read_bytes()).decode()]


def test_an_image_that_is_dropped_gets_the_label_of_predict(service, files, open_page):
    opened = open_page(f"http://127.0.0.1:{service.port}/")
    opened.page.wait_for_selector("#model-facts:has-text('10 classes')")
    opened.page.evaluate(DROP, encoded(files[3]))
    assert labels(opened.page, 1) == predicted(files[3])
    assert opened.page.locator(".card .name").inner_text() == "03.png"
    assert opened.page.locator(".card .classes li").count() == 5
    opened.page.evaluate(PASTE, encoded(files[5]))
    assert labels(opened.page, 2) == predicted(files[3], files[5])
    opened.screenshot("serve-dropped")
    opened.check_clean()


def test_many_files_and_one_that_is_no_image(service, files, open_page, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"<b>no image</b>")
    opened = open_page(f"http://127.0.0.1:{service.port}/")
    opened.page.set_input_files("#files", [*files, bad])
    opened.page.locator(".card").nth(20).wait_for()
    assert "not an image" in opened.page.locator(".card .error:not([hidden])").inner_text()
    assert opened.page.locator("#progress").inner_text() == "21 images"
    shown = [item.inner_text() for item in opened.page.locator("#counts li").all()]
    assert "not readable: 1" in shown
    assert sum(int(text.rpartition(" ")[2]) for text in shown) == 21
    opened.page.click("#clear")
    assert opened.page.locator(".card").count() == 0
    opened.check_clean()


def test_an_unfamiliar_image_is_marked(service, open_page, tmp_path):
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(file, "PNG")
    (tmp_path / "noise.png").write_bytes(file.getvalue())
    opened = open_page(f"http://127.0.0.1:{service.port}/")
    opened.page.set_input_files("#files", [tmp_path / "noise.png"])
    opened.page.wait_for_selector(".card.is-unknown .unknown:not([hidden])")
    assert opened.page.locator("#counts").inner_text() == "unknown: 1"
    opened.check_clean()


def test_keyboard_report_and_snippets(service, open_page):
    opened = open_page(f"http://127.0.0.1:{service.port}/")
    page = opened.page
    page.wait_for_selector("#report:not([hidden])")
    assert page.locator("#report").get_attribute("href") == "report?model=digits"
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"report", "choose", "choose-folder", "SUMMARY"} <= set(reached)
    page.locator("summary").press("Enter")
    assert f"http://127.0.0.1:{service.port}/predict?model=digits" in page.locator("#curl").inner_text()
    page.click("[data-copy=curl]")
    page.wait_for_selector("[data-copy=curl]:has-text('Copied')")
    opened.check_clean()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), PHONE])
def test_it_fits_every_window(service, files, open_page, scheme, size):
    opened = open_page(f"http://127.0.0.1:{service.port}/", size=size, scheme=scheme)
    opened.page.set_input_files("#files", files[:6])
    labels(opened.page, 6)
    assert opened.overflow_px() <= 0
    opened.screenshot(f"serve-{scheme}-{size[0]}")
    opened.check_clean()


def test_the_report_opens_without_errors(service, open_page):
    opened = open_page(f"http://127.0.0.1:{service.port}/report?model=digits")
    assert opened.page.locator("h1").count() >= 1
    assert opened.requests == []


def test_python_snippet_runs(service, files, open_page, tmp_path):
    opened = open_page(f"http://127.0.0.1:{service.port}/")
    opened.page.wait_for_selector("#report:not([hidden])")
    opened.page.locator("summary").press("Enter")
    code = opened.page.locator("#python").inner_text()
    (tmp_path / "photo.jpg").write_bytes(files[3].read_bytes())
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"'label': '{predicted(files[3])[0]}'" in done.stdout


def test_where_an_image_counts_is_drawn_where_the_model_can(service, mapped_bundle, files, open_page):
    """The canvas lies on what the network sees, here the whole image, and is brightest where the map of predict is."""
    opened = open_page(f"http://127.0.0.1:{service.port}/")
    opened.page.wait_for_selector("#model-facts:has-text('10 classes')")
    assert opened.page.locator("#explain-choice").is_hidden()
    with serving(f"mapped={mapped_bundle}", "--quiet") as mapped:
        opened = open_page(f"http://127.0.0.1:{mapped.port}/")
        opened.page.check("#explain")
        opened.page.set_input_files("#files", [files[3]])
        opened.page.wait_for_selector(".has-map canvas:not([hidden])")
        found = load(mapped_bundle).predict(str(files[3]), explain=True)
        script = """() => {
            const canvas = document.querySelector("canvas");
            return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
        }"""
        alphas = opened.page.evaluate(script)[3::4]
        assert alphas.index(max(alphas)) == found.maps[0].argmax()
        picture, canvas = (opened.page.locator(f".card {name}").bounding_box() for name in ("img", "canvas"))
        assert canvas == pytest.approx(picture, abs=1)
        opened.page.click(".maps button:has-text('image alone')")
        assert opened.page.locator("canvas").is_hidden()
        opened.screenshot("serve-map")
        opened.check_clean()
