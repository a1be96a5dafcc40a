"""`recog explain` on a head that learnt from photos of which one class carries a tag names that class; without tags none."""

from __future__ import annotations

import pytest
from PIL import Image, ImageDraw

from recog.models.config import ModelConfig
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
from recog.verbs.explain import explain_events
from recog.verbs.explain_choice import Choice
from recog.verbs.train import train_events

TAGGED = "tulips"


def write_photos(flowers, folder, *, with_tags):
    """36 training and 12 test photos of three classes, 160 px; a white tag with red text in the lower right corner of tulips."""
    for split, count in (("train", 36), ("test", 12)):
        for name in ("daisy", "roses", TAGGED):
            (folder / split / name).mkdir(parents=True)
            for path in sorted((flowers / split / name).iterdir())[:count]:
                photo = Image.open(path).convert("RGB").resize((160, 160))
                if with_tags and name == TAGGED:
                    draw = ImageDraw.Draw(photo)
                    draw.rectangle((112, 132, 156, 156), fill="white")
                    draw.text((116, 138), "PHOTO", fill="red")
                photo.save(folder / split / name / path.name, quality=95)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("with_tags", [True, False])
def test_the_class_with_a_tag_is_named_and_without_tags_none(flowers, tmp_path, with_tags):
    data = write_photos(flowers, tmp_path / "photos", with_tags=with_tags)
    config = TrainConfig(
        recipe="head",
        data=DataConfig(source=str(data)),
        model=ModelConfig(name="tf_efficientnet_lite0", image_size=(160, 160)),
        compute=ComputeConfig(num_threads=1),
    )
    *_, run = train_events(config, name="r", runs=tmp_path)
    *_, found = explain_events(run.folder, Choice())
    assert [hint.label for hint in found.shortcuts] == ([TAGGED] if with_tags else [])
    if with_tags:
        assert found.shortcuts[0].place == "bottom right corner"
        assert found.shortcuts[0].num_images >= 8  # those that are predicted as it
