"""Whether two small grey images show one picture: one is warped onto the other, and the details are compared place by place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter, map_coordinates, uniform_filter

_F = NDArray[np.float32]
_D = NDArray[np.float64]

_PX, _FINE_PX = 32, 64  # of the search for the warp, and of what follows
_SIGMA_PX = 4.0  # the search looks at edges: what is left of an image less its blurred copy
_ROTATIONS = tuple(np.radians(np.arange(-30.0, 30.1, 7.5)))
_SCALES = tuple(1.12 ** np.arange(-3, 4))
_NUM_REFINED = 2  # warps, the best of the search
_MIN_PEAK = 0.45  # of the search; unrelated photos seldom reach it
_MIN_OVERLAP = 0.3  # of the area

_PASSES = (
    (1.5, 2, 6),
    (0.7, 1, 3),
)  # that refine a warp: blur in px, every how many pixels are compared, steps at most
_ENOUGH = 0.9  # similarity; a second warp is not tried
_MIN_STEP = 0.02  # px at the border
_MAX_SHIFT_PX = 4.0  # of one step

_WINDOW_PX, _STRIDE_PX, _BLUR_PX = 9, 4, 0.7
_MIN_GRADIENT, _MIN_EVENNESS = (
    1.5,
    0.15,
)  # levels per px across the weaker direction, and its share of the energy of the stronger
_NOISE_LEVELS = 2.0
_SAME_DETAIL = 0.7  # correlation within a window
_SMOOTHING = 0.7  # of the windows that are compared, to the blur before details are looked for


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """`similarity` is the correlation of the edges where both images overlap, at most 1.

    A detail is a window of 9 x 9 px with structure in two directions, in one of the images or in both: a corner or a texture, of
    which a plain drawing has few. `matched` is the share of the details that are alike in both. `shear` is how far the warp is
    from one that rotates, or scales both sides, as a share of the scale: of changed copies near 0.
    """

    similarity: float
    num_details: int
    matched: float
    shear: float = 0.0


NOTHING = Agreement(similarity=0.0, num_details=0, matched=0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Warp:
    """Where each pixel of the first image is read from in the second: `matrix` @ (y, x) + `shift`, in px about the centres."""

    matrix: _D  # [2, 2]
    shift: _D  # [2]


def align(first: NDArray[np.uint8], second: NDArray[np.uint8], aspect: float, short_side: int) -> Agreement:
    """The best agreement over warps of `second` onto `first`, both grey [64, 64].

    `aspect` is width / height before their sides were scaled separately, the geometric mean of both, and `short_side` the px that
    the smaller of the images had.
    """
    best = NOTHING
    target, source = first.astype(np.float64), second.astype(np.float64)
    for warp in _search(first, second, aspect):
        refined = _refined(target, source, warp)
        found = replace(_agreement(target, source, refined, _blur(short_side)), shear=_shear(refined.matrix, aspect))
        best = max(best, found, key=lambda each: each.similarity)
        if best.similarity >= _ENOUGH:
            break
    return best


def _shear(matrix: _D, aspect: float) -> float:
    """Of a rotation the elements off the diagonal are opposite, of a change of the sides they are 0: their sum, in px."""
    scale = np.sqrt(max(1e-6, abs(float(np.linalg.det(matrix)))))
    return float(abs(matrix[0, 1] / aspect + matrix[1, 0] * aspect) / scale)


def count_details(image: NDArray[np.uint8], short_side: int) -> int:
    """The details of a grey image [64, 64], of 225 windows, whose shorter side had `short_side` px."""
    return int(_is_detail(image.astype(np.float64), _blur(short_side))[_CENTRES].sum())


def _blur(short_side: int) -> float:
    """The deviation in px of the blur before details are looked for: the pixels of an enlarged image are none."""
    return _BLUR_PX * max(1.0, _FINE_PX / short_side)


def edges_of(thumbnail: NDArray[np.generic], size_px: int) -> _F:
    """Grey [64, 64] -> float32 [size, size]: what its blurred copy lacks, with mean 0 and norm 1; 0 for a blank image."""
    step = thumbnail.shape[0] // size_px
    pixels = thumbnail.astype(np.float32).reshape(size_px, step, size_px, step).mean(axis=(1, 3))
    edges = pixels - gaussian_filter(pixels, _SIGMA_PX * size_px / _PX, mode="nearest")
    edges -= edges.mean()
    norm = float(np.linalg.norm(edges))
    return edges / norm if norm > 1e-3 else np.zeros_like(edges)


@cache
def _matrices(aspect: float) -> _D:
    """The matrices [W, 2, 2] of the search: rotations and scales about the centre of an image of `aspect`."""
    found = []
    for angle in _ROTATIONS:
        sine, cosine = np.sin(angle), np.cos(angle)
        for scale in _SCALES:
            found.append(np.array([[cosine, sine * aspect], [-sine / aspect, cosine]]) / scale)
    return np.stack(found)


@cache
def _grid(aspect: float) -> _F:
    """Coordinates [W, 2, 32, 32] that each warp of the search reads from."""
    y, x = _centred(_PX)
    places = np.einsum("wij,jhv->wihv", _matrices(aspect), np.stack([y, x])) + (_PX - 1) / 2
    grid: _F = places.astype(np.float32)
    return grid


@cache
def _centred(size_px: int) -> tuple[_D, _D]:
    places = np.arange(size_px) - (size_px - 1) / 2
    y, x = np.meshgrid(places, places, indexing="ij")
    return y, x


def _search(first: NDArray[np.uint8], second: NDArray[np.uint8], aspect: float) -> Iterator[_Warp]:
    """The warps whose edges correlate most over all shifts, the best first; none where unrelated images correlate as much."""
    aspect = float(2 ** (round(4 * np.log2(aspect)) / 4))  # few grids, each within 9 %
    grid = _grid(aspect)
    warped = map_coordinates(edges_of(second, _PX), [grid[:, 0], grid[:, 1]], order=1, mode="constant", prefilter=False)
    warped /= np.maximum(np.linalg.norm(warped, axis=(1, 2), keepdims=True), 1e-6)
    padded = (2 * _PX, 2 * _PX)
    spectra = rfft2(warped, padded, axes=(1, 2))
    products = irfft2(rfft2(edges_of(first, _PX), padded)[None] * spectra.conj(), padded, axes=(1, 2))
    peaks = products.max(axis=(1, 2))
    for number in np.argsort(-peaks)[:_NUM_REFINED]:
        if peaks[number] < _MIN_PEAK:
            return
        place = np.array(np.unravel_index(int(products[number].argmax()), padded))
        shift = np.where(place >= _PX, place - 2 * _PX, place) * (_FINE_PX / _PX)
        matrix = _matrices(aspect)[number]
        yield _Warp(matrix=matrix, shift=-matrix @ shift)


def _read(images: tuple[_D, ...], warp: _Warp, every: int = 1) -> tuple[list[_D], NDArray[np.bool_]]:
    """`images` [64, 64] at the places of `warp`, of `every` pixel each way, and where these are inside."""
    centred = np.stack(_centred(_FINE_PX))[:, ::every, ::every]
    places = np.einsum("ij,jhv->ihv", warp.matrix, centred) + warp.shift[:, None, None] + (_FINE_PX - 1) / 2
    inside: NDArray[np.bool_] = np.all((places >= 0) & (places <= _FINE_PX - 1), axis=0)
    return [map_coordinates(image, places, order=1, mode="nearest", prefilter=False) for image in images], inside


def _refined(first: _D, second: _D, warp: _Warp) -> _Warp:
    """`warp` as an affine map with the least squared difference, less a gain and an offset of the grey levels.

    Gauss-Newton on smoothed, then on sharper images; after Lucas and Kanade (1981), IJCAI.
    """
    for sigma, every, num_steps in _PASSES:
        target, source = gaussian_filter(first, sigma), gaussian_filter(second, sigma)
        parts = (source, *np.gradient(source))
        for _ in range(num_steps):
            step = _step(target, parts, warp, every)
            if step is None:
                return warp
            warp = _Warp(matrix=warp.matrix + step[:4].reshape(2, 2), shift=warp.shift + step[4:])
            if np.abs(step[:4]).max() * _FINE_PX / 2 < _MIN_STEP and np.abs(step[4:]).max() < _MIN_STEP:
                break
    return warp


def _step(target: _D, parts: tuple[_D, ...], warp: _Warp, every: int) -> _D | None:
    """The change of the warp [6], its matrix row by row, then its shift; None where the images have too little in common."""
    warped, inside = _read(parts, warp, every)
    if inside.mean() < _MIN_OVERLAP:
        return None
    level, down, across = (part[inside] for part in warped)
    y, x = (part[::every, ::every][inside] / (_FINE_PX / 2) for part in _centred(_FINE_PX))
    columns = np.stack([down * y, down * x, across * y, across * x, down, across, level, np.ones_like(level)], axis=1)
    normal = columns.T @ columns
    normal[np.arange(6), np.arange(6)] += 1e-3 * np.trace(normal[:6, :6]) / 6 + 1e-6
    solved = np.linalg.solve(normal, columns.T @ target[::every, ::every][inside])
    gain = solved[6]
    if gain < 0.1:
        return None
    step: _D = solved[:6] / gain
    step *= min(1.0, _MAX_SHIFT_PX / max(float(np.abs(step).max()), 1e-9))
    step[:4] /= _FINE_PX / 2
    return step


_CENTRES = (slice(_STRIDE_PX, _FINE_PX, _STRIDE_PX),) * 2


def _agreement(first: _D, second: _D, warp: _Warp, blur: float) -> Agreement:
    (warped, edges), inside = _read((second, second - gaussian_filter(second, _SIGMA_PX * _FINE_PX / _PX)), warp)
    if inside.mean() < _MIN_OVERLAP:
        return NOTHING
    own = (first - gaussian_filter(first, _SIGMA_PX * _FINE_PX / _PX))[inside]
    similarity = _correlation(own, edges[inside])
    is_whole = uniform_filter(inside.astype(np.float64), _WINDOW_PX, mode="constant") > 1 - 1e-6
    is_detail = (is_whole & (_is_detail(first, blur) | _is_detail(warped, blur)))[_CENTRES]
    count = int(is_detail.sum())
    if count == 0:
        return Agreement(similarity=similarity, num_details=0, matched=0.0)
    alike = _local_correlation(first, warped, _SMOOTHING * blur)[_CENTRES][is_detail] >= _SAME_DETAIL
    return Agreement(similarity=similarity, num_details=count, matched=float(alike.mean()))


def _correlation(a: _D, b: _D) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(1e-9, float(np.linalg.norm(a) * np.linalg.norm(b))))


def _local_correlation(a: _D, b: _D, blur: float) -> _D:
    """Of the windows about each pixel; near 0 where there is little more than noise."""
    a, b = gaussian_filter(a, blur), gaussian_filter(b, blur)
    mean_a, mean_b, aa, bb, ab = (uniform_filter(image, _WINDOW_PX) for image in (a, b, a * a, b * b, a * b))
    var_a, var_b = np.maximum(aa - mean_a**2, 0), np.maximum(bb - mean_b**2, 0)
    found: _D = (ab - mean_a * mean_b) / np.sqrt(var_a * var_b + _NOISE_LEVELS**2)
    return found


def _is_detail(image: _D, blur: float) -> NDArray[np.bool_]:
    """Windows whose gradients point in two directions: the eigenvalues of the structure tensor; Förstner and Gülch (1987)."""
    down, across = np.gradient(gaussian_filter(image, blur))
    yy, xx, yx = (uniform_filter(product, _WINDOW_PX) for product in (down * down, across * across, down * across))
    half, root = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + yx**2)
    found: NDArray[np.bool_] = (half - root > _MIN_GRADIENT**2) & (half - root > _MIN_EVENNESS * (half + root))
    return found
