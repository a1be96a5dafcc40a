"""Two results side by side: differences by hand, what must be equal, damage."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from small_perturbations import ATTACKED, IS_CLASS, REPORT, WHOLE, condition

from recog.core.errors import DataError
from recog.core.records import decode_record
from recog.evaluation.results.comparison import paired_interval
from recog.perturbation.comparison import KeptResult, compare_results, why_not_comparable
from recog.perturbation.report import corruption_report


def kept(report):
    return decode_record(json.dumps(report.to_dict()), KeptResult, where="robustness.json")


BETTER = corruption_report(
    [
        condition("clean", 0, [1, 1, 1, 0], (2, 1)),
        condition("fog", 1, [1, 1, 1, 0], (2, 1)),
        condition("fog", 5, [1, 0, 1, 0], (1, 1)),
        condition("rotation", 1, [0, 1, 1, 1], (1, 2)),
    ],
    IS_CLASS,
    ("a", "b"),
    constants="CIFAR-10-C",
)
A = kept(WHOLE)
B = kept(replace(WHOLE, corruptions=BETTER, attacks=replace(ATTACKED, correct_robust="c0")))


def test_differences_of_means_are_paired():
    found = compare_results(A, B, name_a="a", name_b="b")
    assert list(found.rows) == [
        "as they are",
        "ImageNet-C's corruptions",
        "changes by cameras, phones and messengers",
        "attacks",
    ]
    fog = found.by_corruption["fog"]
    assert (fog.a, fog.b, fog.difference) == (3 / 8, 5 / 8, 1 / 4)
    # per image the differences are 1/2, 0, 1/2 and 0, so no resample's mean is below 0 or above 1/2
    assert 0 <= fog.difference_ci95[0] < 1 / 4 < fog.difference_ci95[1] <= 1 / 2
    assert found.by_corruption["rotation"].difference_ci95 == paired_interval(1, 0, 4)  # one condition: exact
    assert (found.rows["attacks"].a, found.rows["attacks"].b) == (1 / 4, 1 / 2)
    assert found.rows["as they are"].difference == 0
    assert json.loads(json.dumps(found.to_dict()))["by_corruption"]["fog"]["difference"] == 1 / 4
    assert "Robustness of A and B" in found._repr_html_()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (replace(WHOLE, data_digest="e", data="cats"), "4 images of cats, and these are not the same images"),
        (replace(WHOLE, seed=1), "seed differ: A has 0, B 1"),
        (replace(WHOLE, corruptions=replace(REPORT, constants="ImageNet-C")), "constants differ"),
        (
            replace(WHOLE, corruptions=replace(REPORT, rows=REPORT.rows[:2])),
            "corruptions differ: A has fog, rotation, B fog",
        ),
        (replace(WHOLE, corruptions=None), "corruptions differ: A has fog, rotation, B none"),
        (replace(WHOLE, attacks=None), "attacks differ: A has pgd, B none"),
        (replace(WHOLE, attacks=replace(ATTACKED, steps=20)), "the attacks' steps differ: A has 100, B 20"),
    ],
)
def test_what_must_be_equal(other, reason):
    assert reason in why_not_comparable(A, kept(other))
    assert why_not_comparable(A, A) is None


def test_other_sizes_of_input_are_a_note_and_damage_is_an_error():
    found = compare_results(A, kept(replace(WHOLE, image_size=(16, 8))), name_a="a", name_b="b")
    assert "8 x 8 px and 8 x 16 px" in found.notes[0]
    damaged = replace(B, attacks=replace(B.attacks, correct_robust="c0c0"))
    with pytest.raises(DataError, match=r"damaged \(16 bits for 4 images\)"):
        compare_results(A, damaged, name_a="a", name_b="b")
