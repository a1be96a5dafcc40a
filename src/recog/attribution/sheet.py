"""`explain.html`: images with their maps, the checks of the method and what may be concluded; one file, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recog.attribution.check import MethodCheck
from recog.attribution.overlay import SHOWN_PX, colours
from recog.attribution.shortcuts import ShortcutHint
from recog.attribution.table import EXPLAINERS
from recog.report.html import render_page
from recog.report.pictures import thumbnail


@dataclass(frozen=True, kw_only=True)
class View:
    """One label of an image: why it was predicted, or what speaks for it where it is true."""

    label: str
    prob: float  # calibrated
    role: str  # 'predicted', 'true' or 'asked for'
    picture: str  # data URI of the map over the image


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    name: str
    label: str
    similarity: float  # cosine of the centred features, in [-1, 1]
    picture: str  # data URI


@dataclass(frozen=True, kw_only=True)
class Card:
    """An image and its maps."""

    name: str
    predicted: str
    true: str  # '' where it is not known
    picture: str  # data URI
    views: tuple[View, ...]
    neighbours: tuple[Neighbour, ...] = ()

    @property
    def is_wrong(self) -> bool:
        return bool(self.true) and self.true != self.predicted


@dataclass(frozen=True, kw_only=True)
class Sheet:
    title: str
    bundle: str
    method: str
    why_method: str
    cards: tuple[Card, ...]
    shortcuts: tuple[ShortcutHint, ...] = ()
    checks: tuple[MethodCheck, ...] = ()


def render_sheet(sheet: Sheet) -> str:
    """The page. Names of images and classes are untrusted and escaped."""
    ramp = np.broadcast_to(colours(np.linspace(0, 1, 160)), (10, 160, 3))
    return render_page(
        ("explain.html.j2",),
        sheet=sheet,
        method_title=EXPLAINERS[sheet.method].title,
        titles={name: method.title for name, method in EXPLAINERS.items()},
        ramp=picture_of(np.ascontiguousarray(ramp)),
        is_signed=EXPLAINERS[sheet.method].is_signed,
    )


def picture_of(image: NDArray[np.uint8], max_side: int = SHOWN_PX) -> str:
    return thumbnail(image, max_side)


def caption(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "(no label)"
