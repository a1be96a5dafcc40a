import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import recog
from recog.bundle.seal import CARD
from recog.core.errors import ConfigError, DataError
from recog.verbs import compare as module
from recog.verbs import eligible
from recog.verbs.compare import compare


def test_a_bundle_beside_itself(digits_run, tmp_path):
    run_a = shutil.copytree(digits_run.folder, tmp_path / "a")
    run_b = shutil.copytree(digits_run.folder, tmp_path / "b")
    result = recog.compare(run_a, run_b, "digits")
    # 1,797 images less those that trained or chose: the run's own test split
    assert (result.report.num_images, result.num_seen_by_a, result.num_seen_by_b) == (360, 0, 0)
    assert result.report.num_correct_a == digits_run.report.num_correct
    assert (result.report.difference, result.report.p_value, result.report.better) == (0.0, 1.0, None)
    assert "left out 1,437 of 1,797 images" in result.notes[0]
    for run in (run_a, run_b):
        last = json.loads((run / "test_openings.jsonl").read_text().splitlines()[-1])
        assert (last["command"], last["num_images"]) == ("compare", 360)
    table = json.loads(json.dumps(result.to_dict()))
    assert (table["a"]["name"], table["data"]["name"]) == (str(run_a), "digits")
    assert table["a"]["accuracy"] == table["b"]["accuracy"]


class Permuted:
    """A Predictor whose classes are named in the reverse order: the same answers, other columns."""

    def __init__(self, predictor):
        self.predictor, self.class_names = predictor, predictor.class_names[::-1]
        self.manifest, self.preprocess = predictor.manifest, predictor.preprocess

    def predict_each(self, sources):
        for answer in self.predictor.predict_each(sources):
            yield dataclasses.replace(
                answer,
                class_names=self.class_names,
                probs=answer.probs[::-1],
                logits=answer.logits[::-1],
                preds=answer.preds[::-1],
            )


def test_classes_may_stand_in_another_order(run_folder, monkeypatch):
    load, calls = eligible.load, []

    def load_and_permute_the_second(folder, **settings):
        calls.append(folder)
        predictor = load(folder, **settings)
        return predictor if len(calls) == 1 else Permuted(predictor)

    monkeypatch.setattr(eligible, "load", load_and_permute_the_second)
    result = compare(run_folder, run_folder, "digits").report
    assert result.num_only_a_right == result.num_only_b_right == 0


def test_other_classes_are_named():
    with pytest.raises(DataError, match="only A has dog; only B has emu and fox"):
        module._class_order(("cat", "dog"), ("fox", "cat", "emu")[::-1])
    assert module._class_order(("cat", "dog"), ("dog", "cat")) == [1, 0]


def test_splits_of_the_data_are_taken_and_bad_images_named(bundle, tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for digit in range(10):
            folder = tmp_path / "data" / split / str(digit)
            folder.mkdir(parents=True)
            for i in range(11):
                Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{i}.png")
    (tmp_path / "data" / "test" / "0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    result = compare(bundle, bundle, tmp_path / "data")
    assert (result.split, result.report.num_images) == ("test", 110)
    assert [name for name, _ in result.excluded] == ["test/0/broken.png"]
    assert result.num_seen_by_a is None  # a bundle without its run
    with pytest.raises(DataError, match="1 of 221 files"):
        compare(bundle, bundle, tmp_path / "data", bad_images="error")
    with pytest.raises(ConfigError, match="has no split 'val'"):
        compare(bundle, bundle, tmp_path / "data", split="val")


def test_a_split_of_data_without_splits(bundle):
    with pytest.raises(ConfigError, match="leave --split out"):
        compare(bundle, bundle, "digits", split="test")


@pytest.fixture(scope="module")
def measured(digits_run, tmp_path_factory):
    """Two copies of a run, both measured, the first twice."""
    folder = tmp_path_factory.mktemp("measured")
    runs = [shutil.copytree(digits_run.folder, folder / name) for name in ("a", "b", "bare")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for run, seed in ((runs[0], 0), (runs[0], 1), (runs[1], 0)):
            result = recog.robustness(run, "digits", corruptions=["contrast"], severities=[5], limit=24, seed=seed)
            assert result.folder.is_relative_to(run)
    return runs


def test_the_run_s_page_and_card_have_the_section(measured):
    run, _, bare = measured
    page = (run / "report.html").read_text()
    assert page.count('id="robustness"') == 1
    assert "seed 1" in page  # the newest
    assert (run / "robustness" / "digits-2" / "robustness.html").is_file()
    assert 'href="robustness/digits-2/robustness.html"' in page
    assert 'id="robustness"' not in (bare / "report.html").read_text()
    sealed = (run / "bundle" / CARD).read_text()
    assert (run / "model_card.md").read_text().startswith(sealed.rstrip())
    assert "## Robustness" not in sealed
    recog.verify(run)  # the bundle is as it was


def test_equal_networks_do_not_differ(measured):
    found = recog.compare_robustness(measured[0], measured[1])  # by seed 0, though the first one's newest has seed 1
    assert found.num_images == 24
    assert {row.difference for row in (*found.rows.values(), *found.by_corruption.values())} == {0.0}


def test_refusals(measured, tmp_path):
    run, _, bare = measured
    with pytest.raises(DataError, match="B has no robustness yet; measure it: recog robustness"):
        recog.compare_robustness(run, bare)
    alone = shutil.copytree(run / "bundle", tmp_path / "alone")
    with pytest.raises(ConfigError, match="A, .*, is a bundle outside a run's folder"):
        recog.compare_robustness(alone, run)
    other = shutil.copytree(bare, tmp_path / "other")
    recog.robustness(other, "digits", corruptions=["contrast"], severities=[4], limit=24, seed=1)
    with pytest.raises(DataError, match=r"severities differ: A has \[5\], B \[4\]"):
        recog.compare_robustness(run, other)
