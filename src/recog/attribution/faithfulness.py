"""Whether a map shows what the answer depends on: deletion and insertion curves, beside maps that know nothing of the network.

Petsiuk et al. (2018) measure the area under the curves alone. Smooth maps win by themselves, as they delete whole areas, so here
only the gain over a random map and over the edges of the image counts, both blurred until they are as smooth as the map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter, sobel
from scipy.special import ndtri
from scipy.stats import t as student

from recog.attribution.subject import Subject
from recog.core.chance import permutation, uniforms

NUM_STEPS = 10  # of a curve, each a tenth of the pixels
_BLUR = 1 / 16  # of the image's side: the standard deviation of the blur that insertion starts from
_BISECTIONS = 9
_MAX_SIGMA = 1 / 4  # of the image's side


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Areas under the curves of a label's probability, in [0, 1]."""

    deletion: float  # pixels become grey, those with the highest values first: the lower, the better
    insertion: float  # a blurred image becomes sharp, the same pixels first: the higher, the better

    @property
    def score(self) -> float:
        """Insertion less deletion, in [-1, 1]."""
        return self.insertion - self.deletion


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The mean over images of how much the score of a method is above that of a control, with its 95% interval."""

    mean: float
    low: float
    high: float
    num_images: int

    @classmethod
    def of(cls, differences: NDArray[np.float64]) -> Gain:
        """By Student's t; of one image the interval is the whole range."""
        n, mean = len(differences), float(differences.mean())
        if n < 2:
            return cls(mean=mean, low=-2.0, high=2.0, num_images=n)
        half = float(student.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n))
        return cls(mean=mean, low=mean - half, high=mean + half, num_images=n)


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """A method on some images, beside its two controls."""

    deletion: float  # means over the images
    insertion: float
    over_random: Gain
    over_edges: Gain

    @property
    def margin(self) -> float:
        """The mean gain over the better control."""
        return min(self.over_random.mean, self.over_edges.mean)

    @property
    def is_better(self) -> bool:
        """Whether both intervals lie above 0."""
        return min(self.over_random.low, self.over_edges.low) > 0


def measure_faithfulness(
    subject: Subject, images: NDArray[np.uint8], labels: NDArray[np.int64], maps: NDArray[np.float32]
) -> Faithfulness:
    """Curves of `maps` float [B, H, W] for `labels` int64 [B] of `images` uint8 [B, H, W, C], and of the two controls of each."""
    scores: dict[str, list[Curves]] = {"method": [], "random": [], "edges": []}
    for i, (image, label, shown) in enumerate(zip(images, labels, maps, strict=True)):
        for name, values in (
            ("method", shown),
            ("random", random_map(shown, index=i)),
            ("edges", edge_map(image, shown)),
        ):
            scores[name].append(measure_curves(subject, image, int(label), values))
    own, random, edges = (np.array([c.score for c in scores[name]]) for name in scores)
    return Faithfulness(
        deletion=float(np.mean([c.deletion for c in scores["method"]])),
        insertion=float(np.mean([c.insertion for c in scores["method"]])),
        over_random=Gain.of(own - random),
        over_edges=Gain.of(own - edges),
    )


def measure_curves(subject: Subject, image: NDArray[np.uint8], label: int, values: NDArray[np.floating]) -> Curves:
    """The curves of one image uint8 [H, W, C] for pixels in the order of falling `values` [H, W]; ties at random."""
    places = np.empty(values.size, dtype=np.int64)
    order = np.lexsort((permutation(0, 0, values.size, "ties"), -values.reshape(-1).astype(np.float64)))
    places[order] = np.arange(values.size)
    rank = places.reshape(values.shape)
    taken = [rank < round(step * values.size / NUM_STEPS) for step in range(NUM_STEPS + 1)]
    grey = np.broadcast_to(np.array(subject.fill, np.uint8), image.shape)
    blurred = _blurred(image)
    deleted = [np.where(mask[..., None], grey, image) for mask in taken]
    inserted = [np.where(mask[..., None], image, blurred) for mask in taken]
    probs = subject.probs_of(np.stack(deleted + inserted), label)
    deletion, insertion = (float(np.trapezoid(part) / NUM_STEPS) for part in np.split(probs, 2))
    return Curves(deletion=deletion, insertion=insertion)


def _blurred(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(_BLUR * max(image.shape[:2])))).reshape(image.shape)


def random_map(like: NDArray[np.floating], *, index: int) -> NDArray[np.float64]:
    """Gaussian noise, blurred until it is as smooth as `like` [H, W]; another for each `index`."""
    height, width = like.shape
    noise = ndtri(uniforms(0, index, np.arange(height), "random map", width) + 2.0**-33)
    return _as_smooth(noise, like)


def edge_map(image: NDArray[np.uint8], like: NDArray[np.floating]) -> NDArray[np.float64]:
    """The contrast of the image's edges (Sobel), blurred until it is as smooth as `like` [H, W]."""
    grey = image.astype(np.float64).mean(axis=2)
    return _as_smooth(np.hypot(sobel(grey, axis=0), sobel(grey, axis=1)), like)


def roughness(values: NDArray[np.floating]) -> float:
    """The mean squared slope of a map over its variance, per pixel: 0 for a plane without slope, 4 for white noise."""
    values = values.astype(np.float64)
    slopes = np.square(np.diff(values, axis=0)).mean() + np.square(np.diff(values, axis=1)).mean()
    variance = values.var()
    return float(slopes / variance) if variance > 0 else 0.0


def _as_smooth(values: NDArray[np.float64], like: NDArray[np.floating]) -> NDArray[np.float64]:
    """`values` [H, W] with the Gaussian blur that brings them to the roughness of `like`, by bisection."""
    wanted = roughness(like)
    low, high = 0.0, _MAX_SIGMA * max(values.shape)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if roughness(gaussian_filter(values, middle)) > wanted:
            low = middle
        else:
            high = middle
    return np.asarray(gaussian_filter(values, (low + high) / 2), dtype=np.float64)
