from __future__ import annotations

import json

import numpy as np
import pytest

from recog.core.errors import ConfigError, DataError
from recog.data.dataset import Dataset, Sample
from recog.data.readers.named import read_digits
from recog.evaluation.results.report import Report
from recog.verbs.compare import compare
from recog.verbs.eligible import with_classes_of
from recog.verbs.evaluate import evaluate
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
    report = Report.from_dict(json.loads((first / "report.json").read_text()))
    assert report.num_images == 360
    assert "<html" in (first / "report.html").read_text()
    assert {path.name: path.read_bytes() for path in (run / "bundle").iterdir()} == before  # immutable once sealed


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


def test_it_is_scanned_and_compared_too(digits_run):
    assert scan(Own()).num_images == 1797
    result = compare(digits_run.bundle, digits_run.bundle, {"test": Own()})
    assert (result.comparison.num_images, result.comparison.difference) == (1797, 0.0)


def test_a_split_that_nobody_knows(bundle, run_folder):
    with pytest.raises(ConfigError, match="has no splits, and the bundle's run does not know it"):
        evaluate(bundle, "digits", split="test")
    with pytest.raises(ConfigError, match="none of the images of digits is in the run's split 'holdout'"):
        evaluate(run_folder, "digits", split="holdout")
