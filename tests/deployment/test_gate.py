import json

import numpy as np
import pytest

from recog.core.errors import BundleError
from recog.deployment.gate import Answered, Gate, judge
from recog.evaluation.trust.calibration import Calibration
from recog.runtime.speed import Speed


def gate_of(ours, theirs, labels, precision):
    answered = Answered(
        probs=(np.array(ours), np.array(theirs)),
        targets=np.array(labels),
        names=[str(i) for i in range(len(labels))],
        class_names=("a", "b"),
    )
    parity, num_equal, comparison = judge(answered, Calibration())
    speed = {1: Speed(median=2.0, least=1.0, most=3.0)}
    return Gate(
        target="onnx",
        precision=precision,
        data="by hand",
        parity=parity,
        num_equal_labels=num_equal,
        comparison=comparison,
        num_other_pixels=0,
        bundle_bytes=400,
        export_bytes=100,
        speeds={"bundle": speed, "export": speed},
        machine={},
    )


def with_differences(num_images, num_lost, num_gained=0, num_swapped_wrong=0):
    """Images of class a that the bundle gets right, but `num_gained` and `num_swapped_wrong`; of the export see the names."""
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    ours = [right] * num_images
    theirs = [right] * num_images
    theirs[:num_lost] = [wrong] * num_lost
    for i in range(num_lost, num_lost + num_gained):
        ours[i], theirs[i] = wrong, right
    return ours, theirs, [0] * num_images


def test_figures_by_hand():
    gate = gate_of([[0.9, 0.1], [0.6, 0.4]], [[0.8, 0.2], [0.6, 0.4]], [0, 1], "int8")
    assert (gate.label_agreement, gate.num_images) == (1.0, 2)
    assert gate.parity.max_prob_difference == pytest.approx(0.1)
    assert gate.parity.mean_prob_difference == pytest.approx(0.05)
    assert (gate.comparison.accuracy_a, gate.comparison.accuracy_b) == (0.5, 0.5)
    table = json.loads(json.dumps(gate.to_dict()))
    assert table["passed"]
    assert table["images_per_second"]["export"]["1"] == {"median": 2.0, "least": 1.0, "most": 3.0}


def test_float32_needs_probabilities_within_1e_4():
    near, far = [[0.9 - 5e-5, 0.1 + 5e-5]], [[0.9 - 2e-4, 0.1 + 2e-4]]
    assert gate_of([[0.9, 0.1]], near, [0], "float32").problem == ""
    refused = gate_of([[0.9, 0.1]], far, [0], "float32")
    with pytest.raises(
        BundleError, match=r"onnx export is refused: at most 0\.0001 .*by at most 0\.0002 .*Nothing was"
    ):
        refused.check()


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
@pytest.mark.parametrize(
    ("num_images", "num_lost", "num_gained", "reason"),
    [
        (1000, 4, 0, ""),  # 0.4 points of accuracy and 99.6 % equal labels
        (1000, 5, 0, "it loses 0.50 points"),
        (1000, 5, 4, ""),  # 99.1 % equal labels, a loss of 0.1 points
        (1000, 5, 5, "99.00% of the labels are equal"),
        (90, 1, 0, "it loses 1.11 points"),
    ],
)
def test_lower_precisions_may_lose_less_than_half_a_point(precision, num_images, num_lost, num_gained, reason):
    problem = gate_of(*with_differences(num_images, num_lost, num_gained), precision).problem
    assert problem.startswith(reason)
    assert bool(problem) == bool(reason)
