from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recog.answers.inputs import gather
from recog.core.errors import ConfigError, DataError
from recog.data.dataset import Dataset, Sample
from recog.data.readers.named import read_digits
from recog.evaluation.results.read import parse_report
from recog.runtime.predictor import load
from recog.verbs.compare import compare
from recog.verbs.eligible import with_classes_of
from recog.verbs.evaluate import evaluate
from recog.verbs.predict import AnswerFiles, AnswerOptions, plan_answers
from recog.verbs.scan import scan


def dataset(class_names):
    samples = tuple(
        Sample(name=f"{i}", source=np.zeros((2, 2), np.uint8), labels=(i,)) for i in range(len(class_names))
    )
    return Dataset(name="d", layout="test", class_names=class_names, samples=samples)


def test_labels_follow_the_bundles_class_order_not_the_folders():
    mapped = with_classes_of(dataset(("cat", "dog")), ("dog", "bird", "cat"))
    assert [sample.label for sample in mapped.samples] == [2, 0]
    assert mapped.class_names == ("dog", "bird", "cat")


def test_an_unknown_class_is_named_with_the_nearest_known_one():
    with pytest.raises(DataError, match=r"1 of 2 classes that the bundle does not know: dgo\. Did you mean 'dog'\?"):
        with_classes_of(dataset(("cat", "dgo")), ("cat", "dog"))


def test_a_run_keeps_its_evaluations_beside_the_bundle(run_folder):
    run = run_folder
    before = {path.name: path.read_bytes() for path in (run / "bundle").iterdir()}
    first, second = (evaluate(run, "digits").folder for _ in range(2))
    assert (first.name, second.name) == ("digits-1", "digits-2")
    report = parse_report(json.loads((first / "report.json").read_text()))
    assert report.num_images == 360
    assert "<html" in (first / "report.html").read_text()
    assert {path.name: path.read_bytes() for path in (run / "bundle").iterdir()} == before  # immutable once sealed


EVALUATE = """
import sys
from recog.verbs.evaluate import evaluate
sys.stdin.readline()
print(evaluate(sys.argv[1], "digits").folder.name)
"""


def test_four_evaluations_of_one_run_at_once_keep_their_reports(run_folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_folder, run, ignore=shutil.ignore_patterns("evaluations", "test_openings.jsonl"))
    command = [sys.executable, "-c", EVALUATE, str(run)]
    running = [subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True) for _ in range(4)]
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    done = [process.communicate(timeout=300) for process in running]
    assert {out.strip() for out, _ in done} == {f"digits-{n}" for n in (1, 2, 3, 4)}, done
    reports = [json.loads(path.read_text()) for path in run.glob("evaluations/*/report.json")]
    assert sorted(report["data"]["test_openings"] for report in reports) == [1, 2, 3, 4]


@pytest.fixture
def read_only_run(run_folder, tmp_path, monkeypatch):
    """A copy of the run that refuses to be written to, even by root."""
    run = tmp_path / "run"
    shutil.copytree(run_folder, run, ignore=shutil.ignore_patterns("evaluations", "test_openings.jsonl"))
    os_open, os_mkdir = os.open, os.mkdir

    def refuse(path):
        if Path(path).is_relative_to(run):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def open_(path, flags, *rest, **options):
        if flags & (os.O_RDWR | os.O_WRONLY):
            refuse(path)
        return os_open(path, flags, *rest, **options)

    def mkdir(path, *rest, **options):
        refuse(path)
        return os_mkdir(path, *rest, **options)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "mkdir", mkdir)
    return run


def test_a_run_that_may_only_be_read_is_evaluated_and_compared(read_only_run, tmp_path):
    run, unrecorded = read_only_run, "is read-only, so this use of its test split was not recorded"
    result = evaluate(run, "digits", out=tmp_path / "out")
    assert result.folder == tmp_path / "out"
    assert (tmp_path / "out" / "report.html").is_file()
    assert result.notes[-1] == f"{run} {unrecorded}"
    assert result.report.data.test_openings == 1
    result = evaluate(run, "digits")
    assert (result.folder, result.report.num_images) == (None, 360)
    assert f"{run} is read-only, so the result was not written there; --out FOLDER writes it elsewhere" in result.notes
    assert any(unrecorded in note for note in compare(run, run, "digits").notes)


def test_the_folder_of_evaluations_is_not_a_link_out(run_folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(run_folder, run, ignore=shutil.ignore_patterns("evaluations"))
    (tmp_path / "elsewhere").mkdir()
    (run / "evaluations").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="evaluations is a symbolic link; expected a folder"):
        evaluate(run, "digits")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_bundle_without_its_run_writes_nothing_unless_told(bundle, tmp_path):
    entries = set(bundle.parent.iterdir())
    result = evaluate(bundle, "digits")
    assert result.folder is None
    assert result.report.data.num_seen_in_training is None  # nothing says what it was trained on
    assert result.report.num_images == 1797
    assert set(bundle.parent.iterdir()) == entries
    assert evaluate(bundle, "digits", out=tmp_path / "out").folder == tmp_path / "out"
    with pytest.raises(DataError, match="exists already"):
        evaluate(bundle, "digits", out=tmp_path / "out")


class Own:
    """scikit-learn's digits as a torch Dataset gives them, their labels written by `say`."""

    def __init__(self, say=int, classes=None):
        self.samples = read_digits().samples
        self.say = say
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index].source, self.say(self.samples[index].label)


def test_a_dataset_of_your_own_is_measured_as_the_named_one(run_folder):
    expected = evaluate(run_folder, "digits").report
    backwards = [str(9 - i) for i in range(10)]
    for own in (Own(), Own(say=str), Own(say=lambda label: 9 - label, classes=backwards)):
        result = evaluate(run_folder, own)
        assert result.folder.name.startswith("own-")
        assert (result.report.num_images, result.report.num_correct) == (360, expected.num_correct)
        assert result.report.nll == pytest.approx(expected.nll, abs=1e-12)
    with pytest.raises(DataError, match="1 of 11 classes that the bundle does not know: ten"):
        evaluate(run_folder, Own(classes=[*(str(i) for i in range(10)), "ten"]))
    with pytest.raises(DataError, match="int has no length"):
        evaluate(run_folder, 5)


def test_it_is_scanned_and_compared_too(run_folder):
    assert scan(Own()).report.num_images == 1797
    result = compare(run_folder, run_folder, {"test": Own()}, include_seen=True)
    assert (result.report.num_images, result.report.difference) == (1797, 0.0)
    assert result.num_seen_by_a == result.num_seen_by_b == 1437  # trained on 1168, selected and calibrated with 269


def test_a_split_of_data_without_splits(bundle, run_folder):
    for where in (bundle, run_folder):
        with pytest.raises(ConfigError, match="digits has no splits; leave --split out"):
            evaluate(where, "digits", split="test")


def noise_images(folder, num_images, *, seed, num_classes=10):
    """`num_images` PNG files of 8 x 8 px below `folder`, in class folders 0, 1, ... in turn; returns their paths."""
    rng, paths = np.random.default_rng(seed), []
    for i in range(num_images):
        paths.append(folder / str(i % num_classes) / f"{seed}-{i}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def files_run(tmp_path_factory):
    """A run on 100 files in ten classes, without splits: 70 for training, 15 for validation, 15 for testing."""
    from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
    from recog.training.config import OptimConfig
    from recog.verbs.train import train_events

    folder = tmp_path_factory.mktemp("files")
    noise_images(folder / "data", 100, seed=0)
    config = TrainConfig(
        recipe="scratch",
        data=DataConfig(source=str(folder / "data")),
        optim=OptimConfig(epochs=1),
        compute=ComputeConfig(num_threads=1),
    )
    *_, run = train_events(config, name="files", runs=folder / "runs")
    return run


def test_views_are_averaged_and_stated(files_run, tmp_path, reseal):
    bundle, data = shutil.copytree(files_run.bundle, tmp_path / "bundle"), tmp_path / "new"
    noise_images(data, 10, seed=2)
    toml = (bundle / "run.toml").read_text()
    (bundle / "run.toml").write_text(toml.replace("mirror = false", "mirror = true"))
    reseal(bundle)
    result = evaluate(bundle, data, out=tmp_path / "out", views="mirror")
    assert "views: 2 passes per image" in result.notes
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["data"]["views"], parse_report(report).data.views) == ("mirror", "mirror")
    assert "Averages over several views of an image (--views mirror)" in (tmp_path / "out" / "report.html").read_text()
    image = next(data.rglob("*.png"))
    predictor = load(bundle, views="mirror")
    pixels = np.asarray(Image.open(image))
    straight, mirrored = (load(bundle).predict(array).logits for array in (pixels, pixels[:, ::-1].copy()))
    np.testing.assert_allclose(predictor.predict(image).logits, (straight + mirrored) / 2, atol=1e-5)
    assert load(bundle, views="mirror").__reduce__()[1][-1] == "mirror"
    with pytest.raises(ConfigError, match="--sets and --reject are calibrated on one view"):
        plan_answers(predictor, gather([str(image)]), AnswerOptions(sets=True), AnswerFiles())


def of_split(run, split):
    return [run.folder.parents[1] / "data" / row["name"] for row in splits_of(run)[split]]


def splits_of(run):
    return json.loads((run.folder / "splits.json").read_text())["splits"]


class TestImagesThatTheRunUsed:
    """Roles go by content: what the run trained, selected or calibrated with is left out, and everything else is measured."""

    def mixed(self, run, folder, **counts):
        """120 new images and `counts` of the run's own splits, under other names."""
        noise_images(folder, 120, seed=1)
        for split, count in counts.items():
            for i, path in enumerate(of_split(run, split)[:count]):
                shutil.copy(path, folder / path.parent.name / f"copy-{split}-{i}.png")
        return folder

    @pytest.mark.parametrize(
        ("counts", "num_images", "left_out"),
        [
            ({"train": 1}, 120, 1),
            ({"train": 1, "test": 1}, 121, 1),
            ({"test": 2}, 122, 0),
            ({"train": 2, "val": 3}, 120, 5),
        ],
    )
    def test_new_images_are_measured_beside_them(self, files_run, tmp_path, counts, num_images, left_out):
        data = self.mixed(files_run, tmp_path / "new", **counts)
        result = evaluate(files_run.folder, data, out=tmp_path / "out")
        facts = result.report.data
        assert (result.report.num_images, facts.num_left_out_as_seen) == (num_images, left_out)
        assert (facts.split, facts.num_seen_in_training, facts.num_seen_in_selection) == (None, 0, 0)
        assert (f"left out {left_out} of {num_images + left_out} images" in " ".join(result.notes)) == bool(left_out)
        compared = compare(files_run.folder, files_run.folder, data)
        assert compared.report.num_images == num_images  # one rule for both verbs
        everything = evaluate(files_run.folder, data, out=tmp_path / "all", include_seen=True).report
        assert everything.num_images == num_images + left_out
        seen = (everything.data.num_seen_in_training, everything.data.num_seen_in_selection)
        assert seen == (counts.get("train", 0), counts.get("val", 0))

    def test_a_folder_of_the_validation_images_cannot_measure_the_model(self, files_run, tmp_path):
        val = of_split(files_run, "val")
        for path in val:
            (tmp_path / "val" / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "val" / path.parent.name)
        words = rf"all {len(val)} images of val were used to make the model \({len(val)} for model selection and calibration\)"
        with pytest.raises(ConfigError, match=words):
            evaluate(files_run.folder, tmp_path / "val")
        with pytest.raises(ConfigError, match="--include-seen"):
            compare(files_run.folder, files_run.folder, tmp_path / "val")
        report = evaluate(files_run.folder, tmp_path / "val", include_seen=True).report
        assert (report.data.num_seen_in_training, report.data.num_seen_in_selection) == (0, len(val))

    def test_arrays_beside_a_run_on_files_are_not_known_never_none(self, files_run):
        result = evaluate(files_run.folder, Own(say=str))
        assert result.report.data.num_seen_in_training is None
        assert "it is not known whether" in result.notes[0]

    def test_the_runs_own_report_counts_them_too(self, files_run):
        facts = files_run.report.data
        assert (facts.split, facts.num_seen_in_training, facts.num_seen_in_selection) == ("test", 0, 0)


def test_the_results_of_each_image(run_folder, tmp_path):
    files = {suffix: tmp_path / f"results{suffix}" for suffix in (".csv", ".json", ".jsonl", ".parquet")}
    reports = [evaluate(run_folder, "digits", predictions=file).report for file in files.values()]
    results = reports[0].predictions
    assert (len(results), results.is_correct.sum()) == (360, reports[0].num_correct)
    wrong = {result.path: (result.true[0], result.predicted[0]) for result in results if not result.is_correct}
    assert wrong.keys() >= {error.name for error in reports[0].errors}
    assert all(wrong[error.name] == (error.true_class, error.predicted_class) for error in reports[0].errors)
    confusion = reports[0].confusion_matrix
    assert sum(confusion[pair] for pair in set(wrong.values())) == len(wrong)
    with files[".csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in files[".jsonl"].read_text().splitlines()]
    assert lines == json.loads(files[".json"].read_text())
    for row, line, result in zip(rows, lines, results, strict=True):
        assert (row["path"], row["true"], row["predicted"]) == (result.path, result.true[0], result.predicted[0])
        assert row["is_correct"] == str(line["is_correct"]).lower() == str(result.is_correct).lower()
        assert line["label_set"] == list(result.label_set)
        assert [line[f"prob_{name}"] for name in results.class_names] == result.probs.tolist()
    table = pytest.importorskip("pyarrow.parquet").read_table(files[".parquet"])
    assert table.to_pylist() == lines


def test_where_results_cannot_be_written(run_folder, tmp_path):
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(DataError, match="a.csv exists already"):
        evaluate(run_folder, "digits", predictions=tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="--predictions is a.txt; its name has to end with .csv"):
        evaluate(run_folder, "digits", predictions=Path("a.txt"))


def test_a_report_as_a_dataframe(run_folder):
    report = evaluate(run_folder, "digits").report
    frame = report.to_dataframe()
    assert list(frame.index) == list(report.class_names)
    assert frame.loc["3", "support"] == report.classes[3].support
    assert frame.loc["3", "recall_ci95"] == report.classes[3].recall_ci95
    assert "threshold" not in frame
