"""Do prediction sets hold the true class as often as they say? `python benchmarks/coverage.py RUN CIFAR10FOLDER`

A run's answers to the test images are split 200 times at random into calibration and new images. For each split recog and
MAPIE make sets from the same probabilities with the same coins.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from harness import write_result
from peers.mapie_sets import mapie_coins, mapie_raps, mapie_sets

import recog
from recog.data.sources import open_source
from recog.evaluation.measures.counts import wilson_interval
from recog.evaluation.trust.conformal import SET_METHODS, fit_sets, set_scores
from recog.runtime.prediction import Prediction

ALPHA = 0.1
NUM_SPLITS = 200
NUM_CALIBRATION = 1000
MAPIE_TOLERANCE = 1e-8


@dataclass(frozen=True, kw_only=True)
class Split:
    """One random split: what share of its new images has the true class in its set."""

    coverage: float
    coverage_filled: float  # with the most probable class where the set is empty, as predict gives it
    mapie_coverage: float
    size: float
    mapie_size: float
    quantile_difference: float
    num_different_sets: int  # beyond MAPIE's tolerance, within which it takes a score for equal to the quantile


def run_splits(
    method: str, probs: np.ndarray, labels: np.ndarray, *, num_splits: int = NUM_SPLITS, num_fit: int = NUM_CALIBRATION
) -> Iterator[Split]:
    for seed in range(num_splits):
        order = np.random.default_rng(seed).permutation(len(labels))
        fit, new = order[:num_fit], order[num_fit:]
        rows = np.arange(len(new))
        coins = mapie_coins(len(new), seed)
        rule = fit_sets(probs[fit], labels[fit], mapie_coins(num_fit, seed), method=method, alpha=ALPHA)
        raw, filled = rule.raw_sets(probs[new], coins), rule.sets(probs[new], coins)
        given = (probs[fit], labels[fit], probs[new])
        if method == "raps":
            penalty = {"penalty": rule.penalty, "free_classes": rule.free_classes}
            quantile, theirs = mapie_raps(*given, alpha=ALPHA, seed=seed, **penalty)
        else:
            quantile, theirs = mapie_sets(method, *given, alpha=ALPHA, seed=seed)
        scores = set_scores(probs[new], coins, method, penalty=rule.penalty, free_classes=rule.free_classes)
        near = np.abs(scores - (rule.quantile or 0.0)) <= MAPIE_TOLERANCE
        yield Split(
            coverage=float(raw[rows, labels[new]].mean()),
            coverage_filled=float(filled[rows, labels[new]].mean()),
            mapie_coverage=float(theirs[rows, labels[new]].mean()),
            size=float(raw.sum(axis=1).mean()),
            mapie_size=float(theirs.sum(axis=1).mean()),
            quantile_difference=abs((rule.quantile or 0.0) - quantile),
            num_different_sets=int(((raw != theirs) & ~near).any(axis=1).sum()),
        )


def row(method: str, splits: list[Split], num_new: int) -> str:
    def mean(name: str) -> float:
        return float(np.mean([getattr(split, name) for split in splits]))

    spread = float(np.std([split.coverage for split in splits], ddof=1))
    same = f"{max(split.quantile_difference for split in splits):.1e}"
    differ = sum(split.num_different_sets for split in splits)
    return (
        f"| {method.upper()} | {mean('coverage'):.2%} | {spread:.2%} | {mean('mapie_coverage'):.2%} "
        f"| {mean('coverage_filled'):.2%} "
        f"| {mean('size'):.3f} | {mean('mapie_size'):.3f} | {same} | {differ:,} of {len(splits) * num_new:,} |"
    )


def table(probs: np.ndarray, labels: np.ndarray, **sizes: int) -> str:
    rows = [
        "| method | mean coverage | std over splits | MAPIE's | with the top class where empty | classes in a set | MAPIE's "
        "| largest quantile difference | sets that differ |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method in SET_METHODS:
        splits = list(run_splits(method, probs, labels, **sizes))
        rows.append(row(method, splits, len(labels) - sizes.get("num_fit", NUM_CALIBRATION)))
    return "\n".join(rows)


def main() -> None:
    predictor = recog.load(sys.argv[1])
    dataset = open_source(sys.argv[2])
    samples = dataset.subset("test")
    answers = [
        (answer.probs, predictor.class_names.index(dataset.class_names[sample.label]))
        for sample, answer in zip(samples, predictor.predict_each(s.source for s in samples), strict=True)
        if isinstance(answer, Prediction)
    ]
    probs = np.stack([probs for probs, _ in answers])
    labels = np.array([label for _, label in answers])
    num_right = int((probs.argmax(axis=1) == labels).sum())
    low, high = wilson_interval(num_right, len(labels))
    body = (
        f"{predictor.manifest.architecture} on {dataset.name}: accuracy {num_right / len(labels):.1%} on {len(labels):,} test "
        f"images (95% {low:.1%}-{high:.1%}). {NUM_SPLITS} random splits of these into {NUM_CALIBRATION:,} calibration images "
        f"and the rest, alpha {ALPHA}. recog and MAPIE see the same probabilities and coins; for RAPS the "
        "same penalty too. Beyond the classes that RAPS leaves free of it, MAPIE drops the last class by another chance than "
        "that which the quantile was taken with, so there its sets may differ; recog keeps the scores up to the quantile. "
        f"A score within {MAPIE_TOLERANCE:g} of the quantile counts as equal, as MAPIE has it.\n\n{table(probs, labels)}"
    )
    write_result("coverage", "Prediction sets: how often the true class is in them", body)


if __name__ == "__main__":
    main()
