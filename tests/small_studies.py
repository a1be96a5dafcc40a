"""Studies whose trials are functions of their settings, so that a search takes milliseconds."""

from __future__ import annotations

import numpy as np

from recog.tuning.optimism import pack_answers
from recog.tuning.space import Dimension, Space
from recog.tuning.storage import StudyFacts
from recog.tuning.trials import Outcome, TrialEndedError

LABELS = np.arange(40) % 2
SPACE = Space(
    recipes=("scratch",),
    dimensions=(
        Dimension(recipe="scratch", setting="optim.lr", low=0.1, high=10.0, log=True, times_default=True),
        Dimension(recipe="scratch", setting="optim.name", choices=("sgd", "adamw")),
        Dimension(recipe="scratch", setting="optim.momentum", low=0.5, high=0.95, when=("optim.name", "sgd")),
    ),
)
FACTS = StudyFacts(fingerprint="sha256:a", space=SPACE.to_dict(), config={}, measured_on="val", score_name="accuracy")


def share_of(config):
    """Of right answers: most at a learning rate of 0.2."""
    lr = config.optim.lr or 0.1  # SGD's default
    return max(0.0, 0.9 - 0.2 * abs(float(np.log10(lr / 0.2))))


class Curve:
    """Runs trials that reach `share_of` their config; `fails` and `killed` by the trial's place."""

    def __init__(self, *, fails=(), interrupted=()):
        self.configs, self.targets = [], None
        self._fails, self._interrupted = fails, interrupted

    def run(self, config, report, *, deadline):
        self.configs.append(config)
        place = len(self.configs) - 1
        if place in self._fails:
            raise TrialEndedError("the loss is not finite", has_failed=True, epochs=1)
        if place in self._interrupted:
            raise KeyboardInterrupt
        share, epochs = share_of(config) if config.recipe == "scratch" else 0.5, config.optim.epochs or 0
        for epoch in range(1, epochs + 1):
            reason = report(epoch, share * epoch / epochs)
            if reason:
                raise TrialEndedError(reason, epochs=epoch)
        logits = np.zeros((1, len(LABELS), 2), np.float32)
        right = np.arange(len(LABELS)) < round(share * len(LABELS))
        logits[0, np.arange(len(LABELS)), np.where(right, LABELS, 1 - LABELS)] = 1
        self.targets = LABELS
        answers = pack_answers(logits, LABELS)
        return Outcome(plan={"recipe": config.recipe}, score=share, nll=1 - share, answers=answers, epochs=epochs)
