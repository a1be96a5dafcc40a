"""Decoded splits: targets stand beside their images, and bad files of every split are named under it."""

import numpy as np
from containers import labelled_pngs, write_folder

from recog.core.preprocess import Preprocess
from recog.evaluation.trust.conformal import image_coins
from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
from recog.recipes.labelled_images import decode_splits, run_engine
from recog.recipes.prepare import prepare
from recog.runtime.engine import Outputs
from recog.training.distributed import World


def test_targets_stand_beside_their_images(tmp_path):
    """The bright bar of an image of class k lies in the rows 3 k to 3 k + 2 of 12: on average 140 levels above the others."""
    prepared = prepare(config_of(write_folder(labelled_pngs(12), tmp_path)))
    for split in (prepared.larger, prepared.val):
        rows = split.store.rows().astype(float).mean(axis=(2, 3))
        bars = rows.reshape(len(rows), 4, 3).mean(axis=2)
        assert bars.argmax(axis=1).tolist() == split.targets.tolist()
        assert [name.partition("/")[0] for name in split.names] == [
            prepared.dataset.class_names[target] for target in split.targets
        ]


def test_a_bad_file_is_named_under_its_split_and_left_out(tmp_path):
    images = labelled_pngs(12)
    for split in ("train", "val", "test"):
        write_folder(images, tmp_path / split)
        (tmp_path / split / "ant" / f"{split}.png").write_bytes(images["ant", 0][:-30])
    prepared = prepare(config_of(tmp_path))
    assert {split: [bad.name for bad in found] for split, found in prepared.bad.items()} == {
        split: [f"{split}/ant/{split}.png"] for split in ("train", "val", "test")
    }
    assert len(prepared.larger.targets) == len(prepared.val.targets) == 36
    again = decode_splits(prepared.dataset, prepared.hashes, Preprocess(image_size=(6, 6)), prepared.plan, World())
    assert again.val.store.rows().shape == (36, 6, 6, 3)
    assert np.array_equal(again.val.targets, prepared.val.targets)


def config_of(source):
    return TrainConfig(recipe="scratch", data=DataConfig(source=str(source)), compute=ComputeConfig(num_threads=1))


def level_engine(images):
    level = images.reshape(len(images), -1).mean(axis=1, dtype=np.float32)
    return Outputs(logits=np.stack([-level, level], axis=1), features=level[:, None])


def test_batches_are_joined_in_order():
    images = np.arange(70, dtype=np.uint8).reshape(70, 1, 1, 1)
    collected, uniforms = run_engine(level_engine, images)
    assert collected.features[:, 0].tolist() == list(range(70))
    assert collected.logits[:, 1].tolist() == list(range(70))
    assert (uniforms == image_coins(images)).all()
