"""Square on a linear network."""

from __future__ import annotations

from small_perturbations import LINF, can_be_fooled, linear_target

from recog.perturbation.square_attack import square


def test_square_fools_without_gradients():
    target, weights = linear_target(3)
    possible = can_be_fooled(target, weights, LINF)
    found = target.is_fooled(changed := square(target, LINF, queries=800))
    assert not (found & ~possible).any()
    assert int(found.sum()) >= 0.8 * int(possible.sum())
    assert float((changed - target.images).abs().max()) <= LINF.eps + 1e-6
