import sys
from pathlib import Path

import numpy as np
import pytest

from recog.runs.page_facts import command_line
from recog.verbs.evaluate import evaluate


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["/usr/bin/recog", "train", "a b", "--lr", "0.1"], "recog train 'a b' --lr 0.1"),
        (["/x/recog/__main__.py", "evaluate", f"{Path.home()}/data"], "recog evaluate ~/data"),
        (["/usr/bin/pytest", "tests"], "recog.train(...)"),
        ([], "recog.train(...)"),
    ],
)
def test_the_command_is_told_without_the_users_home(monkeypatch, argv, line):
    monkeypatch.setattr(sys, "argv", argv)
    assert command_line("recog.train(...)") == line


def test_the_page_of_a_run_tells_where_it_comes_from(digits_run):
    page = (digits_run.folder / "report.html").read_text()
    for text in (
        "resnet8, ",
        "random, from the seed",
        "scratch, seed 0",
        f"recog train --config {digits_run.folder}/run.toml",
        "ms on this",
    ):
        assert text in page
    assert str(Path.home()) + "/" not in page


def test_the_page_of_an_evaluation_names_the_bundle_and_its_data(digits_run, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    names = digits_run.report.class_names
    run = evaluate(digits_run.bundle, [(image, names[i % 3]) for i, image in enumerate(images)], out=tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "digits: train" in page
    assert page.count('class="strip"') == len(names)
    assert run.report.num_images == 12


def test_no_images(digits_run, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    data = [(image, digits_run.report.class_names[i % 3]) for i, image in enumerate(images)]
    evaluate(digits_run.bundle, data, out=tmp_path / "out", report_images=False)
    assert "base64," not in (tmp_path / "out" / "report.html").read_text()
