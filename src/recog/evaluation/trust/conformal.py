"""Prediction sets: the classes an image may show, so that the true one is among them at a stated rate.

Split conformal prediction: a score of how badly a class fits an image is taken of the true class of each calibration image;
a new image's set holds the classes whose score is no worse than all but a share `alpha` of those. If calibration and new
images are drawn alike, the true class is in the set with a chance of at least 1 - alpha, whatever the network. Vovk et al.
(2005), Algorithmic Learning in a Random World; the scores are cited below.

Where no class fits, the most probable one is the set: that can only raise how often the truth is in it.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from recog.core.chance import uniforms
from recog.core.errors import ConfigError, ShapeError
from recog.evaluation.measures.arrays import FloatArray, IntArray, check_labels, check_logits

SetMethod = Literal["lac", "aps", "raps"]
SET_METHODS: tuple[str, ...] = get_args(SetMethod)
MIN_CLASS_IMAGES = 200  # of calibration, for a class to have a quantile of its own
MAX_SCORE = 1e9
ALPHAS = (0.01, 0.05, 0.1)  # to choose from where none is set
SURE_ACCURACY = (
    0.95  # from here on, sets that hold the truth for 95 % of images would have no more than the predicted class
)
RAPS_PENALTY, RAPS_FREE_CLASSES = 0.01, 5  # what Angelopoulos et al. (2021), section 3, take for ImageNet


@dataclass(frozen=True, kw_only=True)
class ConformalSets:
    """A class is in the set where its score is at most the quantile; a quantile of None admits every image."""

    method: SetMethod
    alpha: float  # the share of images whose set may lack the true class
    quantile: float | None
    class_quantiles: tuple[float | None, ...] = ()  # [K] where conditional; a refused class has the common one
    refused: tuple[int, ...] = ()  # classes with too few calibration images for a quantile of their own
    num_images: int  # of calibration
    data: str  # which images, in words
    penalty: float = 0.0  # of 'raps', for each class beyond the free ones
    free_classes: int = 0

    def __post_init__(self) -> None:
        check_set_method(self.method)
        if not 0 < self.alpha < 1:
            raise ConfigError(f"the prediction sets' alpha is {self.alpha}; it must lie between 0 and 1.")
        quantiles = [q for q in (self.quantile, *self.class_quantiles) if q is not None]
        # the scores: a sum of probabilities, and the penalty for each class at most
        if not (np.abs(quantiles) <= MAX_SCORE).all() or not 0 <= self.penalty <= MAX_SCORE:
            raise ConfigError(
                f"the prediction sets have a quantile or penalty that no score reaches, above {MAX_SCORE:g}."
            )
        if min(self.num_images, self.free_classes, *self.refused) < 0:
            raise ConfigError("the prediction sets have a count or class below 0.")
        if max(self.refused, default=-1) >= len(self.class_quantiles) > 0:
            raise ConfigError(f"the prediction sets refuse class {max(self.refused)} of {len(self.class_quantiles)}.")

    def raw_sets(self, probs: FloatArray, coins: NDArray[np.float64]) -> NDArray[np.bool_]:
        """As `sets`, empty where no class fits."""
        thresholds = np.array([math.inf if q is None else q for q in self.class_quantiles or (self.quantile,)])
        scores = set_scores(probs, coins, self.method, penalty=self.penalty, free_classes=self.free_classes)
        inside: NDArray[np.bool_] = scores <= thresholds
        return inside

    def sets(self, probs: FloatArray, coins: NDArray[np.float64]) -> NDArray[np.bool_]:
        """bool [N, K], True for the classes in each image's set, from its calibrated `probs` [N, K] and `coins` [N]."""
        sets = self.raw_sets(probs, coins)
        empty = np.flatnonzero(~sets.any(axis=1))
        sets[empty, probs[empty].argmax(axis=1)] = True
        return sets

    def to_dict(self) -> dict[str, Any]:
        table = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in table.items()}


def check_set_method(method: str) -> None:
    if method not in SET_METHODS:
        raise ConfigError(f"the method of prediction sets is {method!r}; expected one of {', '.join(SET_METHODS)}.")


def image_coins(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A number in [0, 1) for each of `images` uint8 [N, H, W, C], float64 [N], from its pixels alone.

    So an image has the same set each time, in every engine and whatever is answered beside it.
    """
    checks = np.array([zlib.crc32(image.tobytes()) for image in images], dtype=np.int64)
    return row_coins(checks)


def row_coins(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """A number in [0, 1) for each of `numbers` int64 [N] in [0, 2^32), such as the rows of a table without pixels."""
    return uniforms(0, 0, numbers, "prediction sets", 1)[:, 0]


def set_scores(
    probs: FloatArray,
    coins: NDArray[np.float64],
    method: str,
    *,
    penalty: float = RAPS_PENALTY,
    free_classes: int = RAPS_FREE_CLASSES,
) -> NDArray[np.float64]:
    """How badly each class fits each image, float64 [N, K], from `probs` [N, K] and `coins` float64 [N] in [0, 1).

    'lac': 1 - its probability: the smallest sets on average. Sadinle, Lei and Wasserman (2019), JASA 114.
    'aps': the probability of all classes that are likelier, and of itself the share 1 - coin: sets grow with doubt. Romano,
    Sesia and Candes (2020), NeurIPS.
    'raps': and `penalty` for each place behind the `free_classes` likeliest, which keeps sets short. Angelopoulos et al.
    (2021), ICLR.
    """
    check_logits(probs, "probs")
    check_set_method(method)
    if method == "lac":
        scores: NDArray[np.float64] = 1.0 - probs.astype(np.float64)
        return scores
    if coins.shape != (len(probs),):
        raise ShapeError(f"coins have shape {coins.shape}; expected ({len(probs)},), one for each image.")
    order = np.argsort(-probs, axis=1, kind="stable")
    ordered = np.take_along_axis(probs.astype(np.float64), order, axis=1)
    ordered_scores = ordered.cumsum(axis=1) - coins[:, None] * ordered
    if method == "raps":
        ordered_scores += penalty * np.maximum(0, np.arange(1, probs.shape[1] + 1) - free_classes)
    scores = np.empty_like(ordered_scores)
    np.put_along_axis(scores, order, ordered_scores, axis=1)
    return scores


def conformal_quantile(scores: NDArray[np.float64], alpha: float) -> float | None:
    """The ceil((n + 1)(1 - alpha))-th smallest of `scores` float64 [n]; None where n is too small for one."""
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)  # 0.9 * 10 is 9, not a hair above
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank <= len(scores) else None


def choose_alpha(logits: FloatArray, labels: IntArray) -> float:
    """The share of images whose set may lack the true class: 5 %, or 1 % where the accuracy is 95 % or more.

    From `logits` [N, K] and `labels` int [N] of calibration; the next larger share where N is too small for a quantile.
    """
    wanted = 0.01 if (logits.argmax(axis=1) == labels).mean() >= SURE_ACCURACY else 0.05
    return next((alpha for alpha in ALPHAS if alpha >= wanted and alpha * (len(labels) + 1) >= 1 - 1e-9), ALPHAS[-1])


def fit_sets(
    probs: FloatArray,
    labels: IntArray,
    coins: NDArray[np.float64],
    *,
    method: str,
    alpha: float,
    class_conditional: bool = False,
    data: str = "given images",
) -> ConformalSets:
    """From calibrated `probs` [N, K], `labels` int [N] and `coins` float64 [N] of images that were not used in training.

    `class_conditional` holds the rate within each class that has 200 calibration images (Vovk, 2012, ACML): the others are
    refused one of their own, as it would be too uncertain, and share the quantile of all images.
    """
    num_images, num_classes = probs.shape
    check_labels(labels, num_images, num_classes)
    is_raps = method == "raps"
    free_classes = min(RAPS_FREE_CLASSES, num_classes // 2) if is_raps else 0
    penalty = RAPS_PENALTY if is_raps else 0.0
    scores = set_scores(probs, coins, method, penalty=penalty, free_classes=free_classes)
    true_scores = scores[np.arange(num_images), labels]
    common = conformal_quantile(true_scores, alpha)
    counts = np.bincount(labels, minlength=num_classes)
    refused = tuple(np.flatnonzero(counts < MIN_CLASS_IMAGES).tolist()) if class_conditional else ()
    own = (
        tuple(
            common if k in refused else conformal_quantile(true_scores[labels == k], alpha) for k in range(num_classes)
        )
        if class_conditional and len(refused) < num_classes
        else ()
    )
    return ConformalSets(
        method=method,  # type: ignore[arg-type]  # set_scores has refused any other
        alpha=alpha,
        quantile=common,
        class_quantiles=own,
        refused=refused,
        num_images=num_images,
        data=data,
        penalty=penalty,
        free_classes=free_classes,
    )
