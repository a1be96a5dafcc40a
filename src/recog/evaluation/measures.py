"""The measures of a classifier under one name: pure functions of probs or logits [N, K] and labels [N].

Each theme has its module: `counts` (the confusion matrix), `ranking` (the order of the probs), `probability` (their values).
"""

from __future__ import annotations

from recog.evaluation.arrays import FloatArray, IntArray, check_labels, check_logits
from recog.evaluation.counts import (
    ClassMeasures,
    MeanMeasures,
    accuracy,
    accuracy_of,
    balanced_accuracy,
    class_measures,
    confusion_matrix,
    macro_mean,
    matthews,
    micro_mean,
    most_confused,
    weighted_mean,
)
from recog.evaluation.probability import (
    brier_score,
    classwise_ece,
    ece_equal_mass,
    ece_equal_width,
    log_softmax,
    nll,
    softmax,
)
from recog.evaluation.ranking import auroc, average_precision, num_in_top

__all__ = [
    "ClassMeasures",
    "FloatArray",
    "IntArray",
    "MeanMeasures",
    "accuracy",
    "accuracy_of",
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "brier_score",
    "check_labels",
    "check_logits",
    "class_measures",
    "classwise_ece",
    "confusion_matrix",
    "ece_equal_mass",
    "ece_equal_width",
    "log_softmax",
    "macro_mean",
    "matthews",
    "micro_mean",
    "most_confused",
    "nll",
    "num_in_top",
    "softmax",
    "weighted_mean",
]
