"""Scores of 'unknown' on frozen features: which features and which score tell a class of CIFAR-10 that was left out.

`python benchmarks/unknown_scores.py CIFAR10`. As benchmarks/unknown.py, without whole runs: features once, then for each class
left out a head and the scores of recog.evaluation.trust.unknown on up to 250 training images of each other class.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from harness import write_result
from head_features import _labelled, features_of
from numpy.typing import NDArray

from recog.evaluation.measures.probability import auroc_of
from recog.evaluation.trust.unknown import fit_statistics, fit_weight, neighbours_for, unknown_scores
from recog.training.config import HeadConfig
from recog.training.head import HeadData, HeadSpec
from recog.training.ridge import fit_as, floored

NETWORK, NUM_TRAIN, NUM_CLASSES = "tf_efficientnet_lite0", 250, 10
SPEC = HeadSpec(l2=0.1)
METHODS = ("max_softmax", "energy", "knn", "mahalanobis", "energy_mahalanobis")


def standardised(features: NDArray[np.float32], train: NDArray[np.int64]) -> NDArray[np.float32]:
    mean, std = features[train].mean(axis=0, dtype=np.float64), floored(features[train].std(axis=0, dtype=np.float64))
    rows: NDArray[np.float32] = ((features - mean) / std).astype(np.float32)
    return rows


def main() -> None:
    collection = _labelled(str(Path(sys.argv[1]).resolve()), 4000, 2000)
    roots, num_last, _ = features_of(collection, NETWORK, None)
    labels = collection.targets.astype(np.int64)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for left_out in range(NUM_CLASSES):
        rows = [np.random.default_rng(k).permutation(np.flatnonzero(labels == k)) for k in range(NUM_CLASSES)]
        train = np.concatenate([each[:NUM_TRAIN] for k, each in enumerate(rows) if k != left_out])
        test = np.concatenate([each[NUM_TRAIN:] for each in rows])
        is_strange, known = labels[test] == left_out, labels[train] - (labels[train] > left_out)
        standard = standardised(roots, train)
        data = HeadData(features=standard[train], targets=known, groups=np.arange(len(known)))
        logits = fit_as(SPEC, data, HeadConfig(), num_classes=NUM_CLASSES - 1)(standard[test])
        last = roots[:, -num_last:]
        views = {
            "all layers, standardised": standard,
            "last layer": last * np.abs(last),
            "roots of the last layer": last,
        }
        for view, features in views.items():
            for method in METHODS:
                statistics = fit_statistics(method, features[train], known)
                weight = None if statistics is None else 1.0
                if method == "energy_mahalanobis" and statistics is not None:
                    weight = fit_weight(logits[~is_strange], features[test][~is_strange], statistics)
                scores = unknown_scores(
                    method,
                    logits,
                    features[test],
                    statistics,
                    num_neighbours=neighbours_for(known),
                    weight=weight,
                )
                found[method, view].append(auroc_of(scores, is_strange))
    lines = [
        "Mean AUROC over the ten classes left out of CIFAR-10, each against the other nine, and the lowest; 0.5 is chance. Head "
        "on all layers of lite0 at 224 px.",
        "",
        "| score | features of its distance | mean AUROC | lowest |",
        "|---|---|---|---|",
    ]
    for (method, view), values in sorted(found.items(), key=lambda item: -float(np.mean(item[1]))):
        if view == "last layer" or method not in ("max_softmax", "energy"):
            shown = "" if method in ("max_softmax", "energy") else view
            lines.append(f"| {method} | {shown} | {np.mean(values):.3f} | {min(values):.3f} |")
    write_result("unknown_scores", "Scores of 'unknown' on frozen features", "\n".join(lines))


if __name__ == "__main__":
    main()
