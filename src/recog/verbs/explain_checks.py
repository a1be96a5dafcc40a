"""The checks of `recog explain --check`, which take minutes and can be interrupted, and the method that follows from them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recog.attribution.check import MethodCheck, Pace, check_methods, most_faithful
from recog.attribution.subject import why_no_layers
from recog.attribution.table import DEFAULT_METHOD, DEFAULT_WITHOUT_LAYERS, usable_methods
from recog.bundle.manifest import read_bundle_json
from recog.bundle.seal import ONNX
from recog.core.files import canonical_json, not_linked, pretty_json, sha256_bytes, write_bytes_atomic
from recog.core.record_log import RecordLog
from recog.core.version import __version__
from recog.verbs.explain_choice import Opened, Pair

EXPLANATIONS, CHECKS = "explanations", "checks.json"
NUM_CHECKED = 12
NUM_TIMED = 4  # images of the passes that the time of the checks is expected from


@dataclass(frozen=True, kw_only=True)
class CheckProgress:
    """How much of the checks of `num_methods` methods is done, in seconds that were expected."""

    method: str  # that is checked now; '' before the first
    num_methods: int
    num_images: int
    done_s: float
    all_s: float


def run_checks(
    opened: Opened, images: NDArray[np.uint8], pairs: Sequence[Pair], method: str
) -> Generator[CheckProgress, None, list[MethodCheck]]:
    """The checks of `method`, or with 'auto' of all, on the first predicted label of up to NUM_CHECKED images, spread over all.

    Each check is kept in the user's cache until all are done, so that interrupted checks go on where they stopped.
    """
    subject = opened.subject
    first = {pair.item: pair for pair in reversed(pairs) if pair.role != "true"} or {p.item: p for p in reversed(pairs)}
    chosen = [first[i] for i in sorted(first)]
    chosen = [chosen[i] for i in np.unique(np.linspace(0, len(chosen) - 1, NUM_CHECKED).astype(int))]
    methods = usable_methods(subject) if method == "auto" else (method,)
    numbers, labels = np.array([pair.item for pair in chosen]), np.array([pair.label for pair in chosen])
    images = images[numbers]
    log = RecordLog("explain", _digest(opened, images, labels), MethodCheck)
    known = {check.method: check for check in log.read()}
    checks = [known[name] for name in methods if name in known]
    left = [name for name in methods if name not in known]
    pace = Pace.measure(subject, images[:NUM_TIMED])
    expected = {name: pace.stages(name, images, labels) for name in left}
    progress = CheckProgress(
        method="", num_methods=len(left), num_images=len(images), done_s=0.0, all_s=sum(map(sum, expected.values()))
    )
    yield progress
    for event in check_methods(subject, images, labels, left):
        if isinstance(event, MethodCheck):
            log.add(event)
            checks.append(event)
            continue
        seconds = progress.done_s + expected[event.method][event.number]
        progress = replace(progress, method=event.method, done_s=seconds)
        yield progress
    _record(opened.run, checks)
    log.remove()
    return checks


def _digest(opened: Opened, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """Equal where the checks have equal results."""
    files = opened.predictor.manifest.files
    facts = [__version__, files[ONNX], sha256_bytes(images.tobytes()), labels.tolist()]
    return sha256_bytes(canonical_json(facts))[:32]


def _record(run: Path | None, checks: Sequence[MethodCheck]) -> None:
    """Keep in the run which method is the most faithful, for later calls."""
    best = most_faithful(checks)
    if run is None or best is None or len(checks) < 2:
        return
    folder = not_linked(run / EXPLANATIONS)
    folder.mkdir(exist_ok=True)
    table = {"best": best.method, "num_images": best.num_images, "checks": [check.to_dict() for check in checks]}
    write_bytes_atomic(folder / CHECKS, pretty_json(table))


def choose_method(opened: Opened, method: str, checks: Sequence[MethodCheck]) -> tuple[str, str]:
    """The method, and why it is used, as a sentence."""
    if method != "auto":
        return method, "You chose this method."
    best = most_faithful(checks)
    if best is not None:
        return (
            best.method,
            f"It is the most faithful of {len(checks)} methods on this model ({best.num_images} images).",
        )
    recorded = None if opened.run is None else opened.run / EXPLANATIONS / CHECKS
    if recorded is not None and recorded.is_file():
        table = read_bundle_json(recorded)
        name = table.get("best")
        if name in usable_methods(opened.subject):
            return str(
                name
            ), f"It was the most faithful of {len(table['checks'])} methods on this model when they were checked."
    if why_no_layers(opened.subject):
        return DEFAULT_WITHOUT_LAYERS, "It needs no layers of the network, which cannot be read here."
    return DEFAULT_METHOD, "The methods were not compared on this model; --check does that."
