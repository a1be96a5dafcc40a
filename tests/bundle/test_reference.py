import io
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from recog.bundle.reference import (
    FEATURES,
    MAX_FEATURES_BYTES,
    MAX_REFERENCE_BYTES,
    MAX_REFERENCE_IMAGES,
    Reference,
    encode_reference,
    read_features,
    read_reference,
    synthetic_images,
    write_features,
    write_reference,
)
from recog.core.errors import BundleError
from recog.core.preprocess import Preprocess
from recog.data.dataset import choose_reference


def noise(height, width, channels):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height, width, channels=3):
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 255 // height, columns * 255 // width, 128 + 0 * rows], axis=2).astype(np.uint8)
    return image[:, :, :channels]


def opened(data):
    return Image.open(io.BytesIO(data))


def write_tensors(folder, tensors, kind="images"):
    (folder / "reference.safetensors").write_bytes(save(tensors, metadata={"kind": kind} if kind else None))


FILE = np.frombuffer(b"a file", dtype=np.uint8)
PROBS = np.float32([[0.5, 0.5]])


# encoding


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (64, 1), (1, 64), (64, 64)])
def test_small_images_keep_every_pixel(size, channels):
    image = noise(*size, channels)
    picture = opened(encode_reference(image, Preprocess(image_size=(64, 64), channels=channels)))
    assert picture.format == "PNG"
    assert np.array_equal(np.asarray(picture).reshape(image.shape), image)


def test_large_images_are_reduced_to_twice_the_networks_size():
    preprocess = Preprocess(image_size=(50, 40))
    picture = opened(encode_reference(smooth(400, 900), preprocess))
    assert picture.format == "JPEG"
    assert picture.size == (225, 100)  # the short side 2 x 50; 900 x 100 / 400
    shown = np.asarray(picture).astype(int)
    assert np.abs(shown - smooth(100, 225)).max() < 12  # the same picture


def test_an_image_that_is_not_larger_keeps_its_size():
    picture = opened(encode_reference(smooth(100, 300), Preprocess(image_size=(50, 50))))
    assert picture.size == (300, 100)


def test_files_are_bounded():
    """Noise is what JPEG stores worst: less than a byte per pixel and channel at quality 90, of 2 x 224 px."""
    assert len(encode_reference(noise(2000, 2000, 3), Preprocess(image_size=(224, 224)))) < 448 * 448 * 3


def test_files_carry_no_metadata():
    data = encode_reference(smooth(300, 300), Preprocess(image_size=(100, 100)))
    assert b"Exif" not in data
    assert set(opened(data).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert not opened(encode_reference(noise(8, 8, 3), Preprocess(image_size=(8, 8)))).info


# choosing


def test_classes_take_turns():
    assert choose_reference([0, 0, 0, 1, 1, 2], limit=4) == [0, 3, 5, 1]
    assert choose_reference([2, 2, 1, 0], limit=2) == [3, 2]
    assert choose_reference([1, 0], limit=16) == [1, 0]
    assert choose_reference([], limit=16) == []
    assert len(choose_reference([0] * 100)) == MAX_REFERENCE_IMAGES


@pytest.mark.parametrize("channels", [1, 3])
def test_synthetic_images_come_from_the_seed_alone(channels):
    preprocess = Preprocess(image_size=(20, 30), channels=channels)
    images = synthetic_images(preprocess, seed=1)
    assert [image.shape for image in images] == [(20, 30, channels)] * 16
    assert all(image.dtype == np.uint8 for image in images)
    assert len({image.tobytes() for image in images}) == 16
    again, other = synthetic_images(preprocess, seed=1), synthetic_images(preprocess, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(images, again, strict=True))
    assert not np.array_equal(images[0], other[0])


# the file


@pytest.mark.parametrize("kind", ["images", "synthetic"])
def test_a_reference_comes_back_as_written(tmp_path, kind):
    files = (b"first file", b"second, longer file", b"\x00")
    probs = np.float32([[0.1, 0.9], [0.5, 0.5], [1, 0]])
    write_reference(tmp_path, Reference(kind=kind, images=files, probs=probs))
    found = read_reference(tmp_path)
    assert (found.kind, found.images) == (kind, files)
    np.testing.assert_array_equal(found.probs, probs)


def test_more_than_ten_images_keep_their_order(tmp_path):
    files = tuple(b"%d" % i for i in range(16))
    write_reference(tmp_path, Reference(kind="images", images=files, probs=np.ones((16, 2), dtype=np.float32)))
    assert read_reference(tmp_path).images == files


def test_images_go_by_their_names_whatever_their_places_in_the_file(tmp_path):
    """A file by hand: 8 bytes of length, a JSON header, then image_01, image_00 and probs."""
    header = json.dumps(
        {
            "__metadata__": {"kind": "images"},
            "image_01": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
            "image_00": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]},
            "probs": {"dtype": "F32", "shape": [2, 2], "data_offsets": [4, 20]},
        }
    ).encode()
    probs = np.float32([[0, 1], [1, 0]])
    data = len(header).to_bytes(8, "little") + header + b"1100" + probs.tobytes()
    (tmp_path / "reference.safetensors").write_bytes(data)
    assert read_reference(tmp_path).images == (b"00", b"11")


def test_no_reference_is_said_so(tmp_path):
    write_reference(tmp_path, Reference(kind="none", images=(), probs=np.zeros((0, 0), dtype=np.float32)))
    found = read_reference(tmp_path)
    assert (found.kind, found.images, found.probs.shape) == ("none", (), (0, 0))


def test_a_trained_bundle_holds_16_images_of_all_classes(bundle):
    reference = read_reference(bundle)
    assert (reference.kind, len(reference.images), reference.probs.shape) == ("images", 16, (16, 10))
    np.testing.assert_allclose(reference.probs.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\xff" * 64, b"\x08" + bytes(7) + b"{}      ", b"\xff" * 7 + b"\x7f{}", b"PK\x03\x04"],
    ids=["empty", "one byte", "huge header", "no tensors", "header beyond the end", "zip"],
)
def test_garbage_is_a_bundle_error(tmp_path, data):
    (tmp_path / "reference.safetensors").write_bytes(data)
    with pytest.raises(BundleError, match=r"reference\.safetensors"):
        read_reference(tmp_path)


def test_a_header_of_hostile_offsets_is_a_bundle_error(tmp_path):
    for header in (
        b'{"image_00":{"dtype":"U8","shape":[9999999999],"data_offsets":[0,9999999999]}}',
        b'{"image_00":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}',
        b'{"image_00":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"__metadata__":{"kind":"images"}}',
        b'{"image_00":{"dtype":"X","shape":[4],"data_offsets":[0,4]}}',
        b"[" * 10_000,
    ):
        data = len(header).to_bytes(8, "little") + header + b"\x00" * 4
        (tmp_path / "reference.safetensors").write_bytes(data)
        with pytest.raises(BundleError, match=r"reference\.safetensors"):
            read_reference(tmp_path)


def test_a_missing_file_or_a_folder_in_its_place(tmp_path):
    with pytest.raises(BundleError, match="cannot be read"):
        read_reference(tmp_path)
    (tmp_path / "reference.safetensors").mkdir()
    with pytest.raises(BundleError, match="is a folder; expected a regular file"):
        read_reference(tmp_path)


def test_size_is_capped(tmp_path):
    with (tmp_path / "reference.safetensors").open("wb") as file:
        file.truncate(MAX_REFERENCE_BYTES + 1)
    with pytest.raises(BundleError, match=f"at most {MAX_REFERENCE_BYTES} are read"):
        read_reference(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "kind"),
    [
        ({"image_00": FILE}, "images"),  # no probs
        ({"probs": PROBS}, "images"),  # no image
        ({"image_00": FILE, "probs": PROBS}, "none"),
        ({"image_00": FILE, "probs": PROBS}, "other"),
        ({"image_00": FILE, "probs": PROBS}, None),
        ({"image_00": FILE, "probs": np.ones((2, 2), dtype=np.float32)}, "images"),
        ({"image_00": FILE, "probs": np.ones(1, dtype=np.float32)}, "images"),
        ({"image_00": FILE, "probs": np.ones((1, 2))}, "images"),  # float64
        ({"image_00": FILE.astype(np.float32), "probs": PROBS}, "images"),
        ({"image_00": FILE.reshape(2, 3), "probs": PROBS}, "images"),
        ({f"image_{i:02d}": FILE for i in range(17)} | {"probs": np.ones((17, 2), dtype=np.float32)}, "images"),
    ],
)
def test_tensors_that_are_no_reference_are_refused(tmp_path, tensors, kind):
    write_tensors(tmp_path, tensors, kind)
    with pytest.raises(BundleError, match=r"reference\.safetensors"):
        read_reference(tmp_path)


def test_round_trip(tmp_path):
    tensors = {"bank": np.arange(6, dtype=np.float16).reshape(2, 3), "centres": np.ones((1, 3), dtype=np.float32)}
    write_features(tmp_path, tensors)
    found = read_features(tmp_path)
    assert sorted(found) == sorted(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)


def test_equal_arrays_make_equal_files(tmp_path):
    one, two = np.ones((2, 2), dtype=np.float32), np.zeros((1, 2), dtype=np.float32)
    write_features(tmp_path, {"a": one, "b": two})
    first = (tmp_path / FEATURES).read_bytes()
    write_features(tmp_path, {"b": two, "a": one})
    assert (tmp_path / FEATURES).read_bytes() == first


def test_anything_else_is_refused(tmp_path):
    with pytest.raises(BundleError, match="cannot be read"):
        read_features(tmp_path)
    (tmp_path / FEATURES).write_bytes(b"not safetensors")
    with pytest.raises(BundleError, match="cannot be read"):
        read_features(tmp_path)
    with (tmp_path / FEATURES).open("wb") as file:
        file.truncate(MAX_FEATURES_BYTES + 1)
    with pytest.raises(BundleError, match="at most 134217728 are read"):
        read_features(tmp_path)
