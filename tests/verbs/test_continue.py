"""A run that continues another one, end to end."""

import json
import tomllib

import pytest
from containers import labelled_pngs, write_folder

from recog.core.errors import ConfigError
from recog.runs.splits import read_seen
from recog.runtime.predictor import load
from recog.verbs.evaluate import evaluate
from recog.verbs.python.embedded import train

SMALL = {"model": "resnet8", "epochs": 1, "threads": 1, "verbose": False}


@pytest.fixture(scope="module")
def continued(tmp_path_factory):
    """(folder, parent, child): the child has more images and a third class."""
    folder = tmp_path_factory.mktemp("continued")
    before, after = folder / "two", folder / "three"
    images = labelled_pngs(30, classes=("ant", "bee", "wasp"))
    write_folder(images, after)
    write_folder({(name, i): image for (name, i), image in images.items() if name != "wasp" and i < 20}, before)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        parent = train(before, recipe="scratch", name="parent", **SMALL)
        child = train(after, parent="parent", epochs=1, threads=1, name="child", verbose=False)
    return folder, parent, child


@pytest.fixture
def runs(continued, monkeypatch):
    """(parent, child), in the folder that both were trained in."""
    folder, parent, child = continued
    monkeypatch.chdir(folder)
    return parent, child


def test_images_of_the_parent_keep_their_split(runs):
    before, after = (read_seen(run.folder).split_of() for run in runs)
    assert before.items() <= after.items()
    assert len(after) > len(before)


def test_run_toml_and_card_name_the_parent(runs):
    parent, child = runs
    digest = json.loads((parent.bundle / "recog.json").read_bytes())["digest"]
    model = tomllib.loads((child.folder / "run.toml").read_text())["model"]
    assert (model["parent"], model["parent_digest"]) == ("../parent/bundle", digest)
    assert tomllib.loads((child.bundle / "run.toml").read_text())["model"]["parent"] == ""
    card = (child.bundle / "README.md").read_text(encoding="utf-8")
    assert f"the bundle with digest `{digest}`" in card
    assert "its last layer has 2 of 3 classes, new: 'wasp'" in card


def test_the_better_last_layer_begins(runs):
    _, child = runs
    records = [json.loads(line) for line in (child.folder / "metrics.jsonl").read_text().splitlines()]
    (choice,) = [record for record in records if record["kind"] == "head_choice"]
    if choice["keeps_parent"]:
        assert choice["parent_score"] >= choice["fitted_score"]
    else:
        assert choice["parent_score"] <= choice["fitted_score"]


def test_images_that_made_the_parent_do_not_measure_the_child(runs, tmp_path):
    parent, child = runs
    found = evaluate(child.bundle, "two", out=tmp_path / "out").report.data
    assert found.num_left_out_as_seen == sum(split != "test" for split in read_seen(parent.folder).split_of().values())


def test_a_run_repeats_from_its_run_toml_and_not_from_another_parent(runs):
    _, child = runs
    with pytest.raises(ConfigError, match="is another bundle than this config was planned for"):
        train("three", child.folder / "run.toml", settings={"model.parent": "child"}, verbose=False)


def test_fewer_and_other_classes_at_another_size(runs, tmp_path):
    """Of the parent's two classes one is left, and two are new; the images are 12 x 12 pixels, as the parent's input."""
    parent, _ = runs
    others = write_folder(labelled_pngs(12, classes=("bee", "cow", "wasp")), tmp_path / "others")
    settings = {"model.image_size": 16}
    child = train(others, parent="parent", epochs=1, threads=1, name="larger", settings=settings, verbose=False)
    assert load(parent.bundle).preprocess.image_size == (12, 12)
    assert load(child.bundle).preprocess.image_size == (16, 16)
    assert load(child.bundle).class_names == ("bee", "cow", "wasp")
    assert "its last layer has 1 of 3 classes, new: 'cow, wasp'" in (child.bundle / "README.md").read_text(
        encoding="utf-8"
    )


def test_scratch_has_nothing_to_continue(runs):
    with pytest.raises(ConfigError, match="recipe scratch does not use model.parent"):
        train("three", parent="parent", recipe="scratch", verbose=False)
