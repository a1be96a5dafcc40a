"""`recog explain` on a run: images, classes, errors, what is written and what is refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import recog
from recog.attribution.methods import masking
from recog.cli import COMMANDS, build_app
from recog.core.errors import ConfigError, DataError
from recog.verbs.explain import explain_events
from recog.verbs.explain_choice import Choice


def last(*args, **kwargs):
    *_, found = explain_events(*args, **kwargs)
    return found


@pytest.fixture(autouse=True)
def _few_images(monkeypatch):
    monkeypatch.setattr("recog.verbs.explain_choice.PER_CLASS", 1)
    monkeypatch.setattr("recog.verbs.explain_choice.NUM_OF_CLASS", 3)
    monkeypatch.setattr("recog.verbs.explain_choice.NUM_ERRORS", 3)


def test_test_images_of_all_classes_into_the_run_folder(run_folder):
    found = last(run_folder, Choice())
    assert found.folder.parent == run_folder / "explanations"
    assert {path.name for path in found.folder.iterdir()} == {"explain.html", "explain.json", "maps.npz", "overlays"}
    assert {card.true for card in found.cards} == {str(digit) for digit in range(10)}
    with np.load(found.folder / "maps.npz") as stored:
        np.testing.assert_array_equal(stored["maps"], found.maps)
        assert len(stored["images"]) == len(stored["labels"]) == len(found.maps)
    assert len(list((found.folder / "overlays").iterdir())) == len(found.maps)
    table = json.loads((found.folder / "explain.json").read_text())
    assert (table["method"], table["checks"]) == ("gradcam", [])
    for card in table["images"]:  # the predicted label, and of errors the true one
        assert [shown["role"] for shown in card["maps"]] == ["predicted", "true"][
            : 1 + (card["true"] != card["predicted"])
        ]
    assert "Explanations(" in repr(found)
    assert "explained" in found._repr_html_()


def test_errors_with_their_nearest_training_images(run_folder, tmp_path):
    found = last(run_folder, Choice(errors=True, nearest=2), out=tmp_path / "new")
    assert all(card.is_wrong and len(card.neighbours) == 2 for card in found.cards)
    assert [card.name for card in found.cards] == [
        error["name"] for error in json.loads((run_folder / "bundle" / "report.json").read_text())["errors"]
    ][: len(found.cards)]
    assert not (run_folder / "explanations").exists()


def test_checks_choose_the_method_now_and_later(run_folder, monkeypatch):
    monkeypatch.setattr(masking, "NUM_MASKS", 16)
    monkeypatch.setattr("recog.verbs.explain_checks.NUM_CHECKED", 3)
    monkeypatch.setattr("recog.attribution.check.MAX_PASSES", 0)
    pytest.importorskip("captum")
    found = last(run_folder, Choice(class_name="3", check=True))
    assert len(found.checks) == 7
    assert "most faithful of 7 methods" in found.why_method
    later = last(run_folder, Choice(class_name="3", label="5"))
    assert later.method == found.method
    assert "when they were checked" in later.why_method
    assert {view.label for card in later.cards for view in card.views} == {"5"}


def test_without_errors_there_is_nothing_to_explain(run_folder, reseal, tmp_path):
    report = json.loads((run_folder / "bundle" / "report.json").read_text())
    (run_folder / "bundle" / "report.json").write_text(json.dumps({**report, "errors": []}))
    reseal(run_folder / "bundle")
    command = ["explain", str(run_folder), "--errors", "--out", str(tmp_path / "new")]
    run = CliRunner().invoke(build_app(COMMANDS), command)
    assert run.exit_code == 0
    assert "lists no errors, so there is nothing to explain" in run.stderr
    assert run.stdout == ""
    assert not (tmp_path / "new").exists()
    table = json.loads(CliRunner().invoke(build_app(COMMANDS), [*command, "--json"]).stdout)
    assert (table["images"], table["folder"]) == ([], None)


def test_images_of_a_bundle_by_python(bundle, tmp_path):
    files = []
    for i in range(2):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (12, 12), dtype=np.uint8)).save(files[-1])
    (tmp_path / "bad.png").write_bytes(b"no image")
    found = recog.explain(bundle, [*files, tmp_path / "bad.png"], method="occlusion", out=tmp_path / "out")
    assert [card.true for card in found.cards] == ["", ""]
    assert len(found.notes) == 1
    assert "bad.png" in found.notes[0]
    assert found.why_method == "You chose this method."


def test_a_bundle_whose_network_cannot_be_built_is_explained_by_its_engine(bundle, reseal, tmp_path):
    config = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps({**config, "library": "own"}))
    reseal(bundle)
    image = tmp_path / "a.png"
    Image.new("L", (8, 8), 90).save(image)
    assert last(bundle, Choice(images=(str(image),)), out=tmp_path / "o").method == "occlusion"
    with pytest.raises(ConfigError, match="custom module.*Without them: occlusion, rise"):
        last(bundle, Choice(images=(str(image),), method="gradcam"), out=tmp_path / "p")


@pytest.mark.parametrize(
    ("choice", "error", "text"),
    [
        (Choice(errors=True, class_name="1"), ConfigError, "cannot be combined"),
        (Choice(class_name="eleven"), ConfigError, "no class 'eleven'"),
        (Choice(class_name="1", label="x"), ConfigError, "--label: there is no class 'x'"),
        (Choice(method="gradcm"), ConfigError, "Did you mean 'gradcam'"),
        (Choice(images=("none.png",)), DataError, "none of the images can be read"),
    ],
)
def test_what_is_refused(digits_run, choice, error, text):
    with pytest.raises(error, match=text):
        last(digits_run.folder, choice)


def test_a_bundle_alone_needs_data(bundle):
    with pytest.raises(ConfigError, match="Give --data DATA"):
        last(bundle, Choice(errors=True))


def test_several_labels_get_a_map_each(tmp_path):
    from pathlib import Path

    golden = Path(__file__).parents[1] / "golden" / "digits-labels-format-1"
    bundle = shutil.copytree(golden, tmp_path / "bundle")
    from sklearn.datasets import load_digits

    Image.fromarray((load_digits().images[0] * 15.9).astype(np.uint8)).save(
        tmp_path / "zero.png"
    )  # even, round, below five
    found = last(bundle, Choice(images=(str(tmp_path / "zero.png"),)), out=tmp_path / "out")
    assert {view.label for view in found.cards[0].views} == {"even", "round", "below five"}


def test_the_command(run_folder, tmp_path):
    run = CliRunner().invoke(
        build_app(COMMANDS), ["explain", str(run_folder), "--class", "1", "--json", "--out", str(tmp_path / "o")]
    )
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["method"] == "gradcam"
    plain = CliRunner().invoke(build_app(COMMANDS), ["explain", str(run_folder), "--class", "1"])
    assert ": 1, correct" in plain.stdout


def test_maps_in_the_report_of_an_evaluation(run_folder, tmp_path):
    from recog.verbs.evaluate import evaluate

    with pytest.raises(ConfigError, match="--maps is for a report with thumbnails"):
        evaluate(run_folder, "digits", maps=True, report_images=False)
    found = evaluate(run_folder, "digits", include_seen=True, maps=True, out=tmp_path / "e")
    page = (tmp_path / "e" / "report.html").read_text()
    assert page.count('class="map"') == min(50, found.report.num_errors) > 0
    assert "where it counts for the prediction, over the part that the network sees" in page


def test_one_path_is_one_image(run_folder, tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for images in (tmp_path / "a.png", str(tmp_path / "a.png")):
        found = recog.explain(run_folder, images)
        assert [card.name for card in found.cards] == [card.name for card in recog.explain(run_folder, [images]).cards]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"nearest": -1}, "--nearest is -1; expected 0 or more"), ({"images": ("a",), "data": "d"}, "--data has no use")],
)
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Choice(**options)
