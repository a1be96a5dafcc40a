"""Groups of the data hold in the splits and in the folds that choose and calibrate a head."""

from containers import labelled_pngs, write_folder

from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
from recog.recipes.prepare import prepare


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
