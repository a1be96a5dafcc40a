import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from recog.core.errors import DataError
from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.report.page.facts import EpochRow, HeadRow, History
from recog.report.pictures import thumbnail
from recog.report.plots import plot_history, plot_report, png_of, save_figures

EPOCHS = tuple(EpochRow(epoch=i, train_loss=1 / i, val_accuracy=1 - 1 / (i + 1), val_nll=1 / i) for i in range(1, 5))
HEADS = (HeadRow(trial=1, method="ridge", l2=0.1, val_accuracy=0.9, val_nll=0.3),)


def report_of(k=3, n=60, names=None):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    logits = rng.normal(0, 1, (n, k)) + 1.5 * np.eye(k)[labels]
    return evaluate(
        logits.astype(np.float32),
        labels,
        class_names=names or [f"class {i}" for i in range(k)],
        names=[str(i) for i in range(n)],
        data=DataFacts(name="d"),
    )


def size_of(data):
    return Image.open(io.BytesIO(data)).size


def test_a_report_is_drawn_with_its_counts():
    report = report_of(names=["a$b$", "<b>", "c\u202e"])
    figure = plot_report(report)
    drawn = {text.get_text() for text in figure.axes[0].texts}
    assert drawn == {str(count) for row in report.confusion for count in row if count}
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [r"a\$b\$", "<b>", r"c\u202e"]
    assert size_of(figure._repr_png_()) == (1650, 750)  # 11 x 5 inches of 150 dots


def test_many_classes_have_a_scale_instead_of_names():
    figure = plot_report(report_of(k=40, n=200))
    assert not figure.axes[0].texts
    assert png_of(figure).startswith(b"\x89PNG")


def test_several_labels():
    from label_batches import label_report

    report, *_ = label_report()
    assert "mAP" in plot_report(report).axes[0].get_title()


@pytest.mark.parametrize(("history", "axes"), [(History(epochs=EPOCHS), 2), (History(heads=HEADS), 1)])
def test_a_run_is_drawn(history, axes):
    figure = plot_history(history)
    assert len(figure.axes) == axes
    if history.epochs:
        assert list(figure.axes[0].lines[0].get_ydata()) == [1.0, 0.5, pytest.approx(1 / 3), 0.25]


@pytest.mark.parametrize("values", [(0.9, 1.0), (0.98, 0.99)])
def test_no_axis_of_a_score_goes_beyond_100_percent(values):
    epochs = [EpochRow(epoch=i, train_loss=1.0, val_accuracy=value, val_nll=1.0) for i, value in enumerate(values, 1)]
    heads = [
        HeadRow(trial=i, method="ridge", l2=i, val_accuracy=value, val_nll=1.0) for i, value in enumerate(values, 1)
    ]
    assert plot_history(History(epochs=tuple(epochs))).axes[1].get_ylim()[1] <= 1
    low, high = plot_history(History(heads=tuple(heads))).axes[0].get_xlim()
    assert low < min(values) <= max(values) <= high <= 1


def test_what_cannot_be_drawn_is_named_and_nothing_is_overwritten(tmp_path):
    report = report_of()
    written, left_out = save_figures(tmp_path / "png", report, History(), {})
    assert [path.name for path in written] == ["confusion_matrix.png", "reliability.png"]
    assert [text.partition(":")[0] for text in left_out] == ["no curves.png", "no errors.png"]
    pictures = {error.name: thumbnail(np.zeros((9, 9, 3), np.uint8)) for error in report.errors}
    written, left_out = save_figures(tmp_path / "more", report, History(epochs=EPOCHS), pictures)
    assert len(written) == 4
    assert not left_out
    with pytest.raises(DataError, match=r"confusion_matrix.png exists already"):
        save_figures(tmp_path / "png", report, History(), {})
