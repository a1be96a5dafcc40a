"""How much of the best trial's score is luck: the score of the best of N, estimated on images that did not choose it."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.task import Task
from recog.evaluation.measures.resampling import percentile_interval, resampled_counts
from recog.evaluation.measures.task import TASK_MEASURES, is_correct, task_of

NUM_RESAMPLES = {"multiclass": 1000, "multilabel": 100}  # an mAP takes a millisecond, for each trial and resample
MAX_TRIALS = 20  # of multi-label images, the best ones
MAX_CHARACTERS = 60_000  # of a trial's answers in the storage; MySQL's TEXT holds 65,535 bytes


@dataclass(frozen=True, kw_only=True)
class Optimism:
    """`corrected` is what the choice of the best of `num_trials` is expected to reach on new images of the same kind.

    `apparent` is the best score itself. In each of `num_resamples` bootstrap samples of the images the best trial is chosen
    anew and scored on the images left out: Tsamardinos, Greasidou and Borboudakis (2018), "Bootstrapping the out-of-sample
    predictions for efficient and accurate cross-validation", Machine Learning 107.
    """

    apparent: float
    corrected: float
    ci95: tuple[float, float] | None
    num_trials: int
    num_images: int
    num_resamples: int
    gain: float | None = None  # of the choice over the default recipe, on the images left out
    gain_ci95: tuple[float, float] | None = None

    @property
    def gap(self) -> float:
        return self.apparent - self.corrected

    @property
    def reason(self) -> str:
        """Why `ci95` is None; empty where it is not."""
        if self.ci95 is not None:
            return ""
        return "all bootstrap samples scored the same" if self.num_resamples else "no sample left an image out"

    @property
    def gain_reason(self) -> str:
        """Why `gain` or `gain_ci95` is None."""
        if self.gain is None:
            return "the default recipe has no result" if self.num_resamples else "no sample left an image out"
        return "" if self.gain_ci95 is not None else "all bootstrap samples gained the same"

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the reason of each interval that is null."""
        reasons = {"ci95_reason": self.reason, "gain_reason": self.gain_reason}
        return asdict(self) | {name: text for name, text in reasons.items() if text}


def pack_answers(logits: NDArray[np.float32], targets: NDArray[np.generic]) -> str:
    """What the estimate needs of a trial's answers, `logits` float [R, N, K] of R repeats, as text for the storage.

    Of single labels how many repeats are right [N], else the mean logits [N, K] as float16; empty where that is too long.
    """
    measures = task_of(targets)
    text = _PACK[measures.task](logits, targets)
    return text if len(text) <= MAX_CHARACTERS else ""


def _pack_hits(logits: NDArray[np.float32], targets: NDArray[np.generic]) -> str:
    measures = task_of(targets)
    is_class = measures.is_class(targets, *logits.shape[1:])
    hits = sum(is_correct(measures.preds(rows), is_class).astype(np.uint8) for rows in logits)
    return _text(np.asarray(hits, dtype=np.uint8), f"hits {len(logits)}")


def _pack_logits(logits: NDArray[np.float32], targets: NDArray[np.generic]) -> str:
    mean = logits.mean(axis=0).astype(np.float16)
    return _text(mean, f"logits {mean.shape[1]}")


_PACK: Mapping[Task, Callable[[NDArray[np.float32], NDArray[np.generic]], str]] = MappingProxyType(
    {"multiclass": _pack_hits, "multilabel": _pack_logits}
)


def _text(values: NDArray[np.generic], head: str) -> str:
    return f"{head} {base64.b64encode(zlib.compress(values.tobytes(), 9)).decode('ascii')}"


def _unpack(text: str) -> NDArray[np.float64]:
    """Shares of right repeats [N], or logits [N, K]."""
    kind, number, data = text.split(" ")
    raw = zlib.decompress(base64.b64decode(data))
    if kind == "hits":
        return np.frombuffer(raw, dtype=np.uint8) / int(number)
    return np.frombuffer(raw, dtype=np.float16).reshape(-1, int(number)).astype(np.float64)


def pack_targets(targets: NDArray[np.generic]) -> str:
    """Labels [N] or zeros and ones [N, K] as text for the storage."""
    return _text(targets.astype(np.int32), f"targets {sum(targets.shape[1:])}")  # K, or 0 of labels


def unpack_targets(text: str) -> NDArray[np.generic]:
    _, columns, data = text.split(" ")
    values = np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype=np.int32)
    return values.reshape(-1, int(columns)).astype(np.float32) if int(columns) else values.astype(np.int64)


def estimate(
    packed: Sequence[str],
    nlls: Sequence[float],
    targets: NDArray[np.generic],
    *,
    default: int | None = None,
    seed: int = 0,
) -> Optimism | None:
    """Of the trials with answers `packed`, whose NLL decides between equal scores; `default` is the one without a search.

    None where a trial's answers were not kept.
    """
    task = task_of(targets).task
    if not packed or not all(packed):
        return None
    order = np.argsort(nlls, kind="stable")
    answers = [_unpack(packed[i]) for i in order]
    strata = TASK_MEASURES[task].strata(targets)
    by_stratum = np.argsort(strata, kind="stable")
    if any(len(each) != len(targets) for each in answers):
        return None
    usual = None if default is None else int(np.flatnonzero(order == default)[0])
    ordered = [each[by_stratum] for each in answers]
    return _ESTIMATE[task](ordered, targets[by_stratum], strata[by_stratum], usual, seed)


def _of_hits(
    answers: Sequence[NDArray[np.float64]],
    targets: NDArray[np.generic],
    strata: NDArray[np.int64],
    default: int | None,
    seed: int,
) -> Optimism:
    hits, num_images = np.stack(answers), len(targets)
    found, usual = [], []
    for counts in resampled_counts(strata, num_resamples=NUM_RESAMPLES["multiclass"], seed=seed):
        left_out = (counts == 0).astype(np.float64)
        chosen = (hits @ counts).argmax(axis=0)
        scores = hits @ left_out / np.maximum(1.0, left_out.sum(axis=0))
        defined = left_out.any(axis=0)
        found.append(scores[chosen, np.arange(len(chosen))][defined])
        usual.append(scores[0 if default is None else default][defined])
    best = float(hits.mean(axis=1).max())
    without = None if default is None else np.concatenate(usual)
    return _optimism(np.concatenate(found), without, best, len(answers), num_images)


def _of_logits(
    answers: Sequence[NDArray[np.float64]],
    targets: NDArray[np.generic],
    strata: NDArray[np.int64],
    default: int | None,
    seed: int,
) -> Optimism:
    measures = TASK_MEASURES["multilabel"]
    own = [measures.selection_score(each, targets) for each in answers]
    best = np.argsort(own, kind="stable")[::-1][:MAX_TRIALS]
    found, usual = [], []
    for counts in resampled_counts(strata, num_resamples=NUM_RESAMPLES["multilabel"], seed=seed):
        for column in counts.T:
            rows, left_out = np.repeat(np.arange(len(targets)), column.astype(int)), column == 0
            if left_out.any():
                scores = [measures.selection_score(answers[i][rows], targets[rows]) for i in best]
                chosen = answers[best[int(np.argmax(scores))]]
                found.append(measures.selection_score(chosen[left_out], targets[left_out]))
                usual.append(measures.selection_score(answers[default or 0][left_out], targets[left_out]))
    without = None if default is None else np.array(usual)
    return _optimism(np.array(found), without, float(max(own)), len(answers), len(targets))


def _optimism(
    found: NDArray[np.float64],
    without: NDArray[np.float64] | None,
    apparent: float,
    num_trials: int,
    num_images: int,
) -> Optimism:
    """From the scores `found` of the choices and those `without` a search, one of each resample."""
    corrected = float(found.mean()) if len(found) else apparent
    gains = None if without is None or not len(found) else found - without
    return Optimism(
        apparent=apparent,
        corrected=corrected,
        ci95=percentile_interval(found),
        num_trials=num_trials,
        num_images=num_images,
        num_resamples=len(found),
        gain=None if gains is None else float(gains.mean()),
        gain_ci95=None if gains is None else percentile_interval(gains),
    )


_ESTIMATE: Mapping[Task, Callable[..., Optimism]] = MappingProxyType({"multiclass": _of_hits, "multilabel": _of_logits})
