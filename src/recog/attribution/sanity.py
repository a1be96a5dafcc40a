"""Two questions to a method: does its map change with the network, and does it find which half of a picture shows a class?"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

from recog.attribution.subject import Subject
from recog.attribution.table import attribute
from recog.core.chance import permutation
from recog.deployment.onnx import TorchEngine
from recog.evaluation.measures.counts import wilson_interval
from recog.models.classifier import Classifier

MAX_SIMILARITY = 0.5  # rank correlation above which a map is taken not to depend on the weights
MAX_CASES = 60


def with_random_weights(subject: Subject, images: NDArray[np.uint8]) -> Subject:
    """The same network with the entries of every parameter in random order, and the statistics of its norms for `images`.

    Adebayo et al. (2018), "Sanity checks for saliency maps". The network of `subject` stays as it is.
    """
    classifier = copy.deepcopy(subject.classifier)
    with torch.no_grad():
        for number, parameter in enumerate(classifier.parameters()):
            order = torch.as_tensor(permutation(0, number, parameter.numel(), "random weights"))
            parameter.copy_(parameter.reshape(-1)[order].reshape(parameter.shape))
        _refresh_norms(classifier, images)
    return replace(subject, engine=TorchEngine(classifier), open_classifier=lambda: classifier)


def _refresh_norms(classifier: Classifier, images: NDArray[np.uint8]) -> None:
    """Batch norms take the mean and variance of `images`: with those of other weights the outputs would grow without bound."""
    norms = [module for module in classifier.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    classifier.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    classifier(torch.as_tensor(np.concatenate([images, images[:, :, ::-1]])))  # two at least
    classifier.eval()


def weight_similarity(maps: NDArray[np.float32], of_random: NDArray[np.float32]) -> float:
    """The mean rank correlation of maps [B, H, W] with those of the network with random weights; 0 of a constant map."""
    return float(np.mean([_rank_correlation(a, b) for a, b in zip(maps, of_random, strict=True)]))


def _rank_correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    ranks = [rankdata(values) - (values.size + 1) / 2 for values in (a, b)]
    scale = np.sqrt(np.square(ranks[0]).sum() * np.square(ranks[1]).sum())
    return float((ranks[0] * ranks[1]).sum() / scale) if scale > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """In how many pictures of two classes side by side the half of the class that is explained has the higher mean."""

    num_right: int
    num_cases: int

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the rate (Wilson); chance is 1/2."""
        return wilson_interval(self.num_right, self.num_cases)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Pictures of two classes: the left half of each shows `left` [P], the right half `right` [P]."""

    pictures: NDArray[np.uint8]  # [P, H, W, C]
    left: NDArray[np.int64]
    right: NDArray[np.int64]


def build_pairs(images: NDArray[np.uint8], labels: NDArray[np.int64], num_pairs: int) -> Pairs:
    """Pictures whose halves are the middles of two of `images` uint8 [B, H, W, C] with different `labels` [B]."""
    width = images.shape[2]
    half = width // 2
    start = (width - half) // 2
    middles = images[:, :, start : start + half]
    rows, columns = np.nonzero(labels[:, None] != labels[None, :])
    chosen = permutation(0, 0, len(rows), "pairs")[:num_pairs]
    rows, columns = rows[chosen], columns[chosen]
    pictures = images[rows].copy()
    pictures[:, :, :half] = middles[rows]
    pictures[:, :, width - half :] = middles[columns]
    return Pairs(pictures=pictures, left=labels[rows], right=labels[columns])


def play_pointing_game(method: str, subject: Subject, pairs: Pairs) -> Pointing:
    """Each picture is explained for both of its classes, which makes two cases."""
    half = subject.image_size[1] // 2
    num_right = 0
    for labels, is_left in ((pairs.left, True), (pairs.right, False)):
        maps = np.maximum(attribute(method, subject, pairs.pictures, labels).maps, 0)
        left, right = maps[:, :, :half].mean(axis=(1, 2)), maps[:, :, -half:].mean(axis=(1, 2))
        num_right += int((left > right).sum() if is_left else (right > left).sum())
    return Pointing(num_right=num_right, num_cases=2 * len(pairs.pictures))
