"""Images that show the same picture: re-saved, resized, mirrored, turned, cropped, rotated, or with another brightness or aspect.

A perceptual hash over the eight flips and quarter turns and the cosine of features propose pairs. A pair is reported where its
pixels are nearly equal or where, after one image is warped onto the other, nearly all details are alike. Where the images around
a pair are alike after warping too, such as drawings or digits, a changed copy cannot be told from another image of the same
shape; of them only nearly equal pairs are reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from recog.core.hardware import num_cores
from recog.doctor.alignment import NOTHING, Agreement, align, count_details
from recog.doctor.features import Neighbours

Pair = tuple[int, int]

_FREQUENCIES = 8  # of the hash, each way: 63 bits without the mean
_MAX_BITS_APART = 12  # of two hashes of one picture; of unrelated ones 31 +- 4
_BLOCK = 256
_BLANK_LEVELS = 2.0  # standard deviation of the grey levels of an image that shows nothing
MAX_HASHED, MAX_ALIGNED = 10_000, 3000  # pairs of the hash, the nearest first; pairs to align, some 10 ms each
_PROGRESS_EVERY = 50
FLIPS = tuple((transpose, up, left) for transpose in (False, True) for up in (False, True) for left in (False, True))
_UPRIGHT = (0, 1)  # of FLIPS: as it is, and mirrored


@dataclass(frozen=True, kw_only=True)
class Match:
    """Images `first` < `second` show one picture. `similarity` is the correlation of their edges or pixels, at most 1."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The `matches` among `num_pairs` proposed pairs, of which the least likely `num_left_out` were not compared, for time."""

    matches: list[Match]
    num_pairs: int
    num_left_out: int


def flipped(image: NDArray[np.uint8], flip: tuple[bool, bool, bool]) -> NDArray[np.uint8]:
    """`image` [H, W] or [H, W, C] transposed, then mirrored along each axis: `flip` = (transpose, up-down, left-right)."""
    transpose, up, left = flip
    found = image.swapaxes(0, 1) if transpose else image
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

    At most MAX_HASHED of the nearest, as drawings may all have nearly one hash; blank images are left out.
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
            if len(found) > 4 * MAX_HASHED:
                found = found[np.argsort(found[:, 0], kind="stable")[: 2 * MAX_HASHED]]
    nearest = found[np.argsort(found[:, 0], kind="stable")]
    flips: dict[Pair, int] = {}
    for _, flip, i, j in nearest.tolist():
        if len(flips) < MAX_HASHED:
            flips.setdefault((i, j), flip)
    return flips


# Of the edges, and of the details, of two images of one picture. All pairs of photos and of CIFAR-10 images above these show one
# scene, by eye.
MIN_SIMILARITY, MIN_MATCHED = 0.75, 0.8
MAX_SHEAR = 0.15  # of silhouettes of different airplanes that were alike after warping, 0.2 and more
MIN_DETAILS, MIN_SHARED = 25, 15  # of each image, of 225 windows, and where both overlap
MANY_DETAILS = 60  # of both images; a pair with fewer is not reported unless other pairs can be compared with it
# A pair stands out where three quarters of the pairs around it, those of its images and of their nearest neighbours, are less
# similar than this. Of digits and drawings 0.7 is the median, of photos and of CIFAR-10 images nine in ten pairs are below.
MAX_AROUND, _QUANTILE_AROUND = 0.65, 0.75
MIN_AROUND, _NUM_AROUND = 5, 10  # pairs, of fewer those of all images count; neighbours
# Difference to contrast of nearly equal images, and where levels differ by no more than compression makes. Of different digits of
# 8 x 8 px it was 0.11 or more, and 10 levels; of drawings in two colours 0.58 or more.
MAX_DIFFERENCE, MAX_COMPRESSED, _COMPRESSION_LEVELS = 0.08, 0.15, 3.0
# A copy is nearer than the others; how near depends on the images. Of 40 CIFAR-10 images cut to 70 % of each side, 0.05 over the
# fifth neighbour proposes 32, a cosine of 0.55 alone 20.
_MIN_GAP, _MIN_COSINE, _NUM_PROPOSED, _COMPARED_WITH = 0.05, 0.55, 3, 4


def find_near_duplicates(
    thumbnails: NDArray[np.uint8], colours: NDArray[np.uint8], sizes: Sequence[tuple[int, int]], neighbours: Neighbours
) -> Iterator[tuple[int, int] | Compared]:
    """(pairs done, all pairs) now and then, Compared last.

    Images: grey [N, 64, 64] and in colour [N, 32, 32, 3], of `sizes` (width, height) before.
    """
    proposed = _proposals(thumbnails, neighbours)
    images = _Images(thumbnails=thumbnails, colours=colours, sizes=sizes, num_details={})
    matches = [match for pair, flips in proposed.items() if (match := images.nearly_equal(pair, flips)) is not None]
    found = {(match.first, match.second) for match in matches}
    rest = [pair for pair in proposed if pair not in found and images.fewest_details(pair) >= MIN_DETAILS]
    num_left_out, rest = max(0, len(rest) - MAX_ALIGNED), rest[:MAX_ALIGNED]
    if rest:
        yield 0, len(rest)
    aligned = {}
    with ThreadPoolExecutor(num_cores()) as pool:
        found_of = pool.map(lambda pair: images.aligned(pair, proposed[pair]), rest)
        for number, (pair, agreement) in enumerate(zip(rest, found_of, strict=True), start=1):
            aligned[pair] = agreement
            if number % _PROGRESS_EVERY == 0:
                yield number, len(rest)
    matches = sorted(
        [*matches, *_standing_out(aligned, neighbours, images)], key=lambda match: (match.first, match.second)
    )
    yield Compared(matches=matches, num_pairs=len(proposed), num_left_out=num_left_out)


def _proposals(thumbnails: NDArray[np.uint8], neighbours: Neighbours) -> dict[Pair, tuple[int, ...]]:
    """{(i, j): the flips of j to compare i with}, in turn the next of the hash and of the features, the nearest first."""
    hashed = hash_pairs(thumbnails)
    cosines = neighbours.cosines
    gaps: dict[Pair, float] = {}
    others = cosines[:, min(_COMPARED_WITH, cosines.shape[1] - 1)]
    for i, row in enumerate(neighbours.rows[:, :_NUM_PROPOSED].tolist()):
        for rank, j in enumerate(row):
            gap = float(cosines[i, rank] - others[i])
            if gap >= _MIN_GAP or cosines[i, rank] >= _MIN_COSINE:
                pair = min(i, j), max(i, j)
                gaps[pair] = max(gap, gaps.get(pair, 0.0))
    near = sorted(gaps, key=lambda pair: -gaps[pair])
    found: dict[Pair, tuple[int, ...]] = {}
    for by_hash, by_features in zip_longest(hashed.items(), near):
        if by_hash is not None:
            found[by_hash[0]] = (by_hash[1],)
        if by_features is not None:
            found.setdefault(by_features, _UPRIGHT)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Images:
    thumbnails: NDArray[np.uint8]
    colours: NDArray[np.uint8]
    sizes: Sequence[tuple[int, int]]
    num_details: dict[int, int]  # of those that were asked for

    def fewest_details(self, pair: Pair) -> int:
        for i in pair:
            if i not in self.num_details:
                self.num_details[i] = count_details(self.thumbnails[i], min(self.sizes[i]))
        return min(self.num_details[i] for i in pair)

    def nearly_equal(self, pair: Pair, flips: Sequence[int]) -> Match | None:
        """Pixel by pixel, in one of `flips`: neither moved nor brightened, so that it holds for drawings as well."""
        i, j = pair
        first, second = self.colours[i].astype(np.float32), self.colours[j]
        contrast = float(np.sqrt(min(self.colours[n].var(axis=(0, 1)).mean() for n in pair)))
        if contrast < _BLANK_LEVELS:
            return None
        levels = min(float(np.sqrt(np.mean((first - flipped(second, FLIPS[flip])) ** 2))) for flip in flips)
        apart = levels / contrast
        bound = MAX_COMPRESSED if levels <= _COMPRESSION_LEVELS else MAX_DIFFERENCE
        return Match(first=i, second=j, similarity=1 - apart**2 / 2) if apart <= bound else None

    def aligned(self, pair: Pair, flips: Sequence[int]) -> Agreement:
        i, j = pair
        best = NOTHING
        (own_width, own_height), short_side = self.sizes[i], min(*self.sizes[i], *self.sizes[j])
        for flip in flips:
            width, height = self.sizes[j][::-1] if FLIPS[flip][0] else self.sizes[j]
            turned = flipped(self.thumbnails[j], FLIPS[flip])
            aspect = float(np.sqrt(width * own_width / (height * own_height)))
            found = align(self.thumbnails[i], turned, aspect, short_side)
            best = max(best, found, key=lambda each: each.similarity)
        return best


def _agrees(found: Agreement) -> bool:
    is_alike = found.similarity >= MIN_SIMILARITY and found.matched >= MIN_MATCHED
    return is_alike and found.num_details >= MIN_SHARED and found.shear <= MAX_SHEAR


def _standing_out(aligned: Mapping[Pair, Agreement], neighbours: Neighbours, images: _Images) -> Iterator[Match]:
    """The pairs that agree and of which others around do not. After Lowe (2004), IJCV 60(2), who compares with the next best."""
    others = {pair: found.similarity for pair, found in aligned.items() if not _agrees(found)}
    of_image: dict[int, set[Pair]] = defaultdict(set)
    for pair in others:
        for i in pair:
            of_image[i].add(pair)
    for pair in aligned.keys() - others.keys():
        near = {*pair, *neighbours.rows[list(pair), :_NUM_AROUND].ravel().tolist()}
        around = set().union(*(of_image[i] for i in near))
        compared = [others[each] for each in (around if len(around) >= MIN_AROUND else others)]
        if len(compared) < MIN_AROUND:
            is_same = images.fewest_details(pair) >= MANY_DETAILS
        else:
            is_same = float(np.quantile(compared, _QUANTILE_AROUND)) < MAX_AROUND
        if is_same:
            yield Match(first=pair[0], second=pair[1], similarity=aligned[pair].similarity)
