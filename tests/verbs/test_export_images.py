import json

import pytest

from recog.core.errors import ConfigError
from recog.verbs.eligible import Side
from recog.verbs.export_images import MAX_IMAGES, NUM_TRAINING, find_images


def test_the_validation_split_of_the_run_and_other_images_to_quantise_on(run_folder):
    found = find_images(Side.load(run_folder), None, with_training=True)
    assert (found.description, len(found.samples), len(found.training)) == ("validation split", 269, NUM_TRAINING)
    assert not {s.name for s in found.samples} & {s.name for s in found.training}
    counts = [sum(s.label == k for s in found.training) for k in range(10)]
    assert counts == [NUM_TRAINING // 10] * 10  # the classes in turn


def test_it_is_stated_where_the_head_was_fitted_on_the_validation_images(run_folder):
    side = Side.load(run_folder)
    report = json.loads((side.folder / "report.json").read_bytes())
    report["training"]["num_val_images"] = 269
    (side.folder / "report.json").write_text(json.dumps(report))
    found = find_images(side, None, with_training=False)
    assert found.description == "validation split, which the head was fitted on too"


def test_changed_files_are_not_taken_for_those_of_the_run(run_folder):
    text = (run_folder / "splits.json").read_text()
    side = Side.load(run_folder)
    first = find_images(side, None, with_training=False).samples[0]
    row = text.index(f'"{first.name}"')
    at = text.index('"sha256": "', row) + len('"sha256": "')
    (run_folder / "splits.json").write_text(text[:at] + "0" * 64 + text[at + 64 :])
    found = find_images(side, None, with_training=False)
    assert len(found.samples) == 268
    assert first.name not in {s.name for s in found.samples}


def test_a_bundle_alone_measures_one_part_of_the_images_and_quantises_on_the_other(bundle):
    found = find_images(Side.load(bundle), "digits", with_training=True)
    assert (len(found.samples), len(found.training)) == (MAX_IMAGES, NUM_TRAINING)
    assert not {s.name for s in found.samples} & {s.name for s in found.training}


def test_few_images_are_a_note(bundle, tmp_path):
    from PIL import Image

    for i, label in enumerate("0011"):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 50 * i).save(tmp_path / "data" / label / f"{i}.png")
    found = find_images(Side.load(bundle), tmp_path / "data", with_training=False)
    assert "the gate has 4 images, so one of them is 25.0 points of accuracy; more: --images DATA" in found.notes


def test_without_a_run_or_images(bundle):
    with pytest.raises(ConfigError, match="is not in its run folder.*--images DATA"):
        find_images(Side.load(bundle), None, with_training=False)
