import numpy as np
from containers import labelled_pngs, write_folder

from recog.data.dataset import Sample
from recog.data.inspection import inspect_images, summarise
from recog.data.sources import open_source


def test_each_image_is_hashed_as_its_sample_is_and_damage_is_named(tmp_path):
    folder = write_folder(labelled_pngs(2), tmp_path)
    damaged = folder / "ant/000.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    samples = [*open_source(folder).samples, Sample(name="a", source=np.zeros((5, 7), np.uint8), labels=(0,))]
    found = list(inspect_images(samples))
    assert [image.sha256 for image in found] == [sample.sha256() for sample in samples]
    assert [image.bad.name for image in found if image.bad] == ["ant/000.png"]
    summary = summarise(found)
    assert (summary.num_images, summary.widths_px, summary.heights_px) == (6, (7, 7, 12, 12, 12), (5, 5, 12, 12, 12))
    assert summary.modes == {"RGB": 5, "L": 1}


def test_nothing_readable_has_no_sizes():
    assert summarise([]).widths_px == ()
