from dataclasses import replace

import numpy as np
from small_subjects import corner_subject, noise, timm_network

from recog.attribution.check import MethodCheck, Pace, StageDone, check_methods, most_faithful


def checks_of(*args):
    return [event for event in check_methods(*args) if isinstance(event, MethodCheck)]


def test_of_a_subject_without_layers_what_can_be_measured_is():
    images = np.random.default_rng(0).integers(120, 256, (3, 32, 32, 1)).astype(np.uint8)
    (check,) = checks_of(corner_subject(), images, np.array([0, 0, 0]), ["occlusion"])
    assert (check.weight_similarity, check.pointing, check.completeness_gap) == (None, None, None)
    assert check.faithfulness.over_random.num_images == 3
    assert not check.ignores_weights
    assert check.to_dict()["faithfulness"]["over_edges"]["num_images"] == 3


def test_a_method_that_ignores_the_weights_is_not_chosen():
    subject = timm_network("test_resnet")
    (good,) = checks_of(subject, noise(2, 64, 64, 3), np.array([0, 1]), ["gradcam"])
    assert good.pointing.num_cases == 4  # two ordered pairs, two labels each
    assert -1 <= good.weight_similarity <= 1
    flagged = replace(good, method="layercam", weight_similarity=0.9)
    usable = replace(good, weight_similarity=0.1)
    assert flagged.ignores_weights
    assert most_faithful([flagged, usable]).method == "gradcam"
    assert most_faithful([flagged]) is None


def test_four_stages_are_reported_whose_expected_times_follow_from_the_passes():
    """Of 3 images and occlusion: 226 passes for each map; no module; 66 passes of the curves; 2 pairs, 4 cases."""
    subject, images, labels = corner_subject(), noise(3, 32, 32, 1), np.array([0, 1, 1])
    events = list(check_methods(subject, images, labels, ["occlusion"]))
    assert [event.number for event in events if isinstance(event, StageDone)] == [0, 1, 2, 3]
    stages = Pace(module_s=1.0, engine_s=0.5).stages("occlusion", images, labels)
    assert stages == (226 * 3 * 0.5, 226 * 3 * 1.0, 66 * 3 * 0.5, 226 * 8 * 0.5)
    pace = Pace.measure(subject, images)
    assert pace.module_s == pace.engine_s > 0
