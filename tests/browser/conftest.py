"""A headless Chromium for the pages that recog writes or serves: Debian's, through Playwright.

Every test in this folder has the mark `browser`. Screenshots go to the folder in RECOG_SCREENSHOTS, else to a temporary one.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = (1280, 900), (390, 844)


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@dataclass(kw_only=True)
class OpenPage:
    """A page in the browser, with what went wrong on it and what it asked for."""

    page: object  # playwright's Page
    problems: list[str] = field(
        default_factory=list
    )  # console errors and warnings, uncaught exceptions, failed requests
    requests: list[str] = field(default_factory=list)  # addresses other than the page's own and data:

    def check_clean(self):
        assert self.problems == []
        assert self.requests == []

    def screenshot(self, name, *, full_page=True):
        folder = Path(os.environ.get("RECOG_SCREENSHOTS") or self.page.recog_folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.png"
        self.page.screenshot(path=path, full_page=full_page)
        return path

    def overflow_px(self):
        """How much wider the page is than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Playwright's Browser, with a profile of its own that is removed afterwards."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium: make test-browser installs it")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, tmp_path):
    """open_page(file or http address, size=DESKTOP, scheme="light") -> OpenPage; options of Playwright's context by name."""
    contexts = []

    def opened(target, *, size=DESKTOP, scheme="light", **options):
        address = target.absolute().as_uri() if isinstance(target, Path) else target
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            device_scale_factor=1,
            reduced_motion="reduce",
            **options,
        )
        contexts.append(context)
        page = context.new_page()
        page.recog_folder = tmp_path
        found = OpenPage(page=page)
        page.on(
            "console",
            lambda m: found.problems.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: found.problems.append(f"uncaught: {error}"))
        page.on("requestfailed", lambda request: found.problems.append(f"failed: {request.url[:200]}"))
        page.on(
            "request", lambda request: found.requests.append(request.url) if _leaves(request.url, address) else None
        )
        page.goto(address, wait_until="load")
        return found

    yield opened
    for context in contexts:
        context.close()


def _leaves(url, address):
    """Whether a request goes elsewhere than to the page itself, its own server or data that it holds."""
    if url.startswith(("data:", "blob:")):
        return False
    own = address if address.startswith("file:") else "/".join(address.split("/")[:3]) + "/"
    return url != own and not (not own.startswith("file:") and url.startswith(own))
