"""Copies of the answered images with their answers written below them, for `recog predict --save`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from recog.answers.sorting import sorted_names
from recog.answers.stream import Answer
from recog.attribution.overlay import blend
from recog.core.errors import BadImage, DataError
from recog.core.images.decode import decode
from recog.core.text import visible

MAX_PX = 1280  # longer side of a picture
MIN_WIDTH = 240  # of the text; smaller images are enlarged to it
NUM_LINES = 3  # classes below an image
MAX_MAPS = 4  # beside an image
_GAP = 8  # px between pictures
NO_LABEL = "(no label)"


@dataclass(kw_only=True)
class Annotator:
    """Write a JPEG into `folder` for each answer as it comes; `names` are the file names in the order of the answers.

    As a context manager it removes what it made if the block raises. Nothing that exists is overwritten.
    """

    folder: Path
    names: Sequence[str]
    _number: int = 0
    _made: list[Path] = field(default_factory=list)

    def __enter__(self) -> Annotator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            for path in reversed(self._made):
                with contextlib.suppress(OSError):
                    path.rmdir() if path.is_dir() else path.unlink()

    def add(self, answer: Answer) -> None:
        name, self._number = self.names[self._number], self._number + 1
        if isinstance(answer.result, BadImage):
            return
        path = self.folder / name
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            self._made.append(self.folder)
        try:
            with path.open("xb") as file:
                self._made.append(path)
                file.write(annotated(answer))
        except FileExistsError:
            raise DataError(f"{path} exists already. Choose another folder for --save, or move it away.") from None


def picture_names(names: Sequence[str]) -> Sequence[str]:
    """For each of `names` that of a JPEG, no two alike."""
    return sorted_names([name if name.lower().endswith((".jpg", ".jpeg")) else f"{name}.jpg" for name in names])


def annotated(answer: Answer) -> bytes:
    """A JPEG of the image with its answer below: the labels, then the most probable classes with their probabilities.

    Where maps were asked for they stand beside it, each over the part of the image that the network sees.
    """
    image = decode(answer.source, name=answer.name, channels=3, min_side=MAX_PX)
    picture = Image.fromarray(image)
    picture.thumbnail((MAX_PX, MAX_PX), Image.Resampling.LANCZOS)
    if picture.width < MIN_WIDTH:
        factor = -(-MIN_WIDTH // picture.width)
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    lines = _lines(answer)
    size = max(14, picture.width // 28)
    font, bold = ImageFont.load_default(size), ImageFont.load_default(size * 5 // 4)
    row = size * 3 // 2
    maps = _maps(answer, picture.height)
    width = picture.width + sum(shown.width + _GAP for _, shown in maps)
    canvas = Image.new("RGB", (width, picture.height + row * len(lines) + size), "white")
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    x = picture.width + _GAP
    for label, shown in maps:
        canvas.paste(shown, (x, 0))
        draw.text((x, picture.height + size // 2), f"counts for: {_drawn(label)}", fill="black", font=font)
        x += shown.width + _GAP
    for i, (text, prob) in enumerate(lines):
        y = picture.height + size // 2 + row * i
        if prob is not None:
            draw.rectangle((0, y, max(1, round(picture.width * prob)), y + row - 4), fill="#d3e2ea")
        draw.text((size // 2, y), text, fill="black", font=font if i else bold)
    buffer = io.BytesIO()
    canvas.save(buffer, format="jpeg", quality=90)
    return buffer.getvalue()


def map_pictures(answer: Answer) -> list[tuple[str, NDArray[np.uint8]]]:
    """(class, its map over what the network saw, uint8 [H, W, 3]); none where maps were not asked for."""
    result = answer.result
    if isinstance(result, BadImage) or result.maps is None or result.seen is None:
        return []
    seen = result.seen
    return [(label, blend(seen, shown)) for label, shown in zip(result.map_labels, result.maps, strict=True)]


def _maps(answer: Answer, height: int) -> list[tuple[str, Image.Image]]:
    """The first maps, as high as `height`."""
    pictures = [(label, Image.fromarray(shown)) for label, shown in map_pictures(answer)[:MAX_MAPS]]
    return [(label, p.resize((round(p.width * height / p.height), height))) for label, p in pictures]


def _lines(answer: Answer) -> list[tuple[str, float | None]]:
    """(text, probability or None): the answer, then the most probable classes."""
    result = answer.result
    if isinstance(result, BadImage):
        raise result
    head = ", ".join(answer.labels) or NO_LABEL
    rows: list[tuple[str, float | None]] = [(_drawn(head), None)]
    if not result.is_unknown:
        rows += [
            (f"{_drawn(label)}  {prob:.1%}", prob)
            for label, prob in result.top(min(NUM_LINES, len(result.class_names)))
        ]
    return rows


def _drawn(text: str) -> str:
    """Printable and short. The embedded font has Latin, Greek and Cyrillic; other characters are drawn as boxes."""
    return visible(text)[:60]
