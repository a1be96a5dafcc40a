"""`recog explain`: where images count for a label, how far the maps can be trusted, and hints at shortcuts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.attribution.check import MethodCheck
from recog.attribution.overlay import blend, overlay_png
from recog.attribution.sheet import Card, Neighbour, Sheet, View, caption, picture_of, render_sheet
from recog.attribution.shortcuts import ShortcutHint, find_shortcuts
from recog.attribution.table import (
    DEFAULT_METHOD,
    EXPLAINERS,
    attribute,
    check_method,
)
from recog.core import notebook
from recog.core.errors import ConfigError, DataError
from recog.core.files import (
    claim_folder,
    pretty_json,
    staged_folder,
)
from recog.core.outputs import check_new_path, derive_name
from recog.core.text import plural
from recog.report.measure import Measured
from recog.report.page.gallery import MAX_ERRORS_SHOWN
from recog.runtime.predictor import ImageSource, Predictor
from recog.verbs.evaluate import claim_in_run
from recog.verbs.explain_checks import EXPLANATIONS, CheckProgress, choose_method, run_checks
from recog.verbs.explain_choice import (
    Choice,
    Item,
    Opened,
    Pair,
    as_items,
    choose_items,
    choose_pairs,
    read_items,
    spread,
)

MAP_PX = 160  # of a map in a report
MAX_BANK = 5_000  # training images that are searched for the nearest


@dataclass(frozen=True, kw_only=True)
class Explanations:
    """Maps of images and what is known of them; `folder` holds explain.html, maps.npz, explain.json and the overlays."""

    method: str
    why_method: str
    cards: tuple[Card, ...]
    maps: NDArray[np.float32]  # [P, H, W], of each view of each card in order
    shortcuts: tuple[ShortcutHint, ...]
    checks: tuple[MethodCheck, ...]
    folder: Path | None  # None where there was nothing to explain
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Explanations({len(self.cards)} images, method={self.method!r}, folder={str(self.folder)!r})"

    def _repr_html_(self) -> str:
        rows = [(card.name, card.predicted, card.true) for card in self.cards]
        return notebook.card(
            f"{plural(len(rows), 'image')} explained",
            EXPLAINERS[self.method].title,
            *(notebook.paragraph(hint.text) for hint in self.shortcuts),
            notebook.table(("Image", "Predicted", "True"), rows),
            notebook.paragraph("" if self.folder is None else f"Sheet: {self.folder / 'explain.html'}"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without pictures and maps."""
        return {
            "method": self.method,
            "why_method": self.why_method,
            "images": [
                {
                    "name": card.name,
                    "predicted": card.predicted,
                    "true": card.true or None,
                    "maps": [{"label": view.label, "prob": view.prob, "role": view.role} for view in card.views],
                    "nearest": [
                        {"name": n.name, "class": n.label, "similarity": n.similarity} for n in card.neighbours
                    ],
                }
                for card in self.cards
            ],
            "shortcuts": [asdict(hint) for hint in self.shortcuts],
            "checks": [check.to_dict() for check in self.checks],
            "folder": None if self.folder is None else str(self.folder),
        }


def explain_events(
    bundle: str | Path, choice: Choice, *, out: Path | None = None, num_threads: int | None = None
) -> Iterator[str | CheckProgress | Explanations]:
    """What is being done, in words or as CheckProgress, then the Explanations; their files are written by then."""
    if choice.method != "auto":
        check_method(choice.method)
    if out is not None:
        check_new_path(out, "--out")
    opened = Opened.load(bundle, num_threads=num_threads)
    predictor = opened.predictor
    items, title, notes = choose_items(opened, choice)
    if not items:
        yield _nothing(opened, choice.method, notes)
        return
    items, images, bad = read_items(predictor, items)
    notes += [str(error) for error in bad]
    if not items:
        raise DataError("none of the images can be read; nothing was explained.\n  " + "\n  ".join(notes))
    probs = predictor.calibration.apply(opened.subject.logits(images))
    preds = predictor.calibration.preds(probs)
    pairs = choose_pairs(predictor, items, preds, choice.label)
    checks: list[MethodCheck] = []
    if choice.check:
        checks = yield from run_checks(opened, images, pairs, choice.method)
    method, why = choose_method(opened, choice.method, checks)
    yield f"explaining {plural(len(pairs), 'label')} of {plural(len(items), 'image')} by {EXPLAINERS[method].title}"
    labels = np.array([pair.label for pair in pairs])
    maps = attribute(method, opened.subject, images[[pair.item for pair in pairs]], labels).maps
    is_predicted = np.array([pair.role == "predicted" for pair in pairs])
    hints = find_shortcuts(maps[is_predicted], labels[is_predicted], predictor.class_names)
    neighbours: list[tuple[Neighbour, ...]] = [()] * len(items)
    if choice.nearest:
        yield "searching the training images"
        neighbours = _nearest(opened, choice, [item.source for item in items])
    cards = _cards(predictor, items, images, probs, preds, pairs, maps)
    cards = [replace(card, neighbours=near) for card, near in zip(cards, neighbours, strict=True)]
    name = derive_name("-".join(re.findall(r"[^\s,]+", title)))
    place, note = (out, None) if out is not None else claim_in_run(opened.run, EXPLANATIONS, name)
    notes += [note] if note else []
    folder = place or claim_folder(Path(EXPLANATIONS), name)  # beside the caller
    result = Explanations(
        method=method,
        why_method=why,
        cards=tuple(cards),
        maps=maps,
        shortcuts=hints,
        checks=tuple(checks),
        folder=folder,
        notes=tuple(notes),
    )
    _write(result, folder, title, str(bundle), images, pairs, is_claimed=out is None)
    yield result


def explain(
    bundle: str | Path,
    images: str | Path | Sequence[str | Path] = (),
    *,
    method: str = "auto",
    check: bool = False,
    nearest: int = 0,
    out: str | Path | None = None,
) -> Explanations:
    """Explain `images`, one path or several of files or folders, with a bundle, run folder or run's name; without, test images.

    `method` is gradcam, layercam, integrated-gradients, gradients, smoothgrad, occlusion, rise, or 'auto': the most faithful one
    on this model if `check`, now or earlier, measured them. `nearest` adds so many of the most similar training images. Files
    go to the new folder `out`, else into the run's folder.
    """
    paths = [images] if isinstance(images, str | Path) else images
    choice = Choice(images=tuple(map(str, paths)), method=method, check=check, nearest=nearest)
    *_, last = explain_events(bundle, choice, out=None if out is None else Path(out))
    if not isinstance(last, Explanations):
        raise ConfigError("nothing was explained.")
    return last


def maps_of_errors(bundle: Path, measured: Measured) -> tuple[dict[str, str], str]:
    """{name: data URI} of the errors on a report page, explained for the predicted label, and a sentence on the method."""
    opened = Opened.load(bundle)
    number_of = {path: i for i, path in enumerate(measured.results.paths)}
    samples = [measured.samples[error.name] for error in measured.report.errors[:MAX_ERRORS_SHOWN]]
    items, images, _ = read_items(opened.predictor, as_items(samples))
    numbers = [number_of[item.name] for item in items]
    preds, probs = measured.results.preds[numbers], measured.results.probs[numbers]
    labels = np.where(preds, probs, probs - 1).argmax(
        axis=1
    )  # of several the most probable; without one, what is nearest
    if not items:
        return {}, ""
    method, why = choose_method(opened, "auto", ())
    maps = attribute(method, opened.subject, images, labels).maps
    found = {
        item.name: picture_of(blend(image, shown), MAP_PX)
        for item, image, shown in zip(items, images, maps, strict=True)
    }
    note = (
        "Below each image: where it counts for the prediction, over the part that the network sees, from dark blue (nothing) to "
        f"yellow (the most of this image), by {EXPLAINERS[method].title}. {why}"
    )
    return found, note


def _nothing(opened: Opened, method: str, notes: Sequence[str]) -> Explanations:
    return Explanations(
        method=DEFAULT_METHOD if method == "auto" else method,
        why_method="",
        cards=(),
        maps=np.zeros((0, *opened.subject.image_size), np.float32),
        shortcuts=(),
        checks=(),
        folder=None,
        notes=tuple(notes),
    )


def _nearest(opened: Opened, choice: Choice, sources: Sequence[ImageSource]) -> list[tuple[Neighbour, ...]]:
    from recog.attribution.subject import nearest_rows

    dataset = opened.dataset(choice.data)
    samples = spread(opened.samples_of(dataset, "train"), MAX_BANK)
    if not samples:
        raise DataError(f"{dataset.name} has no training images to search. Leave --nearest out.")
    predictor = opened.predictor
    good, images, _ = read_items(predictor, as_items(samples))
    bank = predictor.engine
    features = np.concatenate([bank(images[i : i + 32]).features for i in range(0, len(images), 32)])
    rows, cosines = nearest_rows(features, predictor.embed(sources), choice.nearest)
    names = predictor.class_names
    return [
        tuple(
            Neighbour(
                name=good[k].name,
                label=caption([names[label] for label in good[k].labels or ()]),
                similarity=float(cosine),
                picture=picture_of(images[k], 160),
            )
            for k, cosine in zip(found, values, strict=True)
        )
        for found, values in zip(rows, cosines, strict=True)
    ]


def _cards(  # noqa: PLR0913, PLR0917  what is known of the images
    predictor: Predictor,
    items: Sequence[Item],
    images: NDArray[np.uint8],
    probs: NDArray[np.float64],
    preds: NDArray[np.bool_],
    pairs: Sequence[Pair],
    maps: NDArray[np.float32],
) -> list[Card]:
    names = predictor.class_names
    views: list[list[View]] = [[] for _ in items]
    for pair, shown in zip(pairs, maps, strict=True):
        views[pair.item].append(
            View(
                label=names[pair.label],
                prob=float(probs[pair.item, pair.label]),
                role=pair.role,
                picture=picture_of(blend(images[pair.item], shown)),
            )
        )
    return [
        Card(
            name=item.name,
            predicted=caption([names[k] for k in np.flatnonzero(preds[i])]),
            true="" if item.labels is None else caption([names[k] for k in item.labels]),
            picture=picture_of(images[i]),
            views=tuple(views[i]),
        )
        for i, item in enumerate(items)
    ]


def _write(
    result: Explanations,
    folder: Path,
    title: str,
    bundle: str,
    images: NDArray[np.uint8],
    pairs: Sequence[Pair],
    *,
    is_claimed: bool,
) -> None:
    sheet = Sheet(
        title=title,
        bundle=bundle,
        method=result.method,
        why_method=result.why_method,
        cards=result.cards,
        shortcuts=result.shortcuts,
        checks=result.checks,
    )
    labels = [view.label for card in result.cards for view in card.views]
    with staged_folder(folder, is_claimed=is_claimed) as staging:
        (staging / "explain.html").write_text(render_sheet(sheet), encoding="utf-8")
        (staging / "explain.json").write_bytes(pretty_json(result.to_dict()))
        names = [result.cards[pair.item].name for pair in pairs]
        np.savez_compressed(staging / "maps.npz", maps=result.maps, images=np.array(names), labels=np.array(labels))
        (staging / "overlays").mkdir()
        for number, (pair, shown, label) in enumerate(zip(pairs, result.maps, labels, strict=True), 1):
            stem = derive_name(f"{number:03d} {Path(names[number - 1]).stem[:60]} {label[:60]}")
            (staging / "overlays" / f"{stem}.png").write_bytes(overlay_png(images[pair.item], shown, label))
