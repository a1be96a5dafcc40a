import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from recog.report.lr_plot import HEIGHT, WIDTH, draw_lr_range, nice_ticks

SVG = "{http://www.w3.org/2000/svg}"
POINTS = [
    (10.0**power, loss, loss) for power, loss in zip(range(-5, 2), (2.0, 2.0, 1.8, 1.4, 1.0, 1.2, 90.0), strict=True)
]


def drawn(points=POINTS, suggestion=0.01, optimizer="sgd"):
    return ElementTree.fromstring(draw_lr_range(points, suggestion=suggestion, optimizer=optimizer))


def texts(svg):
    return [element.text for element in svg.iter(f"{SVG}text")]


def test_it_says_what_it_shows():
    svg = drawn()
    assert svg.find(f"{SVG}title").text == "Learning-rate range test: sgd, 7 steps"
    assert {"learning rate", "loss", "suggested: 0.01"} <= set(texts(svg))
    assert {"1e-5", "0.0001", "0.001", "0.01", "0.1", "1", "10"} <= set(texts(svg))


def test_the_axis_is_logarithmic_and_the_mark_stands_on_it():
    svg = drawn()
    marks = [path for path in svg.iter(f"{SVG}path") if path.get("class") == "mark"]
    assert len(marks) == 1
    # 0.01 is half of the way from 1e-5 to 10 in powers of ten
    assert float(re.match(r"M([\d.]+) 0", marks[0].get("d"))[1]) == pytest.approx(WIDTH / 2)


def test_an_explosion_does_not_hide_the_fall():
    svg = drawn()
    heights = [float(circle.get("cy")) for circle in svg.iter(f"{SVG}circle")]
    assert len(heights) == 6  # 90 is far outside
    assert max(heights) - min(heights) > HEIGHT / 2
    assert min(heights) >= 0
    assert max(heights) <= HEIGHT
    assert heights[4] == max(heights)  # the lowest loss is the lowest dot


def test_without_a_suggestion_there_is_no_mark():
    svg = drawn(suggestion=None)
    assert not [path for path in svg.iter(f"{SVG}path") if path.get("class") == "mark"]
    assert not any("suggested" in text for text in texts(svg))


@pytest.mark.parametrize("losses", [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1e-8, 2e-8, 1e-8], [5.0]])
def test_flat_and_tiny_losses_are_drawn(losses):
    svg = drawn([(10.0**-i, loss, loss) for i, loss in zip(range(len(losses), 0, -1), losses, strict=True)], None)
    numbers = [float(circle.get(key)) for circle in svg.iter(f"{SVG}circle") for key in ("cx", "cy")]
    assert numbers
    assert all(math.isfinite(number) for number in numbers)


def test_names_are_escaped():
    assert "<b>" not in draw_lr_range(POINTS, suggestion=None, optimizer="<b>")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.03, 2.42, [1.0, 1.5, 2.0]),  # a fifth of 1.39 is 0.278: steps of 0.5
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.07, 0.11, [0.07, 0.08, 0.09, 0.1, 0.11]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)
