"""Answers of a bundle on corrupted images, condition by condition; a run that was interrupted goes on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from recog.bundle.seal import CALIBRATION, ONNX
from recog.core.files import canonical_json, sha256_bytes
from recog.core.record_log import RecordLog
from recog.core.version import __version__
from recog.data.dataset import Targets
from recog.evaluation.measures.task import TASK_MEASURES, is_correct
from recog.perturbation.corruptions import corrupt
from recog.runtime.engine import images_at_once
from recog.runtime.prediction import Answers
from recog.runtime.predictor import Predictor

CLEAN = "clean"
CHUNK = 32  # images that are corrupted together: threads of the engine that wait actively would take the cores


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The answers on all images under one corruption at one severity; severity 0 is the images as they are."""

    name: str
    severity: int
    correct: str  # which images are right, bits packed and in hexadecimal digits
    found: tuple[int, ...]  # of the images of each class those that were recognised as it
    confidence: float  # mean
    nll: float
    ece: float
    unknown_rate: float | None  # share of the answers 'unknown'; None: the bundle has no such rule
    sample_sha256: str  # of the first image's bytes as they were given to the network

    def is_correct(self, num_images: int) -> NDArray[np.bool_]:
        """Per image, bool [N]."""
        return unpack_bits(self.correct, num_images)


def pack_bits(values: NDArray[np.bool_]) -> str:
    """Bool [N] as hexadecimal digits, eight values to two of them."""
    return np.packbits(values).tobytes().hex()


def unpack_bits(text: str, count: int) -> NDArray[np.bool_]:
    """The `count` values that `pack_bits` wrote. ValueError where they are not so many."""
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"{8 * len(packed)} bits for {count} images")
    return np.unpackbits(packed, count=count).astype(bool)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured: N images uint8 [N, H, W, C] as the network takes them, with their content hashes and targets."""

    predictor: Predictor
    images: NDArray[np.uint8]
    hashes: Sequence[str]
    targets: Targets
    num_threads: int
    seed: int

    @property
    def is_class(self) -> NDArray[np.bool_]:
        """[N, K]."""
        measures = TASK_MEASURES[self.predictor.manifest.task]
        return measures.is_class(self.targets, len(self.images), len(self.predictor.class_names))

    def data_digest(self) -> str:
        """Equal where the same images, in the same order, have the same labels, whatever the order of the classes."""
        names = np.array(self.predictor.class_names, dtype=object)
        rows = [[digest, sorted(names[row])] for digest, row in zip(self.hashes, self.is_class, strict=True)]
        return sha256_bytes(canonical_json(rows))

    def digest(self) -> str:
        """Equal where all conditions have equal results."""
        files = self.predictor.manifest.files
        facts = {
            "version": __version__,
            "files": [files[ONNX], files[CALIBRATION]],
            "engine": self.predictor.engine_name,
            "images": sha256_bytes(self.images.tobytes()),
            "hashes": list(self.hashes),
            "targets": sha256_bytes(np.ascontiguousarray(self.targets).tobytes()),
            "seed": self.seed,
        }
        return sha256_bytes(canonical_json(facts))[:32]


def measure_conditions(
    subject: Subject, conditions: Sequence[tuple[str, int]], log: ConditionLog
) -> Iterator[Condition]:
    """Each of `conditions`, (corruption, severity), in turn: from `log`, or measured and written to it."""
    known = log.known(len(subject.images), len(subject.predictor.class_names))
    with one_blas_thread(), ThreadPoolExecutor(subject.num_threads) as pool:
        for name, severity in conditions:
            condition = known.get((name, severity))
            if condition is None:
                condition = _measure(subject, name, severity, pool)
                log.add(condition)
            yield condition


def _measure(subject: Subject, name: str, severity: int, pool: ThreadPoolExecutor) -> Condition:
    predictor, digest = subject.predictor, ""
    batch_size, answers = images_at_once(predictor.preprocess.image_size), []
    change = partial(_corrupted, subject, name, severity)
    chunks = [range(i, min(i + CHUNK, len(subject.images))) for i in range(0, len(subject.images), CHUNK)]
    waiting = pool.map(change, chunks[0])
    for following in (*chunks[1:], range(0)):
        images = np.stack(list(waiting))
        waiting = pool.map(change, following)  # while the network answers
        digest = digest or hashlib.sha256(images[0].tobytes()).hexdigest()
        for first in range(0, len(images), batch_size):
            answers.append(predictor.predict_batch(images[first : first + batch_size], reject=predictor.can_reject))
    return _summarise(subject, answers, name=name, severity=severity, sample_sha256=digest)


def _corrupted(subject: Subject, name: str, severity: int, number: int) -> NDArray[np.uint8]:
    image = np.asarray(subject.images[number])
    if not severity:
        return image
    return corrupt(image, name, severity, seed=subject.seed, index=int(subject.hashes[number][:8], 16))


def _summarise(
    subject: Subject, answers: Sequence[Answers], *, name: str, severity: int, sample_sha256: str
) -> Condition:
    calibration = subject.predictor.calibration
    measures, is_class = TASK_MEASURES[subject.predictor.manifest.task], subject.is_class
    logits = np.concatenate([answer.logits for answer in answers])
    probs, preds = (np.concatenate(parts) for parts in zip(*((a.probs, a.preds) for a in answers), strict=True))
    unknown = [answer.is_unknown for answer in answers if answer.is_unknown is not None]
    return Condition(
        name=name,
        severity=severity,
        correct=pack_bits(is_correct(preds, is_class)),
        found=tuple((preds & is_class).sum(axis=0).tolist()),
        confidence=float(np.maximum(probs, 1 - probs).mean() if measures.min_labels == 0 else probs.max(axis=1).mean()),
        nll=float(measures.nll_terms(calibration.calibrated_logits(logits), subject.targets).mean()),
        ece=float(measures.ece(probs, subject.targets)),
        unknown_rate=float(np.concatenate(unknown).mean()) if unknown else None,
        sample_sha256=sample_sha256,
    )


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Products of small matrices in several threads, each of them with one thread of its own."""
    try:
        from threadpoolctl import threadpool_limits  # comes with scikit-learn
    except ImportError:
        yield
        return
    with threadpool_limits(limits=1, user_api="blas"):
        yield


class ConditionLog(RecordLog[Condition]):
    """Conditions that were measured, so that an interrupted run can go on."""

    def __init__(self, subject: Subject) -> None:
        super().__init__("robustness", subject.digest(), Condition)

    def known(self, num_images: int, num_classes: int) -> dict[tuple[str, int], Condition]:
        """Those that are whole, by name and severity."""
        found = {}
        for condition in self.read():
            try:
                sizes = (len(bytes.fromhex(condition.correct)), len(condition.found))
            except ValueError:
                continue
            if sizes == (-(-num_images // 8), num_classes):
                found[condition.name, condition.severity] = condition
        return found
