"""Checks that take long: their progress, and how they go on after an interruption."""

import json

import pytest

from recog.verbs.explain import explain_events
from recog.verbs.explain_checks import CheckProgress
from recog.verbs.explain_choice import Choice


@pytest.fixture(autouse=True)
def _few_images(monkeypatch):
    monkeypatch.setattr("recog.verbs.explain_choice.NUM_OF_CLASS", 3)


def test_interrupted_checks_go_on_where_they_stopped(run_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("recog.verbs.explain_checks.usable_methods", lambda _: ("gradcam", "layercam", "gradients"))
    monkeypatch.setattr("recog.verbs.explain_checks.NUM_CHECKED", 2)
    monkeypatch.setattr("recog.attribution.check.MAX_PASSES", 0)

    def progress(class_name):
        events = explain_events(run_folder, Choice(class_name=class_name, check=True))
        return (event for event in events if isinstance(event, CheckProgress))

    for event in progress("3"):  # Ctrl-C in the third method
        if event.method == "gradients":
            break
    again = list(progress("3"))
    assert (again[0].method, again[0].done_s, again[0].num_images, again[0].num_methods) == ("", 0.0, 2, 1)
    assert {event.method for event in again[1:]} == {"gradients"}
    assert again[-1].done_s == pytest.approx(again[0].all_s)
    assert len(json.loads((run_folder / "explanations" / "checks.json").read_text())["checks"]) == 3
    assert not list((tmp_path / "cache").rglob("*.jsonl"))  # what is complete needs no log
    assert next(progress("4")).num_methods == 3  # of other images nothing is known
