"""`recog.robustness` on a golden bundle of digits: files, means by hand, going on after an interruption, refusals."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import recog
from recog.core.errors import ConfigError
from recog.evaluation.measures.counts import wilson_interval
from recog.perturbation import measure
from recog.perturbation.attack_config import AttackConfig
from recog.verbs.robustness import (
    QUICK_CORRUPTIONS,
    RobustnessConfig,
    RobustnessProgress,
    _read_subject,
    build_robustness_config,
    open_labelled,
    robustness_events,
)

BUNDLE = Path(__file__).parents[1] / "golden" / "digits-format-1-trust"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def measured(**options):
    return recog.robustness(BUNDLE, "digits", **{"limit": 30, "severities": (1, 5), **options})


def opened():
    return open_labelled(
        BUNDLE, "digits", split=None, labels=recog.LabelFormat(), layout=recog.DataLayout(), include_seen=False
    )


def test_report_and_files(tmp_path):
    result = measured(out=tmp_path / "report", corruptions=["gaussian_noise", "contrast", "rotation", "grey"])
    report = result.report
    found = report.corruptions
    assert (report.num_images, found.constants) == (30, "CIFAR-10-C")
    assert list(found.by_name) == ["gaussian_noise", "contrast", "rotation"]  # digits are grey already
    for row in (found.clean, *found.rows):
        assert row.hits.num_images == 30
        assert row.hits.accuracy_ci95 == wilson_interval(row.hits.num_correct, 30)
    common = [row.accuracy for row in found.rows if row.group == "common"]
    mean = next(mean for mean in found.means if mean.group == "common")
    assert (mean.num_conditions, mean.title) == (4, "ImageNet-C's corruptions (2 of 15)")
    assert mean.accuracy == pytest.approx(sum(common) / 4)
    assert mean.accuracy_ci95[0] <= mean.accuracy <= mean.accuracy_ci95[1]
    assert mean.relative_drop == pytest.approx((found.clean.accuracy - mean.accuracy) / found.clean.accuracy)
    assert found.by_name["contrast"][5].accuracy < found.clean.accuracy  # 0.15 of the contrast
    table = json.loads((result.folder / "robustness.json").read_text())
    assert table == json.loads(json.dumps(report.to_dict()))
    rows = list(csv.DictReader((result.folder / "robustness.csv").read_text().splitlines()))
    assert [float(row["accuracy"]) for row in rows] == [row.accuracy for row in (found.clean, *found.rows)]
    page = (result.folder / "robustness.html").read_text()
    assert "Contrast" in page
    assert "http" not in page.replace("http-equiv", "")
    assert result._repr_html_().count("<tr>") == 4  # clean and three corruptions


def test_classes_are_recalls():
    found = measured(corruptions=["contrast"], severities=[5], limit=100).report.corruptions
    assert sum(row.num_images for row in found.classes) == found.clean.hits.num_images
    recalled = sum(row.num_images * row.mean_recall for row in found.classes)
    assert recalled == pytest.approx(found.rows[0].hits.num_correct)
    losses = [row.clean_recall - row.mean_recall for row in found.classes]
    assert losses == sorted(losses, reverse=True)


def test_an_interrupted_measurement_goes_on(tmp_path, monkeypatch):
    config = RobustnessConfig(corruptions=("gaussian_noise", "fog"), severities=(1, 3), num_images=20)
    whole = measured(corruptions=config.corruptions, severities=(1, 3), limit=20).report
    calls = []
    corrupt = measure.corrupt
    monkeypatch.setattr(measure, "corrupt", lambda *a, **k: calls.append(a[1:]) or corrupt(*a, **k))
    labelled = opened()
    events = robustness_events(labelled, config)
    for _ in range(3):  # clean, noise 1, noise 3
        assert isinstance(next(events), RobustnessProgress)
    events.close()
    log = next((tmp_path / "cache").rglob("*.jsonl"))
    log.write_bytes(log.read_bytes()[:-20])  # cut off within the last line
    calls.clear()
    *_, last = robustness_events(labelled, config)
    assert {call[:2] for call in calls} == {("gaussian_noise", 3), ("fog", 1), ("fog", 3)}
    assert last.report.to_dict()["corruptions"] == whole.to_dict()["corruptions"]
    assert not log.exists()


def test_chance_depends_on_the_image_alone():
    """Fewer images: the same corrupted forms."""
    labelled = opened()
    few, many = (_read_subject(labelled, RobustnessConfig(num_images=n), "auto")[0] for n in (5, 10_000))
    place = many.hashes.index(few.hashes[2])
    noisy = [measure._corrupted(subject, "fog", 3, i) for subject, i in ((few, 2), (many, place))]
    np.testing.assert_array_equal(*noisy)


def test_defaults():
    assert build_robustness_config(None, None, None, quick=False).num_images == 1000
    quick = build_robustness_config(None, None, None, quick=True)
    assert (quick.corruptions, quick.severities, quick.num_images) == (QUICK_CORRUPTIONS, (1, 3, 5), 200)
    assert build_robustness_config(["fog"], [2, 1, 2], 7, quick=True) == RobustnessConfig(
        corruptions=("fog",), severities=(1, 2), num_images=7
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"severities": (0,)}, r"severities is \[0\]; expected some of 1, 2, 3, 4, 5"),
        ({"corruptions": ["rain"]}, "no corruption 'rain'"),
        ({"limit": 0}, "limit is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ConfigError, match=message):
        recog.robustness("no-such-run", "digits", **options)


def test_attacks_need_one_class_per_image():
    labelled = replace(opened(), dataset=replace(opened().dataset, task="multilabel"))
    config = build_robustness_config(None, None, 5, quick=True, attacks=AttackConfig())
    with pytest.raises(ConfigError, match="attacks need one class per image"):
        next(robustness_events(labelled, config))


def test_attacks_alone(tmp_path):
    result = recog.robustness(BUNDLE, "digits", attacks=["fgsm"], eps="1/255", limit=12, out=tmp_path / "report")
    assert result.report.corruptions is None
    assert result.report.attacks.rows[0].name == "fgsm"
    assert sorted(path.name for path in result.folder.iterdir()) == ["robustness.html", "robustness.json"]
