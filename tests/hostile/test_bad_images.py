"""Every kind of bad image: the right pixels or a BadImage that names file, reason and cure; no hang, no leak, no noise."""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import ledger
import numpy as np
import pytest
from bad_images import Case, all_cases
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_bytes import encode, photo
from ledger import NUM_IMAGE_KINDS

from recog.core.errors import BadImage
from recog.core.images.decode import decode, probe
from recog.core.preprocess import Preprocess

MAX_SECONDS = (
    2.0  # of this process's own time, so that a busy machine fails nothing; pipes are tested beside image_file
)
MAX_GROWTH_MIB = 32
NUM_REPEATS = 100
T = TypeVar("T")


@cache
def cases() -> tuple[Case, ...]:
    return tuple(all_cases())


def outcome(work: Callable[[], T], what: str = "") -> tuple[T | None, BadImage | None]:
    """What `work` returns, or the BadImage it raises; any other exception, and taking too long, fails the test."""
    start = time.process_time()
    try:
        result, error = work(), None
    except BadImage as raised:
        result, error = None, raised
    assert time.process_time() - start < MAX_SECONDS, what
    return result, error


def attempt(case: Case, source: object) -> str:
    """'decoded' or 'refused', once all that is promised of the outcome was checked."""
    image, error = outcome(lambda: decode(source), case.name)
    if error is not None:
        assert case.expected is None, f"{case.name}: refused for {error.reason}"
        assert re.search(case.refused, error.reason), f"{case.name}: {error.reason}"
        assert str(error) == f"{error.name}: {error.reason}. {error.remedy}"
        assert error.remedy.endswith(".")
        assert not error.reason.endswith(".")
        return "refused"
    assert case.expected is not None, f"{case.name}: accepted, though it ought to be refused for '{case.refused}'"
    assert image.dtype == np.uint8
    assert image.shape == case.expected.shape
    difference = np.abs(image.astype(np.int16) - case.expected).max()
    assert difference <= case.tolerance, f"{case.name}: off by {difference}"
    return "decoded"


@pytest.fixture(autouse=True)
def _without_heif(monkeypatch):
    """Kind 22 is HEIC without its package, whatever is installed here."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


@pytest.mark.parametrize("kind", range(1, NUM_IMAGE_KINDS + 1))
def test_kind(kind, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 10_000_000)  # below our limits: Pillow would warn, were it heard
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for case in (case for case in cases() if case.kind == kind):
            verdict = attempt(case, case.source)
            if isinstance(case.source, bytes):
                path = tmp_path / f"{case.kind}{case.suffix}"
                path.write_bytes(case.source)
                assert attempt(case, path) == verdict
                check_name(path, verdict)
                check_probe(path, case)
            check_preprocess(case, verdict)
    assert capfd.readouterr() == ("", "")


def check_name(path: Path, verdict: str) -> None:
    if verdict == "refused":
        with pytest.raises(BadImage) as caught:
            decode(path)
        assert caught.value.name == str(path)


def check_probe(path: Path, case: Case) -> None:
    """The header tells the decoded image's size. A file whose damage lies behind its header may pass, but not the reverse."""
    info, error = outcome(lambda: probe(path), case.name)
    if case.expected is not None:
        assert info is not None, f"{case.name}: {error}"
        assert (info.height, info.width) == case.expected.shape[:2], case.name
        assert info.is_animated == (case.kind in (15, 16) or case.name == "next directory nowhere"), case.name
    assert error is None or error.name == str(path)


def check_preprocess(case: Case, verdict: str) -> None:
    """The network's input is made, or refused likewise; extreme shapes neither hang nor fill the memory."""
    preprocess = Preprocess(image_size=(224, 224), crop_pct=0.875)
    image, error = outcome(lambda: preprocess.read(case.source, name="it"), case.name)
    if error is not None:
        assert error.name == "it"
        assert verdict == "refused" or max(case.expected.shape) > 500 * min(case.expected.shape[:2]), case.name
    else:
        assert verdict == "decoded"
        assert image.shape == (224, 224, 3)


def test_refused_formats_are_never_opened(monkeypatch):
    def forbidden(*_: object, **__: object) -> None:
        pytest.fail("Pillow was asked to open a file of a format that is not allowed")

    monkeypatch.setattr("PIL.Image.open", forbidden)
    for case in cases():
        if case.kind in (10, 11):
            attempt(case, case.source)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the resident size from Linux's /proc")
@pytest.mark.slow
def test_memory_does_not_grow():
    kept = []  # as a scan keeps the errors for its report
    for case in cases():
        start = resident_mib()
        for _ in range(NUM_REPEATS):
            kept.append(outcome(lambda source=case.source: decode(source))[1])
        assert resident_mib() - start <= MAX_GROWTH_MIB, case.name


VALID_FILES = (
    encode(photo(), "JPEG", quality=85),
    encode(photo(), "JPEG", quality=85, progressive=True),
    encode(photo(), "PNG"),
    encode(photo().quantize(32), "GIF"),
    encode(photo(), "WEBP", quality=80),
)


def flip_bits(which: int, positions: list[float]) -> None:
    """Outcome: an image, or BadImage. Anything else fails."""
    data = bytearray(VALID_FILES[which])
    for position in positions:
        bit = int(position * (8 * len(data) - 1))
        data[bit // 8] ^= 1 << (bit % 8)
    image, error = outcome(lambda: decode(bytes(data)))
    if error is None:
        assert image.dtype == np.uint8
        assert image.ndim == 3
        if data.startswith(b"\x89PNG"):  # whose checksums leave no wrong image
            assert np.array_equal(image, np.asarray(photo()))


flips = {
    "which": st.integers(0, len(VALID_FILES) - 1),
    "positions": st.lists(st.floats(0, 1), min_size=1, max_size=8),
}
common = {"deadline": MAX_SECONDS * 1000, "derandomize": True, "database": None}


@settings(max_examples=100, **common)
@given(**flips)
def test_flipped_bits(which, positions):
    flip_bits(which, positions)


@pytest.mark.slow
@settings(max_examples=2000, suppress_health_check=[HealthCheck.too_slow], **common)
@given(**flips)
def test_many_flipped_bits(which, positions):
    flip_bits(which, positions)


def test_ledger(capsys):
    """`make ledger` prints it."""
    verdicts: dict[int, Counter[str]] = {}
    for case in cases():
        verdicts.setdefault(case.kind, Counter())[attempt(case, case.source)] += 1
    assert set(verdicts) == set(range(1, NUM_IMAGE_KINDS + 1))
    total = sum(verdicts.values(), Counter())
    with capsys.disabled():
        print("", *ledger.lines(verdicts), sep="\n")
        print(
            f"bad images: {len(verdicts)} kinds, {len(cases())} cases: {total['decoded']} decoded as expected, "
            f"{total['refused']} refused with reason and remedy, 0 crashed, hung or wrong"
        )
