import csv
import json
from pathlib import Path

import numpy as np
import pytest
from containers import labelled_pngs, write_folder

from recog.data.balance import class_weights
from recog.evaluation.results.read import parse_report
from recog.models.config import ModelConfig
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
from recog.runs.history import history_of, read_history, results_csv
from recog.verbs.run import Run
from recog.verbs.train import train_events


def report_of(folder):
    return parse_report(json.loads((folder / "report.json").read_text()))


def test_a_run_by_steps_tells_its_epochs_and_only_the_run_its_time(digits_run):
    """1,797 digits, 60/20/20 by the source's fractions; whatever is left in train, batches are full and of 64."""
    inside, beside = report_of(digits_run.bundle), report_of(digits_run.folder)
    facts = inside.training
    assert (facts.network, facts.recipe, facts.balance, facts.balance_effect) == ("resnet8", "scratch", "auto", "")
    assert (facts.num_epochs, facts.num_planned_epochs, facts.batch_size) == (2, 2, 64)
    splits = json.loads((digits_run.folder / "splits.json").read_text())["splits"]
    assert facts.num_images == len(splits["train"])
    assert facts.num_steps == 2 * (facts.num_images // 64)
    records = [json.loads(line) for line in (digits_run.folder / "metrics.jsonl").read_text().splitlines()]
    accuracy = {record["step"]: record["val_accuracy"] for record in records if record["kind"] == "epoch"}
    assert accuracy[facts.best_epoch] == max(accuracy.values())
    assert facts.duration_s is None
    assert beside.training.duration_s == digits_run.duration_s
    assert "Run time" in (digits_run.folder / "report.html").read_text()
    assert not (digits_run.bundle / "report.html").exists()
    assert digits_run.report == inside


def test_the_page_on_runs_names_each_file_of_a_run(digits_run):
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text()
    for path in digits_run.folder.iterdir():
        assert f"`{path.name}{'/' if path.is_dir() else ''}`" in page, path.name
    log = (digits_run.folder / "debug.log").read_text()
    assert all(text in log for text in ("Versions: recog", "Machine: ", "network resnet8", "optimiser sgd"))


def test_results_csv_has_a_row_per_epoch(digits_run):
    rows = list(csv.DictReader((digits_run.folder / "results.csv").open()))
    records = [json.loads(line) for line in (digits_run.folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [record for record in records if record["kind"] == "epoch"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row, record in zip(rows, epochs, strict=True):
        assert [float(row[name]) for name in ("train_loss", "val_accuracy", "val_nll")] == [
            record[name] for name in ("train_loss", "val_accuracy", "val_nll")
        ]
    assert [row.epoch for row in read_history(digits_run.folder).epochs] == [1, 2]


def test_history_passes_over_what_is_damaged_and_keeps_the_last_of_an_epoch(tmp_path):
    good = {"kind": "epoch", "step": 1, "train_loss": 1.0, "val_accuracy": 0.5, "val_nll": 0.7}
    again = good | {"train_loss": 0.9}
    head = {"kind": "head", "step": 1, "method": "ridge", "l2": 0.1, "val_accuracy": 0.9, "val_nll": 0.2}
    bad = [
        {"kind": "epoch", "step": 2},
        good | {"step": "x"},
        {"kind": "step", "step": 3},
        {"kind": "head"},
    ]
    found = history_of([good, *bad, again, head])
    assert [(row.epoch, row.train_loss) for row in found.epochs] == [(1, 0.9)]
    assert [row.method for row in found.heads] == ["ridge"]
    (tmp_path / "metrics.jsonl").write_text(json.dumps(good) + '\n{"kind": "epo')
    assert len(read_history(tmp_path).epochs) == 1
    assert read_history(tmp_path / "none").epochs == ()


def test_results_csv_of_heads_where_there_are_no_epochs():
    head = {"kind": "head", "step": 1, "method": "ridge", "l2": 0.1, "val_accuracy": 0.9, "val_nll": 0.2}
    assert results_csv(history_of([head])) == b"trial,method,l2,val_accuracy,val_nll\n1,ridge,0.1,0.9,0.2\n"


@pytest.mark.slow
def test_balance_and_cross_validation_of_few_unequal_images(tmp_path):
    images = labelled_pngs(24, classes=("ant",), size=32) | labelled_pngs(8, classes=("bee",), size=30)
    config = TrainConfig(
        recipe="head",
        balance="weights",
        data=DataConfig(source=str(write_folder(images, tmp_path / "data"))),
        model=ModelConfig(image_size=(32, 32)),
        compute=ComputeConfig(num_threads=1),
    )
    *_, run = train_events(config, runs=tmp_path / "runs")
    assert isinstance(run, Run)
    facts = run.report.training
    splits = json.loads((run.folder / "splits.json").read_text())["splits"]
    labels = np.array([row["class"] == "bee" for row in splits["train"]]).astype(np.int64)
    assert facts.class_weights == pytest.approx(tuple(class_weights(np.bincount(labels, minlength=2), len(labels))))
    assert facts.balance_effect.startswith("balance by weights: 'ant' has")
    found = facts.cross_validation
    assert found.num_images == len(splits["train"]) + len(splits["val"])
    assert found.smallest_class == sum(row["class"] == "bee" for split in ("train", "val") for row in splits[split])
    assert 0 <= found.accuracy <= 1
    assert (facts.num_epochs, facts.num_planned_epochs, facts.num_steps) == (0, 0, 0)
    page = (run.folder / "report.html").read_text()
    assert "Cross-validation" in page
    assert "Class weights" in page
