"""Losses by name. All sum over the classes and average over the images, so that a learning rate means the same for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from recog.core.task import Task
from recog.training.config import LossConfig, LossName


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss with its settings: logits float [B, K] and targets to a scalar, lower is better.

    `targets` are labels int64 [B], or float [B, K]: shares that sum to 1 where images are mixed, 0 or 1 for each class of a
    multi-label image. `class_weights` float [K] weigh the images of a class against the others'; in bce and in every
    multi-label loss they weigh a class's presence against its absence.
    """

    name: LossName
    task: Task
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    gce_q: float = 0.7
    class_weights: torch.Tensor | None = None

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        return _LOSSES[self.task][self.name](logits, targets, self, weights)

    def total_weight(self, targets: torch.Tensor) -> float:
        """What the mean over a batch divides by: with it, the losses of the parts of a batch add up to the batch's own."""
        if self.class_weights is not None and targets.ndim == 1 and self.name in _WEIGHED_BY_LABEL:
            return float(self.class_weights.to(targets.device)[targets].sum())
        return float(len(targets))


def build_loss(config: LossConfig, *, task: Task = "multiclass", class_weights: torch.Tensor | None = None) -> Loss:
    """The loss that `config` names, or that suits `task`, with `class_weights` float [K]. ConfigError where it does not suit."""
    plan = config.filled(task)
    return Loss(
        name=plan.name,
        task=task,
        label_smoothing=plan.label_smoothing,
        focal_gamma=plan.focal_gamma,
        gce_q=plan.gce_q,
        class_weights=class_weights,
    )


def as_shares(targets: torch.Tensor, logits: torch.Tensor, loss: Loss) -> torch.Tensor:
    """Targets float [B, K] after smoothing: towards 1/K each for one class an image, towards 1/2 for each class on its own."""
    ways = _NUM_WAYS.get(loss.task, logits.shape[1])
    return one_hot(targets, logits.shape[1]).to(logits) * (1 - loss.label_smoothing) + loss.label_smoothing / ways


def one_hot(targets: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Float [B, K] of labels int64 [B]; targets float [B, K] as they are."""
    return targets if targets.ndim == 2 else F.one_hot(targets, num_classes).float()


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, loss: Loss, weights: torch.Tensor | None
) -> torch.Tensor:
    """Minus the log of the targets' probabilities; with labels and weights a mean weighted by them, as torch has it."""
    return F.cross_entropy(logits, targets, weight=weights, label_smoothing=loss.label_smoothing)


def focal(logits: torch.Tensor, targets: torch.Tensor, loss: Loss, weights: torch.Tensor | None) -> torch.Tensor:
    """Cross-entropy, each class's term times (1 - p)^gamma; at gamma 0 torch's cross-entropy.

    Lin et al. (2017), "Focal Loss for Dense Object Detection", with a softmax for one class per image.
    """
    shares = as_shares(targets, logits, loss)
    log_probs = logits.log_softmax(dim=1)
    # 1 - p as a sum of the other classes' probabilities would cost K^2; expm1 keeps it exact where p is near 1
    doubt = (-torch.expm1(log_probs)).clamp(min=torch.finfo(logits.dtype).tiny)
    terms = -shares * doubt**loss.focal_gamma * log_probs
    if weights is None:
        return terms.sum(dim=1).mean()
    return (terms * weights).sum() / loss.total_weight(targets)


def generalised_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, loss: Loss, weights: torch.Tensor | None
) -> torch.Tensor:
    """(1 - p^q) / q of each target's probability p: cross-entropy at q = 0, the mean absolute error at q = 1.

    Its gradient is cross-entropy's times p^q, so that a label which the network contradicts weighs little. Zhang and Sabuncu
    (2018), "Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels", equation 6.
    """
    shares = as_shares(targets, logits, loss)
    terms = -shares * torch.expm1(loss.gce_q * logits.log_softmax(dim=1)) / loss.gce_q
    if weights is None:
        return terms.sum(dim=1).mean()
    return (terms * weights).sum() / loss.total_weight(targets)


def sigmoid_focal(
    logits: torch.Tensor, targets: torch.Tensor, loss: Loss, weights: torch.Tensor | None
) -> torch.Tensor:
    """The paper's focal loss, a sigmoid per class."""
    shares = as_shares(targets, logits, loss)
    terms: torch.Tensor = sigmoid_focal_loss(logits, shares, alpha=-1, gamma=loss.focal_gamma)
    return (terms * _presence(shares, weights)).sum(dim=1).mean()


def bce(logits: torch.Tensor, targets: torch.Tensor, loss: Loss, weights: torch.Tensor | None) -> torch.Tensor:
    """Binary cross-entropy of a sigmoid per class, as timm's with sum_classes; weights are of the positives (pos_weight)."""
    shares = as_shares(targets, logits, loss)
    return F.binary_cross_entropy_with_logits(logits, shares, pos_weight=weights, reduction="none").sum(dim=1).mean()


def mse(logits: torch.Tensor, targets: torch.Tensor, loss: Loss, weights: torch.Tensor | None) -> torch.Tensor:
    """Squared gap between probabilities and (one-hot) targets: Brier (1950), the same number that a report's Brier score is.

    Of the probabilities and not of the logits, because those are what a bundle predicts.
    """
    gaps = (logits.softmax(dim=1) - as_shares(targets, logits, loss)).square().sum(dim=1)
    if weights is None:
        return gaps.mean()
    return (gaps * (one_hot(targets, logits.shape[1]).to(logits) @ weights)).sum() / loss.total_weight(targets)


def sigmoid_mse(logits: torch.Tensor, targets: torch.Tensor, loss: Loss, weights: torch.Tensor | None) -> torch.Tensor:
    """As `mse`, a sigmoid per class."""
    shares = as_shares(targets, logits, loss)
    return ((logits.sigmoid() - shares).square() * _presence(shares, weights)).sum(dim=1).mean()


def _presence(shares: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """The weight of each class's term float [B, K]: its own where the class is present, 1 where it is absent."""
    return torch.ones_like(shares) if weights is None else 1 + (weights - 1) * shares


_WEIGHED_BY_LABEL = ("cross-entropy", "focal", "gce", "mse")
_NUM_WAYS: Mapping[Task, int] = MappingProxyType({"multilabel": 2})  # that smoothing spreads a target over; else K
_LossFunction = Callable[[torch.Tensor, torch.Tensor, Loss, torch.Tensor | None], torch.Tensor]
_LOSSES: Mapping[Task, Mapping[LossName, _LossFunction]] = MappingProxyType(
    {
        "multiclass": {
            "cross-entropy": cross_entropy,
            "focal": focal,
            "gce": generalised_cross_entropy,
            "bce": bce,
            "mse": mse,
        },
        "multilabel": {"bce": bce, "focal": sigmoid_focal, "mse": sigmoid_mse},
    }
)
