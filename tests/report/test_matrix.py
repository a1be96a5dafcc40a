import numpy as np
import pytest

from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.report.charts import matrix_cells, matrix_shadings, shade, tick_positions

# Class a: 3 right, 1 called b. Class b: 1 right. Class c: absent.
REPORT = evaluate(
    np.eye(3)[[0, 0, 0, 1, 1]],
    np.array([0, 0, 0, 0, 1]),
    class_names=("a", "b", "c"),
    names=tuple("12345"),
    data=DataFacts(name="d"),
)


@pytest.mark.parametrize(
    ("count", "support", "is_correct", "shown"),
    [
        (0, 5, True, ""),
        (0, 0, False, ""),
        (5, 5, True, "hit s9"),
        (3, 4, True, "hit s7"),  # 9 * 0.75 = 6.75
        (1, 4, False, "miss s5"),  # 9 * sqrt(0.25) = 4.5
        (1, 1000, True, "hit s1"),
        (1, 1000, False, "miss s1"),
        (7, 7, False, "miss s9"),
    ],
)
def test_shade(count, support, is_correct, shown):
    assert shade(count, support, is_correct=is_correct) == shown


def test_cells():
    cells = matrix_cells(REPORT)
    assert [[cell.count for cell in row] for row in cells] == [[3, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert cells[0][1].title == "1 of 4 a predicted as b"
    assert [[cell.shade for cell in row] for row in cells[:2]] == [
        ["hit s7", "miss s5", ""],
        ["", "hit s9", ""],
    ]


def test_shadings_cover_the_same_cells():
    # x = predicted class, y = true class; errors come last and so lie on top
    assert [(shading.shade, shading.path) for shading in matrix_shadings(REPORT)] == [
        ("hit s7", "M0 0h1v1h-1z"),
        ("hit s9", "M1 1h1v1h-1z"),
        ("miss s5", "M1 0h1v1h-1z"),
    ]


@pytest.mark.parametrize("num_classes", [26, 50, 51, 100, 101, 1000, 5000, 21841])
def test_ticks_are_few_and_inside(num_classes):
    ticks = tick_positions(num_classes)
    assert ticks[0] == 0
    assert 1 <= len(ticks) <= 10
    assert ticks[-1] < num_classes
