"""Pictures without a plotting library: image grid and confusion matrix for TensorBoard; thumbnails as data URIs, re-encoded
without metadata, and read back from a page.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from recog.core.errors import DataError, ShapeError
from recog.core.records import read_bytes
from recog.core.text import visible

LARGEST_PX = 1024  # longest side; keeps event files small
MIN_CELL_PX, MAX_CELL_PX = 3, 48
NAMED_CLASSES = 30  # beyond, names and counts no longer fit
THUMBNAIL_PX = 240  # longer side; displayed at about 170 px, for high-density screens
SMALL_PX = 112
_LOSSLESS_PX = 64  # up to here PNG, which is no larger than JPEG
DATA_URI = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")
MAX_PAGE_BYTES = 64 << 20
_HIT, _MISS = np.array([31, 119, 80]), np.array([196, 64, 32])  # colours of a share of 1; a share of 0 is white


def image_grid(images: NDArray[np.uint8], *, max_images: int = 16) -> NDArray[np.uint8]:
    """uint8 [B, H, W, C], C of 1 or 3 -> one picture uint8 [H', W', 3]: up to `max_images` in a grid, small ones enlarged."""
    selected = images[:max_images]
    columns = math.ceil(math.sqrt(len(selected)))
    rows = math.ceil(len(selected) / columns)
    _, height, width, channels = selected.shape
    times = max(1, min(MAX_CELL_PX // max(height, width), LARGEST_PX // (columns * max(height, width))))
    if channels == 1:
        selected = np.repeat(selected, 3, axis=3)
    selected = selected.repeat(times, axis=1).repeat(times, axis=2)
    gap = 2
    cell_height, cell_width = height * times + gap, width * times + gap
    picture = np.full((rows * cell_height + gap, columns * cell_width + gap, 3), 255, dtype=np.uint8)
    for number, image in enumerate(selected):
        top, left = gap + number // columns * cell_height, gap + number % columns * cell_width
        picture[top : top + image.shape[0], left : left + image.shape[1]] = image
    return _limit_size(picture)


def confusion_picture(confusion: NDArray[np.int64], class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Counts int64 [K, K], row = true class, column = predicted -> a picture uint8 [H, W, 3].

    Green on the diagonal, red elsewhere, by share of the row (square root for errors). Up to 30 classes have names and counts.
    """
    support = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(support, 1)
    hits = np.eye(len(confusion), dtype=bool)
    strength = np.where(hits, shares, np.sqrt(shares))[..., None]
    colours = np.where(hits[..., None], _HIT, _MISS)
    cells = (255 + strength * (colours - 255)).round().astype(np.uint8)
    size = max(MIN_CELL_PX, min(MAX_CELL_PX, LARGEST_PX // len(confusion)))
    picture = cells.repeat(size, axis=0).repeat(size, axis=1)
    if len(confusion) > NAMED_CLASSES:
        return _limit_size(picture)
    return _with_names(picture, confusion, class_names, size)


def _with_names(
    cells: NDArray[np.uint8], confusion: NDArray[np.int64], class_names: Sequence[str], size: int
) -> NDArray[np.uint8]:
    font = ImageFont.load_default()
    names = [name if len(name) <= 16 else name[:15] + "\N{HORIZONTAL ELLIPSIS}" for name in map(visible, class_names)]
    margin = 12 + math.ceil(max(font.getlength(name) for name in names))
    picture = Image.new("RGB", (margin + cells.shape[1], margin + cells.shape[0]), "white")
    picture.paste(Image.fromarray(cells), (margin, margin))
    draw = ImageDraw.Draw(picture)
    across = Image.new("RGB", (cells.shape[1], margin), "white")
    for number, name in enumerate(names):
        middle = margin + number * size + size // 2
        draw.text((margin - 6, middle), name, fill="black", font=font, anchor="rm")
        upright = Image.new("RGB", (margin, size), "white")
        ImageDraw.Draw(upright).text((6, size // 2), name, fill="black", font=font, anchor="lm")
        across.paste(upright.rotate(90, expand=True), (number * size, 0))
        for other in range(len(names)):
            count = int(confusion[number, other])
            if count:
                place = (margin + other * size + size // 2, middle)
                is_dark = cells[number * size, other * size].mean() < 128
                draw.text(place, f"{count}", fill="white" if is_dark else "black", font=font, anchor="mm")
    picture.paste(across, (margin, 0))
    return np.asarray(picture, dtype=np.uint8)


def _limit_size(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = max(picture.shape[:2])
    if side <= LARGEST_PX:
        return picture
    size = (max(1, picture.shape[1] * LARGEST_PX // side), max(1, picture.shape[0] * LARGEST_PX // side))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX), dtype=np.uint8)


def thumbnail(image: NDArray[np.uint8], max_side: int = THUMBNAIL_PX) -> str:
    """Data URI of `image` uint8 [H, W, C], C 1 or 3, at most `max_side` px, re-encoded without metadata."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ShapeError(f"image is {image.dtype} {image.shape}; expected uint8 (H, W, C) with C 1 or 3.")
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "png" if max(picture.size) <= _LOSSLESS_PX else "jpeg"
    picture.save(buffer, format=kind, optimize=True, **({} if kind == "png" else {"quality": 75}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


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
