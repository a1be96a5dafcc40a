"""The field's usual bootstrap: a loop that gathers each resample and calls scikit-learn (ECE: NumPy, as it has none)."""

import sys

import numpy as np
from sklearn import metrics

data, num_resamples = sys.argv[1], int(sys.argv[2])
arrays = np.load(data)
probs, labels = arrays["probs"], arrays["labels"]
rng = np.random.default_rng(0)
of_class = [np.flatnonzero(labels == c) for c in range(probs.shape[1])]


def ece(p: np.ndarray, y: np.ndarray) -> float:
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    bins = np.digitize(confidence, np.arange(1, 15) / 15, right=True)
    return float(np.abs(np.bincount(bins, confidence - right)).sum() / len(y))


values = []
for _ in range(num_resamples):
    drawn = np.concatenate([rng.choice(rows, len(rows)) for rows in of_class])
    p, y = probs[drawn], labels[drawn]
    preds = p.argmax(axis=1)
    values.append(
        (
            metrics.balanced_accuracy_score(y, preds),
            metrics.f1_score(y, preds, average="macro"),
            metrics.matthews_corrcoef(y, preds),
            metrics.log_loss(y, p),
            metrics.brier_score_loss(y, p, scale_by_half=False),
            ece(p, y),
            metrics.roc_auc_score(y, p, multi_class="ovr"),
        )
    )
print(np.quantile(values, (0.025, 0.975), axis=0).T.tolist())
