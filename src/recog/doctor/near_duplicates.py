"""Images that show the same picture: re-saved, resized, mirrored, turned, cropped, rotated, or with another brightness or aspect.

A perceptual hash over the eight flips and quarter turns and the cosine of features propose pairs. A pair is reported where one
image, warped onto the other, has the same edges in the same places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, irfft2, rfft2
from scipy.ndimage import gaussian_filter, map_coordinates

from recog.core.hardware import num_cores
from recog.doctor.features import Neighbours

Pair = tuple[int, int]
_F = NDArray[np.float32]

_FREQUENCIES = 8  # of the hash, each way: 63 bits without the mean
_MAX_BITS_APART = 12  # of two hashes of one picture; of unrelated ones 31 +- 4
_BLOCK = 256
_BLANK_LEVELS = 2.0  # standard deviation of the grey levels of an image that shows nothing
MAX_ALIGNED = 2000  # pairs that the hash proposes, and that features propose, the nearest first; each takes some 20 ms
_PX, _FINE_PX = 32, 64  # of the search for the warp, and of its score
_SIGMA_PX = 4.0  # the search looks at edges: what is left of an image less its blurred copy
_ROTATIONS = tuple(np.radians(np.arange(-30.0, 30.1, 7.5)))
_SCALES = tuple(1.12 ** np.arange(-3, 4))
_MIN_OVERLAP = 0.3  # of the area
_PROGRESS_EVERY = 50
FLIPS = tuple((transpose, up, left) for transpose in (False, True) for up in (False, True) for left in (False, True))
_UPRIGHT = (0, 1)  # of FLIPS: as it is, and mirrored


@dataclass(frozen=True, kw_only=True)
class Match:
    """Images `first` < `second` show one picture. `similarity` is the correlation of their edges, at most 1."""

    first: int
    second: int
    similarity: float


def flipped(image: NDArray[np.uint8], flip: tuple[bool, bool, bool]) -> NDArray[np.uint8]:
    """`image` [H, W] transposed, then mirrored along each axis, as `flip` = (transpose, up-down, left-right) tells."""
    transpose, up, left = flip
    found = image.T if transpose else image
    return found[:: -1 if up else 1, :: -1 if left else 1]


def hash_variants(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Perceptual hashes uint64 [8, N] of grey images [N, H, W] in each of FLIPS: the signs of their low frequencies.

    After Zauner (2010), "Implementation and Benchmarking of Perceptual Image Hash Functions". A mirrored image has the same
    coefficients with the odd ones negated, so that no image is transformed twice.
    """
    frequencies = np.empty((len(thumbnails), _FREQUENCIES, _FREQUENCIES), dtype=np.float32)
    for start in range(0, len(thumbnails), _BLOCK):
        block = thumbnails[start : start + _BLOCK].astype(np.float32)
        frequencies[start : start + _BLOCK] = dctn(block, axes=(1, 2), norm="ortho")[:, :_FREQUENCIES, :_FREQUENCIES]
    odd = np.where(np.arange(_FREQUENCIES) % 2, -1, 1)
    hashes = []
    for transpose, up, left in FLIPS:
        turned = frequencies.transpose(0, 2, 1) if transpose else frequencies
        signs = turned * (odd[:, None] if up else 1) * (odd[None, :] if left else 1) > 0
        signs[:, 0, 0] = False
        hashes.append(np.packbits(signs.reshape(len(signs), -1), axis=1).view(np.uint64)[:, 0])
    return np.stack(hashes)


def hash_pairs(thumbnails: NDArray[np.uint8], max_bits: int = _MAX_BITS_APART) -> dict[Pair, int]:
    """{(i, j): index of the flip of j that is nearest to i}, i < j, for hashes at most `max_bits` apart.

    At most MAX_ALIGNED of the nearest, as drawings may all have nearly one hash; blank images are left out.
    """
    hashes = hash_variants(thumbnails)
    is_blank = thumbnails.reshape(len(thumbnails), -1).std(axis=1) < _BLANK_LEVELS
    found = np.zeros((0, 4), dtype=np.int64)  # bits apart, flip, i, j
    for start in range(0, len(thumbnails), _BLOCK):
        rows = hashes[0, start : start + _BLOCK, None]
        for flip, variants in enumerate(hashes):
            apart = np.bitwise_count(rows ^ variants[None, start:])
            apart[np.tril_indices_from(apart)] = 64
            apart[is_blank[start : start + _BLOCK]] = 64
            apart[:, is_blank[start:]] = 64
            i, j = np.nonzero(apart <= max_bits)
            new = np.stack([apart[i, j].astype(np.int64), np.full(len(i), flip), i + start, j + start], axis=1)
            found = np.concatenate([found, new])
            if len(found) > 4 * MAX_ALIGNED:
                found = found[np.argsort(found[:, 0], kind="stable")[: 2 * MAX_ALIGNED]]
    nearest = found[np.argsort(found[:, 0], kind="stable")]
    flips: dict[Pair, int] = {}
    for _, flip, i, j in nearest.tolist():
        if len(flips) < MAX_ALIGNED:
            flips.setdefault((i, j), flip)
    return flips


def edges_of(thumbnail: NDArray[np.generic], size_px: int) -> _F:
    """Grey [64, 64] -> float32 [size, size]: what its blurred copy lacks, with mean 0 and norm 1; 0 for a blank image."""
    step = thumbnail.shape[0] // size_px
    pixels = thumbnail.astype(np.float32).reshape(size_px, step, size_px, step).mean(axis=(1, 3))
    edges = pixels - gaussian_filter(pixels, _SIGMA_PX * size_px / _PX, mode="nearest")
    edges -= edges.mean()
    norm = float(np.linalg.norm(edges))
    return edges / norm if norm > 1e-3 else np.zeros_like(edges)


@cache
def _grid(aspect: float, size_px: int) -> _F:
    """Coordinates [W, 2, size, size] that each warp reads from: rotations and scales about the centre of an image of `aspect`."""
    centred = (np.arange(size_px) - (size_px - 1) / 2) / size_px
    y, x = np.meshgrid(centred, centred, indexing="ij")
    warps = []
    for angle in _ROTATIONS:
        sine, cosine = np.sin(angle), np.cos(angle)
        for scale in _SCALES:
            across, down = cosine * x - sine * y / aspect, sine * x * aspect + cosine * y
            warps.append(np.stack([down, across]) / scale * size_px + (size_px - 1) / 2)
    return np.stack(warps).astype(np.float32)


def best_alignment(first: NDArray[np.uint8], second: NDArray[np.uint8], aspect: float) -> float:
    """The highest correlation of edges over warps and shifts of `second`, grey [64, 64], onto `first`.

    `aspect` is width / height of `second`, whose sides were scaled separately.
    """
    aspect = float(2 ** (round(4 * np.log2(aspect)) / 4))  # few grids, each within 9 %
    grid = _grid(aspect, _PX)
    warped = map_coordinates(edges_of(second, _PX), [grid[:, 0], grid[:, 1]], order=1, mode="constant", prefilter=False)
    warped /= np.maximum(np.linalg.norm(warped, axis=(1, 2), keepdims=True), 1e-6)
    padded = (2 * _PX, 2 * _PX)
    spectra = rfft2(warped, padded, axes=(1, 2))
    products = irfft2(rfft2(edges_of(first, _PX), padded)[None] * spectra.conj(), padded, axes=(1, 2))
    best = 0.0
    for warp in np.argsort(-products.max(axis=(1, 2)))[:3]:
        shift = np.unravel_index(int(products[warp].argmax()), padded)
        down, across = (int(s) - 2 * _PX if s >= _PX else int(s) for s in shift)
        best = max(best, _score(first, second, _grid(aspect, _FINE_PX)[warp], 2 * down, 2 * across))
    return best


def _score(first: NDArray[np.uint8], second: NDArray[np.uint8], grid: _F, down: int, across: int) -> float:
    """The correlation where both overlap, over shifts of up to two pixels about (down, across)."""
    whole = edges_of(first, _FINE_PX)
    warped = map_coordinates(edges_of(second, _FINE_PX), [grid[0], grid[1]], order=1, mode="constant", prefilter=False)
    inside: NDArray[np.bool_] = np.all((grid >= 0) & (grid <= _FINE_PX - 1), axis=0)
    best = 0.0
    for dy in range(down - 2, down + 3):
        for dx in range(across - 2, across + 3):
            a = whole[max(0, dy) : _FINE_PX + min(0, dy), max(0, dx) : _FINE_PX + min(0, dx)]
            b, kept = (
                part[max(0, -dy) : _FINE_PX - max(0, dy), max(0, -dx) : _FINE_PX - max(0, dx)]
                for part in (warped, inside)
            )
            if kept.mean() * kept.size < _MIN_OVERLAP * _FINE_PX**2:
                continue
            u, v = a[kept] - a[kept].mean(), b[kept] - b[kept].mean()
            best = max(best, float(u @ v / max(1e-9, np.linalg.norm(u) * np.linalg.norm(v))))
    return best


MIN_SIMILARITY = 0.8  # of a pair that the hash proposes: unrelated photos reached 0.58 (benchmarks/doctor.py)
MIN_SUM = 1.45  # of similarity and cosine, of a pair that features propose: unrelated photos reached 1.42
_MIN_COSINE, _NUM_PROPOSED = 0.55, 3
_NUM_BACKGROUND, _BACKGROUND_RANK = 150, 0.7  # pairs, and how far down the list of neighbours they are taken


def find_near_duplicates(
    thumbnails: NDArray[np.uint8], aspects: Sequence[float], neighbours: Neighbours
) -> Iterator[tuple[int, int] | list[Match]]:
    """(pairs done, all pairs) now and then, the matches last. Images: grey [N, 64, 64] of `aspects` width / height."""
    hashed = hash_pairs(thumbnails)
    cosines: dict[Pair, float] = {}
    for i, row in enumerate(neighbours.rows[:, :_NUM_PROPOSED].tolist()):
        for j, cosine in zip(row, neighbours.cosines[i].tolist(), strict=False):
            cosines[min(i, j), max(i, j)] = cosine
    near = sorted((pair for pair, cosine in cosines.items() if cosine >= _MIN_COSINE), key=lambda pair: -cosines[pair])
    pairs = sorted({*hashed, *near[:MAX_ALIGNED]})
    background = _background(neighbours)

    def align(pair: Pair) -> float:
        i, j = pair
        flips = (hashed[pair],) if pair in hashed else _UPRIGHT
        return max(_aligned(thumbnails[i], thumbnails[j], aspects[j], FLIPS[flip]) for flip in flips)

    similarities: list[float] = []
    with ThreadPoolExecutor(num_cores()) as pool:
        for similarity in pool.map(align, [*background, *pairs]):
            similarities.append(similarity)
            if len(similarities) % _PROGRESS_EVERY == 0:
                yield len(similarities), len(background) + len(pairs)
    usual = np.array(similarities[: len(background)])
    min_similarity = _above(usual, MIN_SIMILARITY, 1.0)
    min_sum = _above(usual + [*background.values()], MIN_SUM, 2.0)
    yield [
        Match(first=pair[0], second=pair[1], similarity=similarity)
        for pair, similarity in zip(pairs, similarities[len(background) :], strict=True)
        if similarity + cosines.get(pair, 0.0) >= min_sum or (pair in hashed and similarity >= min_similarity)
    ]


def _background(neighbours: Neighbours) -> dict[Pair, float]:
    """{(i, j): cosine} of images with one that is alike, but not the nearest; images spread over all of them."""
    num_images, num_neighbours = neighbours.rows.shape
    rank = int(_BACKGROUND_RANK * num_neighbours)
    chosen = np.unique(np.linspace(0, num_images - 1, _NUM_BACKGROUND).astype(np.int64))
    rows, cosines = neighbours.rows[chosen, rank].tolist(), neighbours.cosines[chosen, rank].tolist()
    return {(i, j): cosine for i, j, cosine in zip(chosen.tolist(), rows, cosines, strict=True)}


def _above(usual: NDArray[np.float64], least: float, largest: float) -> float:
    """The threshold `least`; where the 99th percentile of what is `usual` exceeds it, four fifths of the way on to `largest`.

    Simple drawings such as digits resemble each other as much as changed copies of one photo do; of them only copies that are
    nearly equal can be told.
    """
    high = float(np.quantile(usual, 0.99))
    return least if high < least else high + 0.8 * (largest - high)


def _aligned(
    first: NDArray[np.uint8], second: NDArray[np.uint8], aspect: float, flip: tuple[bool, bool, bool]
) -> float:
    return best_alignment(first, flipped(second, flip), 1 / aspect if flip[0] else aspect)
