"""Snow, frost, fog and spatter: corruptions after Hendrycks and Dietterich (2019); see `recog.perturbation.pixels`.

Frost differs: the published program blends in photographs of frosted glass, which recog does not have; it draws such a texture.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as Pictures
from scipy import ndimage

from recog.perturbation.filters import Image, as_colour, gaussian, grey, motion, zoomed

WATER, MUD, ICE = (175, 238, 238), (63, 42, 20), (205, 222, 240)
Map = NDArray[np.float32]  # [H, W]


def plasma(size: int, decay: float, chance: Generator) -> NDArray[np.float64]:
    """A fractal [size, size] in [0, 1], `size` a power of two; its detail shrinks by `decay` at each halving.

    Diamond-square algorithm: Fournier, Fussell and Carpenter (1982), CACM 25(6), with borders that wrap around.
    """
    field = np.zeros((size, size))
    step, spread = size, 100.0

    def mean(total: NDArray[np.float64]) -> NDArray[np.float64]:
        return total / 4 + spread * chance.uniform(-spread, spread, total.shape)

    while step >= 2:
        half = step // 2
        corners = field[::step, ::step]
        total = corners + np.roll(corners, -1, 0)
        field[half::step, half::step] = mean(total + np.roll(total, -1, 1))
        centres, corners = field[half::step, half::step], field[::step, ::step]
        field[::step, half::step] = mean(centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1))
        field[half::step, ::step] = mean(centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0))
        step, spread = half, spread / decay
    field -= field.min()
    return np.asarray(field / field.max())


def _plasma_for(image: Image, decay: float, chance: Generator) -> NDArray[np.float32]:
    """[H, W, 1]."""
    height, width = image.shape[:2]
    size = 1 << max(1, (max(height, width) - 1).bit_length())
    return plasma(size, decay, chance)[:height, :width, None].astype(np.float32)


def fog(image: Image, mist: tuple[float, float], chance: Generator) -> Image:
    """`mist` is (thickness, decay of the fractal)."""
    thickness, decay = mist
    most = image.max()
    misty = image + np.float32(thickness) * _plasma_for(image, decay, chance)
    return np.asarray(misty * (most / (most + np.float32(thickness))), np.float32)


def frost(image: Image, shares: tuple[float, float], chance: Generator) -> Image:
    """`shares` are those of the image and of the frost."""
    of_image, of_frost = (np.float32(share) for share in shares)
    cover = _plasma_for(image, 2.0, chance)
    needles = 1 - np.abs(2 * _plasma_for(image, 1.6, chance) - 1)  # bright where the fractal crosses its middle
    ice = np.clip(0.25 + 0.5 * cover + 0.6 * (needles - 0.6), 0, 1).astype(np.float32)
    return of_image * image + of_frost * ice * as_colour(ICE, image.shape[2])


def snow(image: Image, fall: tuple[float, float, float, float, int, float, float], chance: Generator) -> Image:
    """`fall` is (mean, spread, zoom and threshold of the flakes, radius and sigma of their path, share of the image)."""
    mean, spread, zoom, threshold, radius, sigma, share = fall
    flakes = mean + spread * chance.standard_normal((*image.shape[:2], 1), np.float32)
    flakes = np.asarray(zoomed(Pictures.fromarray(flakes[:, :, 0].astype(np.float32)), zoom))[:, :, None]
    flakes = np.where(flakes < threshold, np.float32(0), np.clip(flakes, 0, 1))
    flakes = np.floor(flakes * 255) / 255
    flakes = motion(flakes.astype(np.float32), radius, sigma, angle=float(chance.uniform(-135, -45)))
    whitened = np.maximum(image, grey(image) * np.float32(1.5) + np.float32(0.5))
    pale = np.float32(share) * image + np.float32(1 - share) * whitened
    return np.asarray(pale + flakes + flakes[::-1, ::-1], np.float32)


def spatter(image: Image, splash: tuple[float, float, float, float, float, int], chance: Generator) -> Image:
    """`splash` is (mean, spread, blur and threshold of the drops, strength of water or blur of mud, 1 for mud)."""
    mean, spread, blur, threshold, strength, is_mud = splash
    drops = (mean + spread * chance.standard_normal((*image.shape[:2], 1), np.float32)).astype(np.float32)
    drops = gaussian(drops, blur)
    drops = np.where(drops < threshold, np.float32(0), drops)
    if is_mud:
        cover = gaussian((drops > threshold).astype(np.float32), strength)
        cover = np.where(cover < 0.8, np.float32(0), cover)
        return image * (1 - cover) + cover * as_colour(MUD, image.shape[2])
    levels = np.clip(drops[..., 0] * 255, 0, 255).astype(np.uint8)
    shine = levels * _relief(levels)
    most = shine.max()
    if most == 0:
        return image
    return np.asarray(image + (strength / most) * shine[..., None] * as_colour(WATER, image.shape[2]), np.float32)


def _relief(levels: NDArray[np.uint8]) -> Map:
    """How the borders of drops catch the light: distance to the nearest edge, equalised and embossed, in [0, 255].

    OpenCV's filters 'mirror' the borders; its distance is approximate, this one is exact.
    """
    outline = edges(levels, 50, 150)
    distance = ndimage.distance_transform_edt(~outline) if outline.any() else np.full(levels.shape, 20.0)
    blurred = ndimage.uniform_filter(np.minimum(distance, 20.0), 3, mode="mirror").astype(np.uint8)
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float64)
    embossed = ndimage.correlate(equalised(blurred).astype(np.float64), emboss, mode="mirror")
    return np.asarray(ndimage.uniform_filter(np.clip(np.rint(embossed), 0, 255), 3, mode="mirror"), np.float32)


def equalised(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Histogram equalisation as OpenCV's equalizeHist: the lowest level becomes 0, the highest 255."""
    counts = np.bincount(levels.ravel(), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    rest = levels.size - counts[first]
    if rest == 0:
        return levels
    ranks = np.cumsum(counts) - counts[first]
    return np.asarray(np.clip(np.rint(ranks * (255 / rest)), 0, 255).astype(np.uint8)[levels])


def edges(levels: NDArray[np.uint8], low: float, high: float) -> NDArray[np.bool_]:
    """Edges by Canny (1986), IEEE PAMI 8(6), as OpenCV's with a 3 x 3 Sobel filter and |dx| + |dy| as strength."""
    values = np.pad(levels.astype(np.int32), 1, mode="edge")
    height, width = levels.shape

    def smoothed(of: NDArray[np.int32]) -> NDArray[np.int32]:
        return of[:-2] + 2 * of[1:-1] + of[2:]

    across = smoothed(values[:, 2:] - values[:, :-2])
    down = smoothed((values[2:] - values[:-2]).T).T
    strength = np.abs(across) + np.abs(down)
    around = np.pad(strength, 1)

    def neighbour(row: int, column: int) -> NDArray[np.int32]:
        return around[1 + row : 1 + row + height, 1 + column : 1 + column + width]

    slope = np.tan(np.pi / 8)
    is_level = np.abs(down) < slope * np.abs(across)
    is_upright = np.abs(across) < slope * np.abs(down)
    same_sign = across * down >= 0
    before, behind = (
        np.where(
            is_level,
            neighbour(0, step),
            np.where(
                is_upright, neighbour(step, 0), np.where(same_sign, neighbour(step, step), neighbour(step, -step))
            ),
        )
        for step in (-1, 1)
    )
    is_peak = (strength > before) & np.where(is_level | is_upright, strength >= behind, strength > behind)
    weak = is_peak & (strength > low)
    regions, num_regions = ndimage.label(weak, np.ones((3, 3)))
    is_kept = np.zeros(num_regions + 1, bool)
    is_kept[regions[weak & (strength > high)]] = True
    is_kept[0] = False
    return np.asarray(is_kept[regions])
