from dataclasses import replace

import numpy as np
import pytest
from small_traits import typical

from recog.data.dataset import Dataset, Sample
from recog.doctor.features import Neighbours
from recog.doctor.image_checks import image_findings, small_classes


def alike(num_images):
    cosines = np.tile(np.linspace(0.5, 0.6, num_images)[:, None], (1, 4)).astype(np.float32)
    return Neighbours(rows=np.zeros((num_images, 4), dtype=np.int64), cosines=cosines)


ODD = {
    "blank": {"contrast": 0.0},
    "dark": {"dark_share": 0.97},
    "overexposed": {"bright_share": 0.9},
    "blurred": {"sharpness": 0.01},
    "tiny": {"width": 30, "height": 20},
    "mask": {"num_colours": 2},
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_image_among_typical_ones(kind):
    traits = [typical() for _ in range(40)]
    traits[7] = replace(traits[7], **ODD[kind])
    found, notes = image_findings(traits, alike(40))
    assert [(finding.kind, finding.images) for finding in found] == [(kind, (7,))]
    assert notes == []


@pytest.mark.parametrize("kind", ["dark", "overexposed", "blank"])
def test_what_most_images_show_is_the_nature_of_the_data(kind):
    found, notes = image_findings([replace(typical(), **ODD[kind]) for _ in range(40)], alike(40))
    assert found == []
    assert "40 of 40 images" in notes[0]


@pytest.mark.parametrize("kind", ["mask", "tiny", "blurred"])
def test_an_image_is_compared_with_the_others(kind):
    assert image_findings([replace(typical(), **ODD[kind]) for _ in range(40)], alike(40)) == ([], [])


def test_an_image_far_from_all_others_is_an_outlier():
    neighbours = alike(40)
    neighbours.cosines[11] = 0.05
    found, _ = image_findings([typical()] * 40, neighbours)
    assert [(finding.kind, finding.images) for finding in found] == [("outlier", (11,))]


def test_classes_with_few_images():
    blank = np.zeros((2, 2), np.uint8)
    labels = [0] * 300 + [1] * 25 + [2] * 60
    samples = tuple(Sample(name=f"{i}", source=blank, labels=(k,)) for i, k in enumerate(labels))
    data = Dataset(name="d", layout="l", class_names=("a", "b", "c"), samples=samples)
    assert [finding.reason for finding in small_classes(data)] == ["'b' has 25 images; the largest class has 300"]
