"""`recog robustness` keeps its result in the run; two runs are compared by it."""

from __future__ import annotations

import shutil

import pytest

import recog
from recog.bundle.seal import CARD
from recog.core.errors import ConfigError, DataError


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
