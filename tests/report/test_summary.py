import numpy as np

from recog.evaluation.results.evaluate import evaluate
from recog.evaluation.results.facts import DataFacts
from recog.report.sections import metric_rows


def report_of(labels, logits):
    return evaluate(
        logits, labels, class_names=[str(c) for c in range(logits.shape[1])], names=[str(i) for i in range(len(labels))],
        data=DataFacts(name="d"),
    )  # fmt: skip


def test_every_measure_has_a_row():
    rng = np.random.default_rng(0)
    rows = metric_rows(report_of(np.arange(60) % 6, rng.normal(0, 1, (60, 6))))
    assert [row.name for row in rows] == [
        "Top-5 accuracy", "Matthews correlation", "Macro AUROC", "Macro average precision", "Brier score", "ECE",
        "ECE, equal mass", "Classwise ECE",
    ]  # fmt: skip
    assert all(row.interval for row in rows)


def test_what_is_undefined_has_no_row():
    rows = metric_rows(report_of(np.array([1, 1]), np.array([[0.0, 1.0], [1.0, 0.0]])))
    assert [row.name for row in rows] == ["Brier score", "ECE", "ECE, equal mass", "Classwise ECE"]


def test_measures_of_several_labels():
    from label_batches import label_report

    from recog.report.sections import metric_rows

    report, *_ = label_report()
    rows = {row.name: row for row in metric_rows(report)}
    assert rows["Hamming loss"].value == f"{100 * report.hamming_loss:.1f}%"
    assert rows["NLL"].value == f"{report.nll:.3f}"
    assert rows["Micro recall"].interval is not None
    assert rows["Macro AUROC"].means == "mean over labels; chance level: 0.5"
