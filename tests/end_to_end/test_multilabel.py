"""Several labels an image, from a CSV to the bundle's answers: canvases on which none to four of scikit-learn's digits stand."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit
from sklearn import metrics
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from recog.cli import COMMANDS, build_app
from recog.core.errors import ConfigError, DataError
from recog.data.augment.policies import AugmentConfig
from recog.recipes.config import ComputeConfig, DataConfig, LoaderConfig, TrainConfig
from recog.training.config import OptimConfig
from recog.verbs.run import Run
from recog.verbs.train import train_events

pytestmark = pytest.mark.slow

APP = build_app(COMMANDS)
NUM_CANVASES = {"train": 1500, "val": 150, "test": 250}
DIGITS = tuple("0123456789")


def draw_canvases(folder, seed=0):
    """20 x 20 px: up to four digits, one in each quarter; train, val and test have digits of their own."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(digits.target))
    parts = dict(zip(NUM_CANVASES, np.split(order, [1100, 1400]), strict=True))
    rows = []
    for split, count in NUM_CANVASES.items():
        for i in range(count):
            canvas = rng.integers(0, 40, (20, 20)).astype(np.uint8)
            chosen = rng.choice(parts[split], size=rng.integers(0, 5), replace=False)
            for quarter, item in zip(rng.permutation(4), chosen, strict=False):
                top, left = (10 * int(q) + int(rng.integers(0, 3)) for q in divmod(int(quarter), 2))
                digit = (digits.images[item] * 15).astype(np.uint8)
                canvas[top : top + 8, left : left + 8] = np.maximum(canvas[top : top + 8, left : left + 8], digit)
            path = f"{split}/{i:04d}.png"
            (folder / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(canvas).save(folder / path)
            rows.append((path, split, sorted({int(digits.target[item]) for item in chosen})))
    return rows


@pytest.fixture(scope="module")
def canvases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("canvases")
    rows = draw_canvases(folder)
    with (folder / "canvases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "label"])
        writer.writerows([path, split, " ".join(map(str, labels))] for path, split, labels in rows)
    with (folder / "columns.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", *DIGITS])
        writer.writerows([path, split, *(int(k in labels) for k in range(10))] for path, split, labels in rows)
    return folder, rows


@pytest.fixture(scope="module")
def run(canvases, tmp_path_factory):
    folder, _ = canvases
    config = TrainConfig(
        data=DataConfig(source=str(folder / "canvases.csv"), label_separator=" "),
        optim=OptimConfig(epochs=16),
        compute=ComputeConfig(num_threads=1),
        augment=AugmentConfig(policy="light", mirror=False),
        loader=LoaderConfig(batch_size=32),
    )
    *_, last = train_events(config, name="canvases", runs=tmp_path_factory.mktemp("runs"))
    assert isinstance(last, Run)
    return last


@pytest.fixture(scope="module")
def answers(run, canvases):
    """(targets bool, probs, decisions) of the test split, by the bundle's predictor from the files."""
    import recog

    folder, rows = canvases
    test = [(path, labels) for path, split, labels in rows if split == "test"]
    predictions = recog.load(run.bundle).predict([folder / path for path, _ in test])
    targets = np.array([[k in labels for k in range(10)] for _, labels in test])
    probs = np.stack([p.probs for p in predictions])
    decisions = np.array([[name in p.labels for name in DIGITS] for p in predictions])
    return targets, probs, decisions


def test_the_digits_of_a_canvas_are_found(run):
    report = run.report
    print(
        f"mAP {report.mean_average_precision:.3f} {report.interval('mean_average_precision')}, n = {report.num_images}"
    )
    assert report.data.split == "test"
    assert report.num_images == 250
    assert report.mean_average_precision >= 0.9
    assert report.interval("mean_average_precision")[0] > 0.85
    assert run.duration_s > 0


def test_every_number_equals_scikit_learns_on_the_answers_from_files(run, answers):
    targets, probs, decisions = answers
    table = json.loads((run.bundle / "report.json").read_text())
    assert table["task"] == "multilabel"
    shown = targets.any(axis=0)
    assert shown.all()
    pairs = {
        "mean_average_precision": metrics.average_precision_score(targets, probs),
        "micro_average_precision": metrics.average_precision_score(targets, probs, average="micro"),
        "ranking_average_precision": metrics.label_ranking_average_precision_score(targets, probs),
        "subset_accuracy": metrics.accuracy_score(targets, decisions),
        "hamming_loss": metrics.hamming_loss(targets, decisions),
        "example_f1": metrics.f1_score(targets, decisions, average="samples", zero_division=1),
        "auroc": metrics.roc_auc_score(targets, probs),
        "nll": np.mean([metrics.log_loss(targets[:, k], probs[:, k]) for k in range(10)]),
        "brier": np.mean([metrics.brier_score_loss(targets[:, k], probs[:, k]) for k in range(10)]),
    }
    for name, theirs in pairs.items():
        assert table[name] == pytest.approx(theirs, abs=1e-9), name
    for average in ("macro", "micro", "weighted"):
        theirs = metrics.precision_recall_fscore_support(targets, decisions, average=average, zero_division=0)[:3]
        assert [table[average][key] for key in ("precision", "recall", "f1")] == pytest.approx(theirs, abs=1e-9)
    for k, row in enumerate(table["labels"]):
        assert row["average_precision"] == pytest.approx(
            metrics.average_precision_score(targets[:, k], probs[:, k]), abs=1e-9
        )
        assert row["f1"] == pytest.approx(metrics.f1_score(targets[:, k], decisions[:, k]), abs=1e-9)
        assert row["support"] == targets[:, k].sum()


def test_the_thresholds_stand_in_the_bundle_and_decide(run, answers):
    _, probs, decisions = answers
    table = json.loads((run.bundle / "calibration.json").read_text())
    assert "val" in table["thresholds"]["data"]
    assert table["thresholds"]["num_images"] == NUM_CANVASES["val"]
    np.testing.assert_array_equal(decisions, probs >= np.array(table["thresholds"]["values"]))


def test_the_network_from_its_two_files_answers_alike(run, canvases):
    import torch

    import recog
    from recog.models.network_files import load_classifier

    folder, rows = canvases
    predictor = recog.load(run.bundle)
    file = next(folder / path for path, split, _ in rows if split == "test")
    image = predictor.preprocess.read(file)
    with torch.inference_mode():
        logits, _ = load_classifier(run.bundle).eval()(torch.from_numpy(image[None]))
    scaling = predictor.calibration.scaling
    expected = expit(scaling.apply(logits.numpy().astype(np.float64)))[0]
    np.testing.assert_allclose(predictor.predict(file).probs, expected, atol=1e-4)


class TestCommands:
    def test_predict_prints_the_labels_of_each_image(self, run, canvases):
        folder, rows = canvases
        files = [str(folder / path) for path, split, _ in rows if split == "test"][:8]
        result = CliRunner().invoke(APP, ["predict", str(run.bundle), *files, "--json"])
        table = json.loads(result.stdout)
        assert [set(row) for row in table] == [{"file", "labels", "probs"}] * 8
        assert all(set(row["probs"]) == set(DIGITS) for row in table)
        result = CliRunner().invoke(APP, ["predict", str(run.bundle), *files, "--csv"])
        cells = list(csv.DictReader(result.stdout.splitlines()))
        assert [row["labels"].split(" | ") if row["labels"] else [] for row in cells] == [
            row["labels"] for row in table
        ]
        assert float(cells[0]["prob_7"]) == pytest.approx(table[0]["probs"]["7"], abs=1e-6)
        result = CliRunner().invoke(APP, ["predict", str(run.bundle), *files])
        assert result.exit_code == 0
        assert "labels" in result.stdout

    def test_evaluate_takes_either_way_of_writing_labels(self, run, canvases, tmp_path):
        folder, _ = canvases
        for number, name in enumerate(("canvases.csv", "columns.csv")):
            out = tmp_path / str(number)
            args = ["evaluate", str(run.bundle), str(folder / name), "--out", str(out), "--slice", "brightness"]
            result = CliRunner().invoke(APP, args, catch_exceptions=False)
            assert result.exit_code == 0
            table = json.loads((out / "report.json").read_text())
            assert table["mean_average_precision"] == run.report.mean_average_precision
            assert sum(part["num_correct"] for part in table["slices"][0]["slices"]) == table["num_subset_correct"]
            assert re.search(r"mAP +\d", result.stdout)

    def test_verify_answers_the_reference_images_again(self, run):
        result = CliRunner().invoke(APP, ["verify", str(run.bundle)])
        assert result.exit_code == 0, result.output

    def test_compare_says_which_is_better_by_images_and_by_map(self, run, canvases, answers, tmp_path, digits_run):
        import recog

        config = TrainConfig(
            data=DataConfig(source=str(canvases[0] / "columns.csv")),
            optim=OptimConfig(epochs=2),
            compute=ComputeConfig(num_threads=1),
        )
        *_, weaker = train_events(config, name="weaker", runs=tmp_path)
        args = ["compare", str(weaker.bundle), str(run.bundle), "--data", str(canvases[0] / "canvases.csv")]
        result = CliRunner().invoke(APP, [*args, "--label-separator", " ", "--json"], catch_exceptions=False)
        assert result.exit_code == 0
        table = json.loads(result.stdout)
        targets, probs, decisions = answers
        assert (table["num_images"], table["better"]) == (250, "B")
        assert table["b"]["num_correct"] == (targets == decisions).all(axis=1).sum()
        precision = table["mean_average_precision"]
        assert precision["b"] == pytest.approx(metrics.average_precision_score(targets, probs), abs=1e-9)
        assert precision["a"] == pytest.approx(weaker.report.mean_average_precision, abs=1e-9)
        assert 0 < precision["difference_ci95"][0] < precision["difference"] < precision["difference_ci95"][1]
        with pytest.raises(ConfigError, match="A is multilabel and B multiclass"):
            recog.compare(run.bundle, digits_run.bundle, canvases[0] / "columns.csv")

    def test_images_with_one_label_each_cannot_measure_it(self, run):
        import recog

        with pytest.raises(DataError, match="one label an image; expected none to several"):
            recog.evaluate(run.bundle, "digits")

    def test_scan_counts_each_label(self, canvases):
        result = CliRunner().invoke(APP, ["scan", str(canvases[0] / "columns.csv")])
        assert result.exit_code == 0
        assert "labels per image: " in result.stdout
        assert "10 labels, of which each image has any number" in result.stdout


def test_predicting_loads_no_torch(run, canvases):
    folder, rows = canvases
    code = (
        "import sys, recog\n"
        f"p = recog.load({str(run.bundle)!r}).predict({str(folder / rows[0][0])!r})\n"
        "print(p.labels, sorted({'torch', 'timm', 'sklearn'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.rstrip().endswith("[]")


def test_the_page_and_the_card_say_what_it_is(run):
    page = (run.folder / "report.html").read_text()
    assert "Mean average precision (mAP)" in page
    assert "What to do next" in page
    card = (run.bundle / "README.md").read_text()
    assert "type: mean_average_precision" in card
    assert "10 labels" in card


def test_a_label_asked_of_an_answer_with_several_is_a_clear_error(run, canvases):
    import recog

    folder, rows = canvases
    prediction = recog.load(run.bundle).predict(folder / rows[0][0])
    with pytest.raises(ConfigError, match="use `labels`"):
        _ = prediction.label
    assert len(prediction.top(3)) == 3
