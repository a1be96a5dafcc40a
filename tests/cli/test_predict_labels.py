import csv
from pathlib import Path

import numpy as np

from recog.cli.predict import print_labels_csv, print_labels_table
from recog.core.errors import BadImage
from recog.runtime.prediction import Prediction

NAMES = ("=cat", "-1", "eel")


def answer(probs, preds):
    return Prediction(
        name="x",
        task="multilabel",
        class_names=NAMES,
        probs=np.array(probs),
        logits=np.zeros(3, np.float32),
        preds=np.array(preds, bool),
    )


FILES = [Path("a.png"), Path("-b.png"), Path("c.png")]
ANSWERS = [answer([0.2, 0.9, 0.4], [0, 1, 1]), answer([0.1, 0.1, 0.1], [0, 0, 0]), BadImage("c.png", "truncated", "")]


def test_the_csv_has_the_labels_the_most_probable_first_and_every_probability(capsys):
    assert print_labels_csv(FILES, iter(ANSWERS), NAMES) == 1
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["labels"] for row in rows] == ["-1 | eel", "", ""]
    assert [rows[0][f"prob_{name}"] for name in NAMES] == ["0.200000", "0.900000", "0.400000"]
    assert [row["file"] for row in rows] == ["a.png", "-b.png", "c.png"]
    assert rows[2]["error"] == "truncated"


def test_raw_csv_has_the_names_as_they_are(capsys):
    files = [Path("=a.png"), Path("-4.jpg")]
    for raw, first in ((False, "'=a.png"), (True, "=a.png")):
        print_labels_csv(files, iter(ANSWERS[:2]), NAMES, raw=raw)
        assert [row["file"] for row in csv.DictReader(capsys.readouterr().out.splitlines())] == [first, "-4.jpg"]


def test_the_table_says_where_there_is_no_label(capsys):
    assert print_labels_table(FILES, iter(ANSWERS)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:3]] == [["a.png", "-1", "90.0%"], ["a.png", "eel", "40.0%"]]
    assert "(no label)" in lines[3]
    assert "not used: truncated" in lines[4]
