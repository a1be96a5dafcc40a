import pytest

from recog.report.page.curves import curve_charts, nice_ticks
from recog.report.page.facts import EpochRow


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
