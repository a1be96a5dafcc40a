"""Changes by cameras, by hand."""

from __future__ import annotations

import numpy as np
from small_perturbations import as_float, chance, picture

from recog.perturbation import camera


def test_cameras():
    square = as_float(picture(31, 31))
    turned = camera.rotation(square, 90, chance())
    assert min(np.abs(turned - np.rot90(square, k)).max() for k in (1, 3)) < 1e-4
    shifted = camera.crop_shift(square, 0.1, chance())  # 3 px
    middle = shifted[5:-5, 5:-5]
    found = [np.array_equal(middle, square[5 + a : 26 + a, 5 + b : 26 + b]) for a in (-3, 3) for b in (-3, 3)]
    assert found.count(True) == 1
    mixed = camera.grey_mix(square, 1.0, chance())
    np.testing.assert_allclose(mixed, (square @ [0.299, 0.587, 0.114])[..., None].repeat(3, 2), atol=1e-5)
