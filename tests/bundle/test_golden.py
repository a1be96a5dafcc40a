"""Bundles kept as they were written, by `golden/make_golden.py`: a release must read them and give the same answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import recog
from recog.bundle.manifest import FORMAT_VERSION, read_manifest
from recog.evaluation.results.read import parse_report

TRUST = Path(__file__).parents[1] / "golden" / "digits-format-1-trust"
LABELS = TRUST.with_name("digits-labels-format-1")
GOLDEN = sorted(TRUST.parent.glob("*-format-*"))


def test_there_is_a_golden_bundle_of_every_format_version():
    versions = {read_manifest(bundle).format_version for bundle in GOLDEN}
    assert versions == set(range(1, FORMAT_VERSION + 1))


@pytest.mark.parametrize("bundle", GOLDEN, ids=lambda path: path.name)
def test_it_verifies(bundle):
    outcome = recog.verify(bundle)
    assert outcome.num_reference_images == 16
    assert outcome.max_prob_difference <= 1e-4


@pytest.mark.parametrize("bundle", GOLDEN, ids=lambda path: path.name)
def test_its_report_is_read(bundle):
    report = parse_report(json.loads((bundle / "report.json").read_text()))
    assert report.num_images == (135 if bundle == LABELS else 360)  # 15 % of 900; a fifth of 1,797
    assert report.class_names == read_manifest(bundle).class_names


@pytest.mark.parametrize("bundle", [path for path in GOLDEN if path != LABELS], ids=lambda path: path.name)
def test_it_still_knows_digits(bundle):
    """Its own report gives at least 96 % on 360 images; over all 1,797, most of them trained on, it is no less."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = list(np.round(digits.images * (255 / 16)).astype(np.uint8))
    predictions = recog.load(bundle).predict(images)
    right = np.mean([p.label == str(label) for p, label in zip(predictions, digits.target, strict=True)])
    report = json.loads((bundle / "report.json").read_text())
    assert right >= report["accuracy_ci95"][0] >= 0.95


def test_it_still_knows_labels():
    """All three labels right on the half of the digits that it has never seen as often as on its 135 test images."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = list(np.round(digits.images[900:] * (255 / 16)).astype(np.uint8))
    truth = {"even": {0, 2, 4, 6, 8}, "round": {0, 6, 8, 9}, "below five": {0, 1, 2, 3, 4}}
    expected = [{name for name, members in truth.items() if digit in members} for digit in digits.target[900:]]
    predictions = recog.load(LABELS).predict(images)
    right = np.mean([set(p.labels) == labels for p, labels in zip(predictions, expected, strict=True)])
    report = json.loads((LABELS / "report.json").read_text())
    assert right >= report["subset_accuracy_ci95"][0] >= 0.8


def test_what_it_trusts_is_applied_still():
    """Its own report, n = 360: 98.6 % of the true classes in the sets, 3.3 % unknown by mistake. All 1,797 are alike."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = list(np.round(digits.images * (255 / 16)).astype(np.uint8))
    predictions = recog.load(TRUST).predict(images, reject=True)
    report = parse_report(json.loads((TRUST / "report.json").read_text()))
    covered = np.mean([str(label) in p.label_set for p, label in zip(predictions, digits.target, strict=True)])
    assert covered >= report.trust.sets.coverage_ci95[0]
    unknown = np.mean([p.is_unknown for p in predictions])
    assert report.trust.unknown.rule.method == "knn"
    assert 0 < unknown <= report.trust.unknown.reject_rate_ci95[1]
