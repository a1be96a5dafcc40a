import hashlib
import os
import sys
from collections import Counter

import numpy as np
import pytest
from containers import labelled_pngs, write_folder
from PIL import Image

from recog.core.images.decode import ImageInfo
from recog.core.images.formats import IMAGE_SUFFIXES
from recog.data.dataset import Sample
from recog.data.inspection import Inspected, content_hash, hash_samples, image_notes, inspect_images, summarise
from recog.data.sources import open_source

OPENED = []
IS_COUNTING = []  # an audit hook cannot be removed


def _count(event, arguments):
    if IS_COUNTING and event == "open" and isinstance(arguments[0], (str, os.PathLike)):
        OPENED.append(str(arguments[0]))


sys.addaudithook(_count)


@pytest.fixture
def opened():
    """A function: {image file: how often it was opened} since the test began."""
    OPENED.clear()
    IS_COUNTING.append(True)
    yield lambda: dict(Counter(path for path in OPENED if path.endswith(tuple(IMAGE_SUFFIXES))))
    IS_COUNTING.clear()


def test_a_files_hash_is_that_of_its_bytes(tmp_path):
    path = tmp_path / "1.png"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert hash_samples([Sample(name="cat/1.png", source=path, labels=(0,))]) == [known]


def test_an_arrays_hash_tells_shapes_apart():
    flat = np.arange(6, dtype=np.uint8)
    hashes = [content_hash(flat.reshape(shape)) for shape in ((2, 3), (3, 2), (6, 1))]
    assert len(set(hashes)) == 3
    assert hashes[0] == hashlib.sha256(b"(2, 3)" + bytes(range(6))).hexdigest()
    turned = flat.reshape(3, 2).T  # the same pixels in another memory order
    assert content_hash(turned) == content_hash(turned.copy())


def test_each_image_is_hashed_and_damage_is_named(tmp_path):
    folder = write_folder(labelled_pngs(2), tmp_path)
    damaged = folder / "ant/000.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    samples = [*open_source(folder).samples, Sample(name="a", source=np.zeros((5, 7), np.uint8), labels=(0,))]
    found = list(inspect_images(samples, check_pixels=True))
    assert [image.sha256 for image in found] == hash_samples(samples)
    assert [image.bad.name for image in found if image.bad] == ["ant/000.png"]
    summary = summarise(found)
    assert (summary.num_images, summary.widths_px, summary.heights_px) == (6, (7, 7, 12, 12, 12), (5, 5, 12, 12, 12))
    assert summary.modes == {"RGB": 5, "L": 1}


def test_without_check_pixels_damage_behind_the_header_is_left_to_the_decoder(tmp_path):
    folder = write_folder(labelled_pngs(1), tmp_path)
    damaged = folder / "ant/000.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    assert all(image.bad is None for image in inspect_images(open_source(folder).samples))


def test_nothing_readable_has_no_sizes():
    assert summarise([]).widths_px == ()


@pytest.mark.parametrize("check_pixels", [False, True])
def test_each_file_is_opened_once(tmp_path, opened, check_pixels):
    folder = write_folder(labelled_pngs(2), tmp_path)
    deep = folder / "ant/deep.png"
    Image.fromarray(np.array([[0, 4000]], np.uint16)).save(deep)  # 16-bit grey: its pixels are needed too
    samples = open_source(folder).samples
    OPENED.clear()
    found = list(inspect_images(samples, check_pixels=check_pixels))
    assert [image.grey16 for image in found if image.grey16] == [4000]
    assert opened() == {str(sample.source): 1 for sample in samples}


def test_what_the_network_will_not_see_is_noted(tmp_path):
    """3:2 keeps two thirds in a square; 16:9 keeps 56 %, and all of it in a network for 16:9."""
    sizes = {"a": (500, 333), "b": (200, 300), "c": (160, 90), "d": (90, 160)}
    samples = []
    for name, size in sizes.items():
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
        samples.append(Sample(name=name, source=tmp_path / f"{name}.png", labels=(0,)))
    inspected = list(inspect_images(samples))
    square = (
        "the centre crop cuts more than a third of 2 of 4 images, such as 160 x 90; --set model.crop_mode=squash or border "
        "keeps all of each"
    )
    assert list(image_notes(inspected)) == [square]
    assert list(image_notes(inspected[:2])) == []
    assert list(image_notes(inspected[2:3], image_size=(90, 160))) == []
    assert list(image_notes(inspected, crop_mode="squash")) == []


def test_dropped_bands_are_noted(tmp_path):
    infos = [
        ImageInfo(
            width=1, height=1, mode="RGB", format="TIFF", bits=8, is_animated=False, num_frames=1, num_dropped_bands=n
        )
        for n in (1, 1, 0)
    ]
    inspected = [Inspected(sha256="", info=info) for info in infos]
    assert list(image_notes(inspected)) == [
        "2 of 3 images with a band beyond red, green and blue, which are not used",
    ]
