import re
from dataclasses import replace
from xml.dom import minidom

from small_studies import LABELS, SPACE

from recog.tuning.optimism import Optimism
from recog.tuning.page import render_study
from recog.tuning.result import StudyResult
from recog.tuning.storage import TrialRow


def rows(count):
    """Trials whose scores rise with their learning rates; the last one was pruned."""
    names = ("sgd", "adamw")
    done = [
        TrialRow(
            number=i,
            state="done",
            recipe="scratch",
            settings={"optim.lr": 0.1 * 1.5**i, "optim.name": names[i % 2]}
            | ({"optim.momentum": 0.9} if i % 2 == 0 else {}),
            score=0.5 + 0.04 * i,
            nll=1.0,
            epochs=9,
            seconds=1.0,
            is_default=i == 0,
        )
        for i in range(count)
    ]
    last = TrialRow(
        number=count, state="pruned", recipe="scratch", settings={"optim.lr": 0.1}, by_epoch={1: 0.4}, reason="<b>"
    )
    return (*done, last)


def page_of(found, **changes):
    result = StudyResult(
        name="<s>",
        data="digits",
        rows=found,
        score_name="accuracy",
        measured_on="val",
        num_images=len(LABELS),
        sampler="TPE",
        fingerprint="sha256:a",
        importances={"scratch/optim.lr": 0.75, "scratch/optim.name": 0.25},
    )
    return render_study(replace(result, **changes), SPACE, run=None, runs_as="studies/s/best.toml")


def test_the_page_has_every_part_and_asks_for_nothing():
    page = page_of(rows(9))
    for part in ("History", "Importance of the settings", "Score by setting", "Parallel coordinates", "All trials"):
        assert part in page
    assert not re.search(r"<script|https?://|<link|@import", page)
    assert "&lt;s&gt;" in page
    assert "<b>" not in page.partition("<body>")[2]
    assert page.count('class="mark pruned"') == 2  # in the history, and by its learning rate
    assert "recog train --config studies/s/best.toml" in page


def test_charts_are_well_formed_and_inside_their_frames():
    page = page_of(rows(9))
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(charts) == 5  # history, importance, two settings that vary, parallel coordinates
    for chart in charts:
        minidom.parseString(chart)
    marks = re.findall(r'<circle class="mark \w+" cx="([\d.]+)" cy="([\d.]+)"', page)
    assert len(marks) == 10 + 10 + 9
    assert all(0 <= float(x) <= 400 and 0 <= float(y) <= 300 for x, y in marks)


def test_a_higher_score_is_drawn_higher_and_a_rate_by_its_logarithm():
    page = page_of(rows(3), importances=None)
    history = re.search(r"<svg.*?</svg>", page, re.DOTALL)[0]
    heights = [float(y) for y in re.findall(r'class="mark (?:one|two)" cx="[\d.]+" cy="([\d.]+)"', history)]
    assert heights == sorted(heights, reverse=True)
    assert len(heights) == 3
    rates = page.partition("optim.lr (scratch)")[2].partition("</svg>")[0]
    places = [float(x) for x in re.findall(r'class="mark (?:one|two)" cx="([\d.]+)"', rates)]
    assert abs((places[1] - places[0]) - (places[2] - places[1])) < 0.2  # equal factors, equal steps


def test_a_study_of_one_trial_has_a_page():
    page = page_of(rows(1), importances={})
    assert "Parallel coordinates" not in page
    assert "Importances need at least 8 trials" in page


def with_score(row, score):
    return replace(row, score=score if row.state == "done" else None)


def test_the_headline_is_of_the_best_trial_and_is_not_repeated():
    failed = TrialRow(number=10, state="failed", recipe="scratch", reason="out of memory: 3 GB")
    page = page_of((*rows(9), failed))
    summary = re.search(r'<p class="summary small">(.*?)</p>', page)[1]
    assert summary.startswith("best: trial 8,")
    meaning = page.partition('id="meaning"')[2].partition("</section>")[0]
    assert "<li>Failed, 1 trial: out of memory.</li>" in meaning
    assert "best: trial" not in meaning


def test_a_default_that_is_the_best_has_no_gain_over_itself():
    """Its luck is removed, the default's is not: the difference is no loss."""
    luck = Optimism(
        apparent=0.9, corrected=0.89, ci95=(0.8, 0.95), num_trials=2, num_images=90, num_resamples=1000,
        gain=-0.01, gain_ci95=(-0.08, 0.0),
    )  # fmt: skip
    first, second, *_ = rows(2)
    assert "Gain over the default" in page_of((first, second), optimism=luck)
    assert "Gain over the default" not in page_of((replace(first, score=0.9), second), optimism=luck)


def test_where_all_are_right_the_axis_ends_at_100_percent():
    page = page_of(tuple(with_score(row, 1.0) for row in rows(9)))
    labels = re.findall(r'text-anchor="end">([^<]*%)</text>', page)
    assert labels[:6] == ["90%", "92%", "94%", "96%", "98%", "100%"]
    assert ">99.999%" not in page
    assert "100.0%" not in page
    assert '<p class="big">100<small>%</small>' in page


def test_few_images_are_warned_of():
    # Wilson, 10 of 12 right: 55.2 to 95.3 %
    few = page_of(tuple(with_score(row, 10 / 12) for row in rows(9)), num_images=12)
    assert "Small sample: 12 images, so one of them is 8.3 points" in few
    assert "55.2-95.3%" in few
    many = page_of(tuple(with_score(row, 10 / 12) for row in rows(9)), num_images=12_000)
    assert "Small sample" not in many


def test_a_setting_that_a_trial_does_not_use_has_its_own_tick():
    found = rows(9)
    varied = tuple(
        replace(row, settings={**row.settings, "optim.momentum": 0.6 + 0.03 * row.number})
        if "optim.momentum" in row.settings
        else row
        for row in found
    )
    plot = page_of(varied).partition('id="parallel"')[2]
    assert plot.count(">not used</text>") == 1
    axis = plot.partition(">momentum</text>")[2].partition('class="pole"')[0]
    lowest = float(re.search(r'y="([\d.]+)">not used<', axis)[1])
    values = [float(y) for y in re.findall(r'y="([\d.]+)">0\.\d+<', axis)]
    assert len(values) == 3
    assert lowest > max(values) + 20  # below the lowest value, and apart from it
    without = [row.number for row in found if row.state == "done" and "optim.momentum" not in row.settings]
    # the third of three axes on 820 units, and a fourth for the score: at 2 / 3 of them
    paths = re.findall(r'<path class="thread \w+" d="([^"]+)"><title>trial (\d+)', plot)
    through = {int(number) for path, number in paths if f"L546.7 {lowest - 4:.1f}L" in path}
    assert through == set(without)
    without_default = tuple(
        replace(row, settings={"optim.lr": 1.0, "optim.name": "sgd"}) if row.is_default else row for row in varied
    )
    assert ">not used or as planned</text>" in page_of(without_default)
