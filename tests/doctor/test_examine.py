import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from doctor_pictures import picture
from PIL import Image
from sklearn.datasets import load_digits

import recog
from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.lists.label_format import AS_FOUND, LabelFormat
from recog.data.sources import open_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 images each of the digits 0, 1 and 4, larger; a re-saved copy in test, a wrong label, a black image."""
    root = tmp_path_factory.mktemp("digits")
    digits = load_digits()
    for digit in (0, 1, 4):
        for i, row in enumerate(np.flatnonzero(digits.target == digit)[:50]):
            split = "train" if i < 40 else "test"
            place = root / split / str(digit) / f"{i:02d}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.uint8(digits.images[row] * 15.9)).resize((96, 96), Image.Resampling.BICUBIC)
            picture.save(place)
    Image.open(root / "train/0/05.png").save(root / "test/0/copy.jpg", quality=80)
    (root / "train/0/07.png").rename(root / "train/1/zero.png")
    Image.new("L", (96, 96)).save(root / "train/4/black.png")
    return root


@pytest.fixture(scope="module")
def scanned(folder, digits_run, tmp_path_factory):
    """The command, by the network of a run, so that none is built."""
    out = tmp_path_factory.mktemp("out") / "found"
    command = ["scan", folder, "--deep", "--run", digits_run.bundle, "--out", out, "--json", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "recog", *map(str, command)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)["deep"]


def rows(out):
    with (out / "findings.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_was_planted_is_found(scanned):
    _, deep = scanned
    by_kind = {}
    for finding in deep["findings"]:
        by_kind.setdefault(finding["kind"], []).append(finding)
    assert [sorted(finding["images"]) for finding in by_kind["leak"]] == [["test/0/copy.jpg", "train/0/05.png"]]
    wrong = next(finding for finding in by_kind["label_error"] if finding["images"] == ["train/1/zero.png"])
    assert wrong["suggested_label"] == "0"
    assert [finding["images"] for finding in by_kind["blank"]] == [["train/4/black.png"]]


def test_training_obeys_the_marks(scanned, folder, tmp_path):
    out, _ = scanned
    table = rows(out)
    assert {row["action"] for row in table if row["image"] == "train/0/05.png"} == {"exclude"}
    for row in table:
        if row["image"] == "train/1/zero.png":
            row |= {"action": "relabel", "new_label": "0"}
    marked = tmp_path / "marked.csv"
    with marked.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(table)
    plain = open_source(folder)
    data = open_source(folder, layout=DataLayout(exclude=(str(marked),), relabel=str(marked)))
    assert "train/0/05.png" not in {sample.name for sample in data.samples}
    assert {sample.name: sample.label for sample in data.samples}["train/1/zero.png"] == 0
    assert len(list(folder.rglob("*.*"))) == len(plain.samples)  # no file was touched


def test_the_page_stands_beside_the_table(scanned):
    out, deep = scanned
    page = (out / "findings.html").read_text()
    assert page.count("<figure>") > 3
    assert {row["finding"] for row in rows(out)} <= set(deep["counts"])


def test_python_gives_the_findings(folder, digits_run):
    found = recog.scan(folder, deep=digits_run.bundle).findings
    assert found.counts["blank"] == 1
    assert len(found.names) == len(found.labels) == len(found.splits)


def test_too_few_images(tmp_path, digits_run):
    for label in "ab":
        (tmp_path / label).mkdir()
        Image.new("L", (9, 9)).save(tmp_path / label / "1.png")
    with pytest.raises(DataError, match="has 2 usable images; .* needs 10 or more"):
        recog.scan(tmp_path, deep=digits_run.bundle)


def test_a_run_with_marks_can_be_repeated_from_another_folder(tmp_path, monkeypatch):
    """run.toml names the files relative to itself, and the bundle does not name them."""
    from recog.recipes.config import DataConfig, TrainConfig
    from recog.runs.folder import load_run_config, write_run_config

    (tmp_path / "work" / "run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "a.csv").write_text("image\n")
    data = DataConfig(source="digits", exclude=("a.csv", "*_mask.png"), relabel="b.csv")
    write_run_config(tmp_path / "work" / "run", replace(TrainConfig(), data=data))
    monkeypatch.chdir(tmp_path)
    read = load_run_config(tmp_path / "work" / "run" / "run.toml").data
    assert (read.exclude, read.relabel) == (("work/a.csv", "*_mask.png"), "work/b.csv")


def scan_list(tmp_path, digits_run, rows, columns="image,label,split", labels=AS_FOUND):
    """The findings by kind on a CSV of `rows` (pixels, further cells)."""
    lines = [columns]
    for i, (pixels, *cells) in enumerate(rows):
        Image.fromarray(pixels).save(tmp_path / f"{i:02d}.png")
        lines.append(",".join([f"{i:02d}.png", *cells]))
    (tmp_path / "list.csv").write_text("\n".join(lines))
    return recog.scan(tmp_path / "list.csv", labels=labels, deep=digits_run.bundle).findings


def strokes(i, labels):
    """Grey 64 x 64: noise, with a bar on the left where 'left' is among the labels, and at the bottom for 'low'."""
    pixels = np.random.default_rng(i).integers(0, 60, (64, 64))
    pixels[:, 8:20] += 180 * ("left" in labels)
    pixels[44:56] += 180 * ("low" in labels)
    return np.uint8(np.minimum(pixels, 255))


def test_labels_among_several_that_are_missing_or_wrong(tmp_path, digits_run):
    kinds = ("", "left", "low", "left|low")
    true = [kinds[i % 4] for i in range(80)]
    given = true.copy()
    given[7], given[21] = "left", "left|low"  # lacks 'low'; has 'low' and should not
    found = scan_list(
        tmp_path,
        digits_run,
        [(strokes(i, true[i]), given[i]) for i in range(80)],
        columns="image,labels",
        labels=LabelFormat(separator="|"),
    )
    wrong = {finding.images[0]: finding for finding in found.of_kind("label_error")}
    assert set(wrong) == {7, 21}
    assert wrong[7].reason == "labelled 'left', looks like 'low' as well"
    assert (wrong[7].suggested_label, wrong[21].suggested_label) == ("left|low", "left")
    assert wrong[21].reason == "labelled 'left' and 'low', does not look like 'low'"


def test_groups_in_several_splits_and_names_that_look_alike(tmp_path, digits_run):
    rows = []
    for i in range(32):
        label = ("cat", "Cat", "dog", "dog")[i % 4]
        rows.append((strokes(i, "left" * (label == "dog")), label, "test" if i >= 24 else "train", f"site{i // 5}"))
    found = scan_list(tmp_path, digits_run, rows, "image,label,split,group")
    (leak,) = found.of_kind("group_leak")
    assert leak.reason == "group 'site4' has 5 images in train and test"  # images 20 to 24
    assert leak.images == (20, 21, 22, 23, 24)
    (alike,) = found.of_kind("look_alike_names")
    assert alike.reason == "the classes 'Cat' and 'cat' differ by case only and are taken as 2 classes"


def test_only_images_that_were_compared_with_the_test_split_are_excluded(tmp_path, digits_run):
    """0 is copied, mirrored, to 1 in train and, as it is, to 24 in test: both are the picture. The rest stays."""
    rows = []
    for i in range(32):
        pixels = np.asarray(picture(i, size=(96, 96)))
        pixels = {1: np.asarray(picture(0, size=(96, 96)))[:, ::-1], 24: np.asarray(picture(0, size=(96, 96)))}.get(
            i, pixels
        )
        rows.append((pixels, ("cat", "dog")[i % 2 * (i != 1)], "test" if i >= 24 else "train"))
    found = scan_list(tmp_path, digits_run, rows)
    (leak,) = found.of_kind("leak")
    assert (leak.images, dict(leak.actions)) == ((0, 1, 24), {0: "exclude", 1: "exclude"})


def test_of_near_duplicates_the_largest_comes_first(tmp_path, digits_run):
    """The page offers to keep the first one: image 4 is 3, enlarged."""
    rows = [(np.asarray(picture(i, size=(96, 96))), ("cat", "dog")[i % 2], "train") for i in range(12)]
    large = np.asarray(picture(3, size=(96, 96)).resize((192, 192)))
    found = scan_list(tmp_path, digits_run, [*rows[:4], (large, "dog", "train"), *rows[5:]])
    (pair,) = found.of_kind("near_duplicate")
    assert pair.images == (4, 3)
