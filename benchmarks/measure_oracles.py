"""Every measure of `recog.evaluation` beside an independent implementation, on 300 random batches: the largest difference.

The batches are those of the tests in kind: 1 to 400 images, 2 to 12 classes, absent classes, ties, one-class batches.
Where a measure is undefined the two are not compared; how often they were is in the table.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from harness import write_result
from scipy.stats import binomtest
from sklearn import metrics as oracle

from recog.evaluation.measures import counts, probability
from recog.evaluation.measures import multilabel as several
from recog.evaluation.measures.counts import wilson_interval
from recog.evaluation.measures.task import is_correct
from recog.evaluation.results.comparison import mcnemar_exact

Pair = tuple[str, str, float, float]


def naive_ece(confidence: np.ndarray, is_correct: np.ndarray, bins: list[int], num_bins: int = 15) -> float:
    """Guo et al.'s formula word by word, in Python."""
    total = 0.0
    for b in range(num_bins):
        inside = [i for i, place in enumerate(bins) if place == b]
        if inside:
            accuracy = sum(bool(is_correct[i]) for i in inside) / len(inside)
            mean = sum(float(confidence[i]) for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


def width_bins(values: np.ndarray) -> list[int]:
    return [next(b for b in range(15) if value <= (b + 1) / 15) for value in values]


def counted(probs: np.ndarray, labels: np.ndarray) -> Iterator[Pair]:
    preds, classes = probs.argmax(axis=1), range(probs.shape[1])
    confusion = counts.confusion_matrix(probs, labels)
    rates, present = counts.ClassCounts.of_confusion(confusion), np.unique(labels)
    means = (
        ("macro", counts.macro_mean(rates)),
        ("micro", counts.micro_mean(rates)),
        ("weighted", counts.weighted_mean(rates)),
    )
    yield "accuracy", "scikit-learn", counts.accuracy_of(confusion), oracle.accuracy_score(labels, preds)
    expected = oracle.balanced_accuracy_score(labels, preds)
    yield "balanced accuracy", "scikit-learn", counts.macro_mean(rates).recall, expected
    for name, mean in means:
        over = classes if name == "micro" else present  # a wrong answer is a false alarm of whichever class
        values = oracle.precision_recall_fscore_support(labels, preds, labels=over, average=name, zero_division=0)
        for what, mine, theirs in zip(
            ("precision", "recall", "F1"), (mean.precision, mean.recall, mean.f1), values, strict=False
        ):
            yield f"{name} {what}", "scikit-learn", mine, theirs
    for c, ((tn, fp), _) in zip(
        classes, oracle.multilabel_confusion_matrix(labels, preds, labels=classes), strict=True
    ):
        yield (
            "specificity per class",
            "scikit-learn's table",
            rates.specificity[c],
            tn / (tn + fp) if tn + fp else np.nan,
        )
    yield "Matthews R_K", "scikit-learn", counts.matthews(confusion), oracle.matthews_corrcoef(labels, preds)


def scored(probs: np.ndarray, labels: np.ndarray) -> Iterator[Pair]:
    n, num_classes = probs.shape
    one_hot = labels[:, None] == np.arange(num_classes)
    auroc, precision = probability.auroc(probs, one_hot), probability.average_precision(probs, one_hot)
    for c in range(num_classes):
        if not np.isnan(auroc[c]):
            is_class = labels == c
            yield "AUROC per class", "scikit-learn", auroc[c], oracle.roc_auc_score(is_class, probs[:, c])
            expected = oracle.average_precision_score(is_class, probs[:, c])
            yield "average precision per class", "scikit-learn", precision[c], expected
    if num_classes > 2 and not np.isnan(auroc).any():
        expected = oracle.roc_auc_score(labels, probs, multi_class="ovr")
        yield "macro AUROC", "scikit-learn", float(auroc.mean()), expected
    if num_classes > 5 and len(np.unique(probs)) == probs.size:
        expected = oracle.top_k_accuracy_score(labels, probs, k=5, labels=range(num_classes))
        yield "top-5 accuracy", "scikit-learn", probability.num_in_top(probs, labels, 5) / n, expected
    expected = oracle.brier_score_loss(labels, probs, labels=range(num_classes), scale_by_half=False)
    yield "Brier score", "scikit-learn", probability.brier_score(probs, labels), expected
    log_loss = oracle.log_loss(labels, probs, labels=range(num_classes))
    if probs[np.arange(n), labels].min() > 1e-15:  # scikit-learn clips below
        yield "NLL", "scikit-learn", probability.nll(np.log(probs), labels), log_loss
    confidence, is_correct = probs.max(axis=1), probs.argmax(axis=1) == labels
    by_width = naive_ece(confidence, is_correct, width_bins(confidence))
    yield "ECE, equal width", "the formula in Python", probability.ece_equal_width(probs, labels), by_width
    mass = [int(sum(confidence < value)) * 15 // n for value in confidence]
    by_mass = naive_ece(confidence, is_correct, mass)
    yield "ECE, equal mass", "the formula in Python", probability.ece_equal_mass(probs, labels), by_mass
    by_class = np.mean([naive_ece(p, labels == c, width_bins(p)) for c, p in enumerate(probs.T)])
    yield "classwise ECE", "the formula in Python", probability.classwise_ece(probs, labels), by_class


def tested(rng: np.random.Generator) -> Iterator[Pair]:
    a, b = (int(count) for count in rng.integers(0, 200, 2))
    if a + b:
        yield "McNemar's p", "SciPy binomtest", mcnemar_exact(a, b), binomtest(a, a + b).pvalue
        expected = binomtest(a, a + b).proportion_ci(method="wilson")
        yield "Wilson interval", "SciPy binomtest", wilson_interval(a, a + b)[0], expected.low
        yield "Wilson interval", "SciPy binomtest", wilson_interval(a, a + b)[1], expected.high


def labelled(rng: np.random.Generator) -> Iterator[Pair]:
    """Several labels an image: 1 to 200 images, 2 to 8 labels, some on no image, ties."""
    n, num_labels = int(rng.integers(1, 201)), int(rng.integers(2, 9))
    logits = rng.normal(0, 2, (n, num_labels)).round(1)
    is_class = rng.random((n, num_labels)) < rng.random(num_labels) * (rng.random(num_labels) > 0.15)
    probs = several.sigmoid(logits)
    preds = several.decide(probs, rng.random(num_labels))
    label_counts, present = counts.ClassCounts.of(preds, is_class), np.flatnonzero(is_class.any(axis=0))
    means = {"macro": counts.macro_mean, "micro": counts.micro_mean, "weighted": counts.weighted_mean}
    for name, mean_of in means.items():
        over = range(num_labels) if name == "micro" else present
        if len(present):
            theirs = oracle.precision_recall_fscore_support(is_class, preds, labels=over, average=name, zero_division=0)
            mine = mean_of(label_counts)
            for what, a, b in zip(
                ("precision", "recall", "F1"), (mine.precision, mine.recall, mine.f1), theirs, strict=False
            ):
                yield f"multi-label {name} {what}", "scikit-learn", a, b
    mine = is_correct(preds, is_class).mean()
    yield "subset accuracy", "scikit-learn", mine, oracle.accuracy_score(is_class, preds)
    expected = oracle.f1_score(is_class, preds, average="samples", zero_division=1)
    yield "F1 per image", "scikit-learn", several.example_f1_terms(preds, is_class).mean(), expected
    expected = oracle.label_ranking_average_precision_score(is_class, probs)
    yield "ranking average precision", "scikit-learn", several.ranking_precision_terms(probs, is_class).mean(), expected
    ranked = [k for k in present if not is_class[:, k].all()]
    if ranked:
        expected = oracle.average_precision_score(is_class[:, ranked], probs[:, ranked])
        yield "mAP", "scikit-learn", several.mean_average_precision(probs, is_class), expected
        expected = oracle.average_precision_score(is_class, probs, average="micro")
        yield "micro average precision", "scikit-learn", several.micro_average_precision(probs, is_class), expected
        expected = np.mean([oracle.roc_auc_score(is_class[:, k], probs[:, k]) for k in ranked])
        yield "multi-label macro AUROC", "scikit-learn", np.nanmean(probability.auroc(probs, is_class)), expected
    expected = np.mean([oracle.log_loss(s, p, labels=[False, True]) for s, p in zip(is_class.T, probs.T, strict=True)])
    yield "BCE", "scikit-learn", several.bce(logits, is_class), expected
    by_width = naive_ece(probs.ravel(), is_class.ravel(), width_bins(probs.ravel()))
    yield "multi-label ECE", "the formula in Python", several.label_ece(probs, is_class), by_width


def main() -> None:
    warnings.simplefilter("ignore")  # scikit-learn's notes on what it filled in
    worst: dict[tuple[str, str], float] = defaultdict(float)
    count: dict[tuple[str, str], int] = defaultdict(int)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        n, num_classes = int(rng.integers(1, 401)), int(rng.integers(2, 13))
        labels = rng.integers(0, rng.integers(1, num_classes + 1), n)
        logits = rng.normal(0, rng.choice([0.1, 1, 5]), (n, num_classes))
        probs = probability.softmax(logits.round() if seed % 3 == 0 else logits)
        for name, by, mine, theirs in (*counted(probs, labels), *scored(probs, labels), *tested(rng), *labelled(rng)):
            if not np.isnan(mine):
                worst[name, by] = max(worst[name, by], abs(mine - theirs))
                count[name, by] += 1
    rows = ["| measure | oracle | largest difference | values compared |", "|---|---|---|---|"]
    rows += [f"| {name} | {by} | {worst[name, by]:.1e} | {count[name, by]:,} |" for name, by in worst]
    write_result("measure_oracles", "Measures against independent implementations", "\n".join(rows))


if __name__ == "__main__":
    main()
