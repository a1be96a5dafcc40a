"""What the words of the report mean: shown where a word is pointed at or focused, and listed at the end of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from types import MappingProxyType

from markupsafe import Markup, escape

TERMS: Mapping[str, str] = MappingProxyType(
    {
        "Accuracy": "Share of the images whose predicted class is the true one.",
        "Subset accuracy": "Share of the images on which exactly the true labels are predicted, none missed and none added.",
        "95% interval": "The range of plausible values for images drawn independently from the same distribution. Shares of "
        "images: Wilson score interval; other metrics: bootstrap over the images.",
        "Baseline": "The accuracy of always predicting the class with the most images. A useful model is clearly above it.",
        "Precision": "Of the images predicted as this class, the share that belongs to it.",
        "Recall": "Of the images of this class, the share predicted as it.",
        "F1": "Harmonic mean of precision and recall: high only where both are. n/a: 0 of 0.",
        "Macro F1": "Mean of the F1 of the classes present here; every class counts equally, however few its images are.",
        "Micro F1": "F1 over all pairs of an image and a label together.",
        "Weighted F1": "Mean of the F1, each label weighted by the number of its images.",
        "Balanced accuracy": "Mean of the recall of the classes: the accuracy if every class had equally many images.",
        "Specificity": "Of the images of the other classes, the share not predicted as this class.",
        "AUROC": "Probability that an image of the class is ranked above an image of another class. Chance level: 0.5.",
        "Average precision": "Area under the precision-recall curve of a class. Chance level: the share of its images.",
        "mAP": "Mean of the average precision of the labels; it does not depend on the thresholds.",
        "NLL": "Mean negative log-likelihood of the truth, in nats. 0 is best; confident errors cost most.",
        "Brier score": "Mean squared difference between the probabilities and the truth. 0 is best.",
        "ECE": "Expected calibration error: the mean gap between confidence and accuracy, over bins of confidence. With few "
        "images it is biased upwards; its interval corrects for this and may lie below the estimate.",
        "Matthews correlation": "Correlation of the true and the predicted classes. 1 is best, 0 is chance level.",
        "Hamming loss": "Share of all pairs of an image and a label that are wrong. 0 is best.",
        "Confidence": "The probability that the model gives to its prediction.",
        "Coverage": "Share of the images that are answered; the others are left to a person.",
        "Calibrated": "Probabilities are calibrated if, of the predictions with a probability of 80%, 80% are right.",
        "Prediction set": "The classes that an image may show; it contains the true one for a promised share of images.",
        "Threshold": "The probability from which a label is predicted.",
        "Epoch": "One pass over all training images.",
        "Val": "The validation split: images that choose among epochs, heads and settings, and that are not trained on.",
        "L2": "Strength of the penalty on large weights of the last layer: stronger is simpler.",
    }
)
_SPELLINGS = {
    "Av. prec.": "Average precision",
    "Macro AUROC": "AUROC",
    "Macro average precision": "Average precision",
    "Micro average precision": "Average precision",
    "Mean average precision (mAP)": "mAP",
    "Micro precision": "Precision",
    "Micro recall": "Recall",
    "F1 per image": "F1",
    "ECE, equal mass": "ECE",
    "Classwise ECE": "ECE",
    "Val accuracy": "Val",
    "Val NLL": "NLL",
    "Cross-validated accuracy": "Val",
    "Cross-validated NLL": "NLL",
}


def term_marker() -> Callable[..., Markup]:
    """For one page: term(text, more_classes) -> `text` as a button with its explanation, or alone where there is none."""
    numbers = count(1)

    def mark(text: str, classes: str = "") -> Markup:
        meaning = TERMS.get(_SPELLINGS.get(text, text), "")
        is_button = bool(meaning or classes)
        if not is_button:
            return escape(text)
        number = next(numbers)
        described = Markup(' aria-describedby="tip-{}"').format(number) if meaning else ""
        tip = (
            Markup('<span class="tip" role="tooltip" id="tip-{}">{}</span>').format(number, meaning) if meaning else ""
        )
        kind = " ".join(filter(None, ("term" if meaning else "", classes)))
        return Markup('<button type="button" class="{}"{}>{}</button>{}').format(kind, described, text, tip)

    return mark
