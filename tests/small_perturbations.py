"""Small pictures and linear networks for the tests of corruptions and attacks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator, Philox

from recog.evaluation.measures.counts import Hits
from recog.perturbation.attack_suite import AttackReport, AttackRow
from recog.perturbation.gradient_attacks import Target, apgd_ce, apgd_dlr, pgd
from recog.perturbation.measure import Condition
from recog.perturbation.report import RobustnessReport, corruption_report
from recog.training.threat import Threat

GREY = np.full((100, 100, 3), 0.5, np.float32)
SHAPE = (3, 6, 6)
LINF, L2 = Threat(norm="linf", eps=0.008), Threat(norm="l2", eps=0.06)
ATTACKS = {
    "pgd": lambda target, threat: pgd(target, threat, steps=40, restarts=1),
    "apgd-ce": lambda target, threat: apgd_ce(target, threat, steps=50, restarts=1),
    "apgd-dlr": lambda target, threat: apgd_dlr(target, threat, steps=50, restarts=1, num_targets=9),
}


def chance(key=1):
    return Generator(Philox(key=key))


def picture(height=40, width=48, channels=3, key=7):
    """Whole levels, smooth but for some noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (3 + c)) + np.cos(columns / (4 + c)) for c in range(channels)]
    image = np.stack(waves, axis=2) * 50 + 120 + chance(key).normal(0, 12, (height, width, channels))
    return np.clip(image, 0, 255).astype(np.uint8)


def as_float(image):
    return image.astype(np.float32) / 255


def linear_target(num_classes, *, num_images=60, seed=0):
    """A linear network and images in [0.3, 0.7], which no change of these threats brings to the end of the range."""
    torch.manual_seed(seed)
    weights = torch.randn(num_classes, 108) * 0.3
    images = 0.3 + 0.4 * torch.rand(num_images, *SHAPE)
    logits_of = lambda pixels: (pixels.flatten(1) - 0.5) @ weights.T  # noqa: E731
    labels = logits_of(images).argmax(dim=1)
    target = Target(logits_of=logits_of, images=images, labels=labels, indices=np.arange(num_images), seed=0)
    return target, weights


def can_be_fooled(target, weights, threat):
    """The margin to class j falls by eps times the dual norm of the difference of weights, and by no more."""
    logits = target.logits_of(target.images)
    gaps = logits.gather(1, target.labels[:, None]) - logits
    differences = weights[target.labels][:, None] - weights[None]
    dual = differences.abs().sum(dim=2) if threat.norm == "linf" else differences.norm(dim=2)
    reachable = gaps < threat.eps * dual
    reachable[torch.arange(len(reachable)), target.labels] = False
    return reachable.any(dim=1)


def condition(name, severity, correct, found):
    bits = np.packbits(np.array(correct, bool)).tobytes().hex()
    return Condition(
        name=name, severity=severity, correct=bits, found=found, confidence=0.8, nll=0.5, ece=0.1, unknown_rate=0.25,
        sample_sha256="0" * 64,
    )  # fmt: skip


IS_CLASS = np.eye(2, dtype=bool)[[0, 0, 1, 1]]
REPORT = corruption_report(
    [
        condition("clean", 0, [1, 1, 1, 0], (2, 1)),
        condition("fog", 1, [1, 1, 0, 0], (2, 0)),
        condition("fog", 5, [0, 0, 1, 0], (0, 1)),
        condition("rotation", 1, [1, 1, 1, 1], (2, 2)),
    ],
    IS_CLASS,
    ("a", "b"),
    constants="CIFAR-10-C",
)
ATTACKED = AttackReport(
    norm="linf", eps=8 / 255, steps=100, restarts=1, queries=5000, num_targets=9, seed=0,
    clean=Hits(num_images=4, num_correct=3),
    rows=(AttackRow(name="pgd", loss="cross-entropy", num_attacked=3, num_fooled=2, robust=Hits(num_images=4, num_correct=1)),),
    flags=("answers are random",), torch_version="2", correct="e0", correct_robust="80",
)  # fmt: skip
WHOLE = RobustnessReport(
    bundle="b", data="<script>", split=None, task="multiclass", num_images=4, image_size=(8, 8), engine="onnxruntime",
    seed=0, data_digest="d", num_seen=0, versions={"numpy": "2"}, corruptions=REPORT, attacks=ATTACKED,
)  # fmt: skip
