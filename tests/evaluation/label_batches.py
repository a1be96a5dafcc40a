"""A multi-label report that several tests share."""

import numpy as np
from scipy.special import expit

from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.trust.calibration import Calibration
from recog.evaluation.trust.thresholds import LabelThresholds

NAMES = ("boat", "car", "dog", "eel")
FACTS = DataFacts(name="pets", split="test", excluded=(("bad.png", "truncated"),))


def label_report(num_images=120, thresholds=(0.5, 0.4, 0.3, 0.5), seed=0, *, shown=None, names=NAMES, facts=FACTS):
    """(report, probs, decisions, targets): random logits that tell something of the targets."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num_images, 4)).astype(np.float32)
    if shown is None:
        shown = rng.random(logits.shape) < expit(2 * logits - 1)
    support = tuple(int(n) for n in shown.sum(axis=0))
    calibration = Calibration(thresholds=LabelThresholds(values=thresholds, data="val", num_images=50, support=support))
    report = evaluate(
        logits,
        shown.astype(np.float32),
        class_names=names,
        names=[f"{i}.png" for i in range(num_images)],
        data=facts,
        calibration=calibration,
    )
    probs = expit(logits.astype(np.float64))
    return report, probs, probs >= np.array(thresholds), shown
