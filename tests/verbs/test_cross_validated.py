"""`--split none`: a head on all images, and a report on answers out of fold, end to end."""

import json
from dataclasses import replace

import numpy as np
import pytest
from containers import labelled_pngs, write_folder

from recog.bundle.manifest import read_manifest
from recog.core.errors import ConfigError
from recog.runs.splits import read_seen
from recog.runtime.predictor import verify
from recog.verbs.evaluate import evaluate
from recog.verbs.python.classifier import ImageClassifier
from recog.verbs.python.embedded import train

SIZES = {"ant": 2, "bee": 4, "wasp": 6}


@pytest.fixture(scope="module")
def options(digits_run):
    return {
        "recipe": "head",
        "model": "resnet8",
        "weights": str(digits_run.bundle.resolve()),
        "channels": 1,
        "threads": 1,
    }


@pytest.fixture(scope="module")
def made(options, tmp_path_factory):
    """(run, folder of its images)."""
    folder = tmp_path_factory.mktemp("few")
    images = labelled_pngs(6, classes=tuple(SIZES), size=8)
    data = write_folder({key: image for key, image in images.items() if key[1] < SIZES[key[0]]}, folder / "insects")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run = train(data, split="none", verbose=False, **options)
    return replace(run, folder=folder / run.folder, bundle=folder / run.bundle), data


def test_the_report_is_on_cross_validated_answers_to_all_images(made):
    run, _ = made
    report = run.report
    assert (report.data.split, report.num_images, report.data.test_openings) == ("cross-validated", 12, None)
    assert {row.name: row.support for row in report.classes} == SIZES
    found = report.training.cross_validation
    assert (found.num_images, found.num_folds, found.num_repeats, report.training.num_images) == (12, 2, 4, 12)
    assert json.loads((run.folder / "report.json").read_text())["data"]["split"] == "cross-validated"
    assert report.trust.sets is None  # which the same answers were fitted on


def test_the_answers_are_not_those_of_the_bundle(made):
    run, data = made
    seen = evaluate(run.bundle, data, include_seen=True).report
    assert seen.nll < run.report.nll  # the bundle's head was fitted on these images


def test_page_and_card_call_it_cross_validated(made):
    run, _ = made
    page = (run.folder / "report.html").read_text()
    assert "insects</bdi>, cross-validated</h1>" in page
    assert "no test split was measured" in page
    card = (run.bundle / "README.md").read_text()
    assert "| Metric | Cross-validated, n = 12 |" in card
    assert "Cross-validation of 4 x 2 folds of 12 images: accuracy " in card


def test_every_image_counts_as_trained_on(made):
    run, data = made
    assert dict(read_manifest(run.bundle).data.num_images) == {"train": 12}
    assert {split: len(hashes) for split, hashes in read_seen(run.folder).hashes.items()} == {"train": 12}
    assert verify(run.bundle).num_reference_images == 12
    with pytest.raises(ConfigError, match="all 12 images of insects were used to make the model"):
        evaluate(run.bundle, data)


def test_the_classifier_of_scikit_learn_can_do_without_validation(options):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (8, 8, 8), dtype=np.uint8)
    fitted = ImageClassifier(**options, settings={"split.mode": "none"}).fit(images, [0, 1] * 4)
    assert (fitted.report_.data.split, fitted.report_.num_images) == ("cross-validated", 8)
