import numpy as np
import pytest

from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.evaluation.results.scores import reliability_bins
from recog.report.charts import HEIGHT, WIDTH, curve_charts, mean_confidence, nice_ticks, reliability_marks, risk_curve
from recog.report.page.facts import EpochRow


def report_of(num_images, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % 3
    return evaluate(
        rng.normal(0, 1, (num_images, 3)) + 2 * np.eye(3)[labels],
        labels,
        class_names=("a", "b", "c"),
        names=[str(i) for i in range(num_images)],
        data=DataFacts(name="d"),
    )


def test_marks_by_hand():
    # Three of four right at 80 %, one wrong at 50 %.
    confidence = np.array([0.8, 0.8, 0.8, 0.8, 0.5])
    bins = reliability_bins(confidence, np.array([1, 1, 1, 0, 0], dtype=bool))
    low, high = reliability_marks(bins)
    assert (low.x, low.y, low.y_diagonal) == (WIDTH * 0.5, HEIGHT, HEIGHT / 2)
    assert (high.x, high.y) == (pytest.approx(WIDTH * 0.8), HEIGHT / 4)
    assert (high.radius, low.radius) == (8.0, 5.5)  # area by images: 3 + 5 sqrt(n / most)
    assert high.y_high < high.y < high.y_low  # up is small
    assert high.title.startswith("4 images, mean confidence 80.0%, accuracy 75.0% (95% interval")
    assert mean_confidence(bins) == pytest.approx(3.7 / 5)


def test_risk_curve_stays_inside_and_ends_at_the_error_rate():
    report = report_of(500)
    curve = risk_curve(report)
    points = [tuple(map(float, point.split())) for point in curve.line[1:].split("L")]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert points[0][0] >= WIDTH * 10 / 500 - 0.1
    assert points[-1] == (WIDTH, pytest.approx(curve.y_all, abs=0.06))
    assert curve.y_all == pytest.approx(HEIGHT * (1 - report.num_errors / 500 / curve.top))
    assert [label for _, label in curve.ticks][0] == "0%"
    xs = [x for x, *_ in curve.marks]
    assert min(np.abs(np.diff(xs)), default=99) >= 40


@pytest.mark.parametrize("num_images", [1, 9, 10])
def test_too_few_images_to_draw(num_images):
    assert risk_curve(report_of(num_images)) is None


def test_no_errors_at_all():
    report = evaluate(
        np.eye(2)[np.arange(40) % 2] * np.linspace(3, 9, 40)[:, None], np.arange(40) % 2,
        class_names=("a", "b"), names=[str(i) for i in range(40)], data=DataFacts(name="d"),
    )  # fmt: skip
    assert risk_curve(report).y_all == HEIGHT


def test_bins_of_probabilities_by_hand():
    from recog.evaluation.results.scores import ProbabilityBin
    from recog.report.charts import probability_marks

    bins = (
        ProbabilityBin(low=0.0, high=0.5, num_pairs=4, num_shown=1, mean_prob=0.25),
        ProbabilityBin(low=0.5, high=1.0, num_pairs=0, num_shown=0, mean_prob=None),
    )
    (mark,) = probability_marks(bins)
    assert (mark.x, mark.y, mark.y_diagonal) == (WIDTH / 4, HEIGHT * 3 / 4, HEIGHT * 3 / 4)
    assert mark.title.startswith("4 image-label pairs, mean probability 25.0%, 25.0% true labels")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.31, 2.4, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        (0.912, 0.987, [0.9, 0.92, 0.94, 0.96, 0.98, 1.0]),
        (5.0, 5.0, [5.0, 6.0]),
        (0.0, 0.0, [0.0, 0.2]),
    ],
)
def test_ticks_are_round_and_span_the_values(low, high, ticks):
    found = nice_ticks(low, high)
    assert found[: len(ticks)] == pytest.approx(ticks)
    assert found[0] <= low
    assert found[-1] >= high


def rows(*losses):
    return [
        EpochRow(epoch=i, train_loss=loss, val_accuracy=1 - loss / 4, val_nll=loss) for i, loss in enumerate(losses, 1)
    ]


def test_a_line_starts_left_and_ends_right_and_a_better_loss_is_lower_on_the_page():
    loss, score = curve_charts(rows(2.0, 1.0, 0.5), 3)
    training = loss.series[0]
    assert training.path.startswith("M0.0 0.0L200.0 ")  # the worst loss is at the upper edge: 2.0 is a tick
    xs, ys = [x for x, _, _ in training.marks], [y for _, y, _ in training.marks]
    assert xs == [0.0, 200.0, 400.0]
    assert ys == sorted(ys)
    assert loss.x_best == 400.0
    assert [y for _, y, _ in score.series[0].marks] == sorted((y for _, y, _ in score.series[0].marks), reverse=True)


def test_one_epoch_is_no_curve_and_weights_of_no_epoch_are_not_marked():
    assert curve_charts(rows(1.0), 1) == []
    assert all(chart.x_best is None for chart in curve_charts(rows(1.0, 0.5), 0))
