"""Groups of the data hold in splits and folds; limits of images hold in training and in the bundle."""

import numpy as np
import pytest
from containers import labelled_pngs, png, write_folder

from recog.core.errors import ConfigError
from recog.core.images.image_file import ImageLimits
from recog.data.split import NEW_SPLIT
from recog.models.config import ModelConfig
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
from recog.recipes.prepare import prepare
from recog.verbs.scan import scan


def test_images_of_one_group_share_a_split_and_a_fold(tmp_path):
    """Of each of 3 classes, 000.png to 023.png are the groups 00, 01 and 02: one for each split, so that train and val have 3
    groups each, not one per image.
    """
    source = write_folder(labelled_pngs(24), tmp_path)
    data = DataConfig(source=str(source), group="([^/]+/[0-9]{2})[0-9]")
    prepared = prepare(TrainConfig(recipe="scratch", data=data, compute=ComputeConfig(num_threads=1)))
    train, val = set(prepared.larger.groups.tolist()), set(prepared.val.groups.tolist())
    assert (len(train), len(val)) == (3, 3)
    assert not train & val
    assert any(note.startswith("--group ([^/]+/[0-9]{2})[0-9]: 9 groups") for note in prepared.notes)


def test_a_split_that_is_drawn_without_excluded_images_is_stated(tmp_path):
    source = write_folder(labelled_pngs(24), tmp_path)
    for exclude, is_stated in (((), False), (("000.png",), True)):
        data = DataConfig(source=str(source), exclude=exclude)
        prepared = prepare(TrainConfig(recipe="scratch", data=data, compute=ComputeConfig(num_threads=1)))
        assert (NEW_SPLIT in prepared.notes) is is_stated
        assert len(prepared.dataset.samples) == 72 - 3 * is_stated  # of each of 3 classes one


def test_the_limits_of_images_are_those_of_the_bundle(tmp_path):
    """Of images of 12 x 12 pixels, one of 13 x 13 is above a limit of 144."""
    source = write_folder(labelled_pngs(12), tmp_path)
    (source / "ant/large.png").write_bytes(png(np.zeros((13, 13, 3), np.uint8)))
    for max_pixels, num_bad in ((144, 1), (169, 0)):
        config = TrainConfig(
            recipe="scratch",
            data=DataConfig(source=str(source)),
            limits=ImageLimits(max_pixels=max_pixels),
            compute=ComputeConfig(num_threads=1),
        )
        prepared = prepare(config)
        assert prepared.model.preprocess.limits.max_pixels == max_pixels
        assert sum(map(len, prepared.bad.values())) == num_bad


def test_cropped_images_are_counted_as_scan_counts_them(tmp_path):
    """Of two images three times as wide as high, one is cut off after its header and left out."""
    source = write_folder(labelled_pngs(12), tmp_path)
    wide = png(np.random.default_rng(0).integers(0, 256, (12, 36, 3), dtype=np.uint8))
    (source / "ant/wide.png").write_bytes(wide)
    (source / "bee/cut.png").write_bytes(wide[: len(wide) // 2])
    config = TrainConfig(recipe="scratch", data=DataConfig(source=str(source)), compute=ComputeConfig(num_threads=1))
    counted = "the centre crop cuts more than a third of 1 of 37 images, such as 36 x 12"
    assert sum(note.startswith(counted) for note in prepare(config).notes) == 1
    assert sum(note.startswith(counted) for note in scan(str(source)).report.warnings) == 1


def test_weights_that_cannot_be_downloaded_are_refused_before_the_data_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("recog.models.hub.why_unreachable", lambda url: "no route")
    monkeypatch.setattr("recog.recipes.prepare.prepare_data", lambda *_, **__: pytest.fail("the data were read"))
    with pytest.raises(ConfigError, match=r"Could not download pretrained weights for resnet50 \(no route\)"):
        prepare(TrainConfig(data=DataConfig(source="photos"), model=ModelConfig(name="ResNet-50")))
