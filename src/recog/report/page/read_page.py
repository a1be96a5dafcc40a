"""The pictures of a report page, read back from the file."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from recog.core.errors import DataError
from recog.core.records import read_bytes
from recog.report.page.thumbnails import DATA_URI

MAX_PAGE_BYTES = 64 << 20


class _Pictures(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, str] = {}
        self._is_island = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, uri = given.get("data-name"), given.get("src")
        if tag == "img" and name and uri:
            self.found.setdefault(name, uri)
        self._is_island = tag == "script" and given.get("id") == "gallery"

    def handle_data(self, data: str) -> None:
        if not self._is_island:
            return
        try:
            images = json.loads(data)["images"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if isinstance(images, dict):
            self.found = {**images, **self.found}


def read_pictures(page: Path) -> dict[str, str]:
    """{image name: data URI} of the thumbnails on `page`; empty where there is no page or it has none."""
    try:
        source = read_bytes(page, max_bytes=MAX_PAGE_BYTES, error=DataError).decode(errors="replace")
    except DataError:
        return {}
    parser = _Pictures()
    parser.feed(source)
    parser.close()
    return {name: uri for name, uri in parser.found.items() if isinstance(uri, str) and DATA_URI.fullmatch(uri)}
