"""A contact sheet: thumbnails of the images by their answer, in one HTML file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recog.answers.annotate import map_pictures
from recog.answers.stream import Answer, Summary
from recog.core.errors import BadImage
from recog.core.files import new_file
from recog.core.images.decode import decode
from recog.core.outputs import check_new_path
from recog.report.html import render_page
from recog.report.pictures import thumbnail

MAX_PICTURES = 2_000  # in all, some 10 MB
_MAX_OF_ANSWER, _MIN_OF_ANSWER = 100, 4
_PX = 160  # longer side
NO_LABEL = "(no label)"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """`best` is the most probable class where the answer itself is none of them."""

    name: str
    image: str  # data URI
    map: str  # data URI of where the image counts for the answer; '' where that was not asked
    best: str
    confidence: float | None


@dataclass(kw_only=True)
class Section:
    """One answer: how many images have it, and the first of them."""

    label: str
    count: int = 0
    pictures: list[Picture] = field(default_factory=list)


class Sheet:
    """Collects the answers of an input called `title`; a bounded number of them is shown."""

    def __init__(self, title: str, class_names: Sequence[str]) -> None:
        self._title, self._order = title, class_names
        self._limit = max(_MIN_OF_ANSWER, min(_MAX_OF_ANSWER, MAX_PICTURES // max(1, len(class_names))))
        self._sections: dict[str, Section] = {}

    def add(self, answer: Answer) -> None:
        if isinstance(answer.result, BadImage):
            return
        for label in answer.labels or (NO_LABEL,):
            section = self._sections.setdefault(label, Section(label=label))
            section.count += 1
            if len(section.pictures) < self._limit:
                section.pictures.append(_picture(answer, label))

    def render(self, summary: Summary) -> bytes:
        """The page; classes in the order of the bundle, other answers behind them."""
        last = len(self._order)
        place = {label: i for i, label in enumerate(self._order)}
        sections = sorted(self._sections.values(), key=lambda section: place.get(section.label, last))
        page = render_page(
            ("sheet.html.j2",),
            title=self._title,
            num_images=summary.num_images,
            num_bad=summary.num_bad,
            sections=sections,
            bad=summary.bad,
            has_maps=any(picture.map for section in sections for picture in section.pictures),
        )
        return page.encode()


@contextlib.contextmanager
def sheet_file(path: Path, title: str, class_names: Sequence[str], summary: Summary) -> Iterator[Sheet]:
    """A Sheet whose page becomes `path` when the block ends, with the counts that `summary` has then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        sheet = Sheet(title, class_names)
        yield sheet
        file.write(sheet.render(summary))


def check_sheet(path: Path) -> None:
    """ConfigError, DataError or DiskError unless `path` is a new HTML file that can be created."""
    check_new_path(path, "--sheet", suffix=".html")


def _picture(answer: Answer, label: str) -> Picture:
    result = answer.result
    if isinstance(result, BadImage):
        raise result
    best, confidence = result.top(1)[0]
    probs = dict(zip(result.class_names, result.probs.tolist(), strict=True))
    if label in probs:
        best, confidence = label, probs[label]
    image = thumbnail(decode(answer.source, name=answer.name, min_side=_PX), _PX)
    return Picture(
        name=answer.name,
        image=image,
        map=_map(answer, best),
        best=best,
        confidence=None if result.is_unknown else confidence,
    )


def _map(answer: Answer, label: str) -> str:
    """The map of `label`, or of the first label that has one; '' where there is none."""
    maps = dict(map_pictures(answer))
    return thumbnail(maps.get(label, next(iter(maps.values()))), _PX) if maps else ""
