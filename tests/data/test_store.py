import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from recog.core.errors import BadImage, DataError
from recog.core.preprocess import Preprocess
from recog.data.dataset import Dataset, Exclusion, Sample
from recog.data.store import (
    ChosenImages,
    ImageStore,
    describe_bad,
    exclude_bad,
    read_each,
    read_exact,
    read_images,
    read_larger,
    shrink_to_short_side,
)

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def smooth(height, width, channels):
    """A slow wave per channel, so that resizing in any order gives nearly the same."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [127 + 60 * np.sin(3 * x + c) + 60 * np.cos(2 * y - c) for c in range(channels)]
    return np.stack(waves, axis=2).round().astype(np.uint8)


def samples_of(images, label=0):
    return [Sample(name=f"{i:03d}", source=image, labels=(label,)) for i, image in enumerate(images)]


def test_chosen_images_are_those_of_the_store_in_their_order():
    images = [noise(4, 5, 3) for _ in range(6)]
    chosen = ChosenImages(ImageStore(images), np.array([5, 0, 2]))
    assert (len(chosen), chosen.one_shape) == (3, (4, 5, 3))
    np.testing.assert_array_equal(chosen.stack(np.array([2, 0])), np.stack([images[2], images[5]]))
    np.testing.assert_array_equal(chosen.rows()[1:3], np.stack([images[0], images[2]]))
    np.testing.assert_array_equal(chosen.fetch(np.array([1]))[0], images[0])
    pixels = np.concatenate([image.reshape(-1, 3) for image in (images[5], images[0], images[2])])
    np.testing.assert_array_equal(np.concatenate(list(chosen.pixel_blocks())), pixels)


class TestImageStore:
    def test_images_of_any_sizes_come_back(self):
        images = [noise(5, 7, 3), noise(1, 1, 3), noise(32, 8, 3)]
        store = ImageStore(images)
        assert len(store) == 3
        assert store.num_bytes == 5 * 7 * 3 + 3 + 32 * 8 * 3
        assert all((store[i] == image).all() and store[i].shape == image.shape for i, image in enumerate(images))

    def test_an_image_is_a_view_into_one_buffer_and_a_copy_of_what_was_given(self):
        image = noise(4, 4, 1)
        store = ImageStore([image, image])
        assert np.shares_memory(store[0], store[0])
        assert np.shares_memory(store[1], store.stack())
        assert not np.shares_memory(store[0], store[1])
        assert not np.shares_memory(store[0], image)

    def test_an_image_in_another_memory_order_is_stored_as_it_looks(self):
        image = noise(6, 4, 3)
        mirrored = image[:, ::-1]
        assert (ImageStore([mirrored])[0] == mirrored).all()
        assert (ImageStore([image.transpose(1, 0, 2)])[0] == image.transpose(1, 0, 2)).all()

    def test_stack_gives_all_without_a_copy_or_those_asked_for_in_their_order(self):
        images = noise(6, 3, 5, 3)
        store = ImageStore(list(images))
        assert store.one_shape == (3, 5, 3)
        assert (store.stack() == images).all()
        assert np.shares_memory(store.stack(), store[0])
        chosen = np.array([4, 0, 4])
        assert (store.stack(chosen) == images[chosen]).all()
        assert not np.shares_memory(store.stack(chosen), store[4])  # so that augmenting cannot change the store

    def test_images_of_several_sizes_have_no_one_shape(self):
        store = ImageStore([noise(3, 4, 3), noise(4, 3, 3)])
        assert store.one_shape is None
        with pytest.raises(DataError, match="several sizes cannot be stacked"):
            store.stack()

    def test_an_empty_store_is_empty(self):
        store = ImageStore([])
        assert (len(store), store.num_bytes, store.one_shape) == (0, 0, None)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_channel_statistics_are_numpys_over_all_pixels(self, channels):
        """Every pixel counts once, whatever the size of its image: the second method joins all pixels in float64."""
        images = [noise(5, 7, channels), noise(11, 2, channels) // 2, noise(1, 1, channels)]
        pixels = np.concatenate([image.reshape(-1, channels) for image in images]) / 255
        means, deviations = ImageStore(images).channel_statistics()
        assert means == pytest.approx(pixels.mean(axis=0), abs=6e-7)  # six digits
        assert deviations == pytest.approx(pixels.std(axis=0), abs=6e-7)

    def test_channel_statistics_by_hand(self):
        """Red 0 and 255: mean 1/2, deviation 1/2. Green 51 = 0.2 everywhere: no deviation, so the floor of 0.001."""
        image = np.array([[[0, 51, 255], [255, 51, 255]]], np.uint8)
        means, deviations = ImageStore([image]).channel_statistics()
        assert means == (0.5, 0.2, 1.0)
        assert deviations == (0.5, 0.001, 0.001)


class TestReaders:
    def test_exact_is_preprocess_itself(self, tmp_path):
        path = tmp_path / "1.png"
        Image.fromarray(smooth(60, 40, 3)).save(path)
        preprocess = Preprocess(image_size=(32, 32), crop_pct=0.9)
        image = read_exact(preprocess)(Sample(name="cat/1.png", source=path, labels=(0,)))
        assert (image == preprocess.read(path)).all()
        assert image.shape == (32, 32, 3)

    @pytest.mark.parametrize("make", [read_exact, read_larger])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_arrays_take_the_same_way_as_files(self, tmp_path, make, channels):
        pixels = smooth(64, 48, channels).squeeze()
        path = tmp_path / "1.png"
        Image.fromarray(pixels).save(path)
        read = make(Preprocess(image_size=(24, 24), channels=channels))
        from_file, from_array = (read(Sample(name="x", source=source, labels=(0,))) for source in (path, pixels))
        assert (from_file == from_array).all()

    @pytest.mark.parametrize("make", [read_exact, read_larger])
    def test_a_bad_file_is_called_by_its_name_in_the_data(self, tmp_path, make):
        path = tmp_path / "1.png"
        path.write_bytes(b"")
        with pytest.raises(BadImage) as caught:
            make(Preprocess(image_size=(24, 24)))(Sample(name="cat/1.png", source=path, labels=(0,)))
        assert caught.value.name == "cat/1.png"

    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ((230, 460), (115, 230)),  # 1.15 x 100 on the short side, the aspect kept
            ((460, 230), (230, 115)),
            ((115, 300), (115, 300)),  # already there
            ((60, 300), (60, 300)),  # smaller stays: nothing is enlarged
            ((230, 231), (115, 116)),  # 115.5 rounds to even
        ],
    )
    def test_larger_keeps_the_whole_image_at_115_percent_of_the_networks_side(self, size, expected):
        read = read_larger(Preprocess(image_size=(100, 100)))
        assert read(Sample(name="x", source=noise(*size, 3), labels=(0,))).shape == (*expected, 3)

    def test_larger_looks_at_the_longer_side_of_the_networks_image(self):
        read = read_larger(Preprocess(image_size=(50, 100)))
        assert read(Sample(name="x", source=noise(400, 400, 3), labels=(0,))).shape == (115, 115, 3)


class TestReadEach:
    # 2 * 40 px (exact) and 2 * 46 px (larger) may stay: a side of 160 to 183 px is halved for exact alone, from 320 px on
    # both are reduced, from 320 to 367 by 4 and by 2
    @pytest.mark.parametrize(("side", "num_decodes"), [(60, 1), (159, 1), (170, 2), (200, 1), (340, 2), (400, 1)])
    @pytest.mark.parametrize("suffix", ["jpg", "png"])
    def test_gives_the_pixels_of_each_reader_from_one_decode_where_it_can(
        self, tmp_path, monkeypatch, side, num_decodes, suffix
    ):
        path = tmp_path / f"1.{suffix}"
        Image.fromarray(smooth(side, side + 30, 3)).save(path)
        preprocess = Preprocess(image_size=(40, 40), crop_pct=1.0)
        sample, readers = Sample(name="x", source=path, labels=(0,)), [read_exact(preprocess), read_larger(preprocess)]
        alone = [read(sample) for read in readers]
        decoded, decode = [], Preprocess.decode
        monkeypatch.setattr(Preprocess, "decode", lambda *a, **k: decoded.append(k["name"]) or decode(*a, **k))
        together = read_each(sample, readers)
        assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))
        if suffix == "jpg":
            assert len(decoded) == num_decodes


class TestShrink:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_shows_the_same_picture(self, channels):
        """A wave sampled more coarsely is the same wave: compared with the one drawn at the small size."""
        small = shrink_to_short_side(smooth(160, 240, channels), 40)
        assert small.shape == (40, 60, channels)
        inside = (slice(2, -2), slice(2, -2))
        drawn = smooth(40, 60, channels)
        # at most 60 x 3 / 60 = 3 levels a pixel in x, 60 x 2 / 40 = 3 in y; both grids are half a pixel apart at the border
        assert np.abs(small[inside].astype(int) - drawn[inside]).max() <= 4

    @pytest.mark.parametrize("channels", [1, 3])
    def test_is_pillows_bicubic(self, channels):
        image = noise(50, 30, channels)
        planes = [Image.fromarray(image[:, :, c]).resize((15, 25), Image.Resampling.BICUBIC) for c in range(channels)]
        assert (shrink_to_short_side(image, 15) == np.stack([np.asarray(p) for p in planes], axis=2)).all()

    def test_long_and_thin_keeps_a_pixel(self):
        assert shrink_to_short_side(noise(1000, 3, 3), 2).shape == (667, 2, 3)
        assert shrink_to_short_side(noise(1, 9, 3), 1).shape == (1, 9, 3)


class TestReadImages:
    def test_results_come_in_the_order_of_the_samples_whoever_ends_first(self):
        def read(sample):
            time.sleep(0.002 * (7 - int(sample.name) % 8))  # the first of each eight are the slowest
            return np.full((1, 1, 1), int(sample.name), np.uint8)

        images = list(read_images(samples_of([None] * 24), read, num_threads=8))
        assert [int(image[0, 0, 0]) for image in images] == list(range(24))

    def test_a_bad_image_stands_in_its_place_and_the_others_are_read(self):
        def read(sample):
            if sample.name in ("001", "004"):
                raise BadImage(sample.name, "the file is empty", "Replace it.")
            return sample.source

        images = noise(6, 2, 2, 3)
        results = list(read_images(samples_of(images), read, num_threads=2))
        assert [isinstance(result, BadImage) for result in results] == [False, True, False, False, True, False]
        assert [results[i].name for i in (1, 4)] == ["001", "004"]
        assert all((results[i] == images[i]).all() for i in (0, 2, 3, 5))

    def test_any_other_error_is_ours_and_is_raised(self):
        def read(sample):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            list(read_images(samples_of([None] * 3), read, num_threads=2))

    def test_several_threads_read(self):
        meeting = threading.Barrier(3, timeout=10)  # passed only when three are in it at once
        assert len(list(read_images(samples_of([None] * 3), lambda _: meeting.wait() or 1, num_threads=3))) == 3

    def test_what_takes_no_time_is_read_by_the_caller_once_that_is_known(self):
        """The first eight are handed to two threads, which tells their times."""
        threads = list(read_images(samples_of([None] * 40), lambda _: threading.get_ident(), num_threads=2))
        own = [thread == threading.get_ident() for thread in threads]
        assert own == [False] * 8 + [True] * 32

    def test_stopping_early_does_not_read_the_rest(self):
        seen = []

        def read(sample):
            seen.append(sample.name)
            time.sleep(0.01)
            return sample.source

        results = read_images(samples_of([None] * 500), read, num_threads=2)
        next(results)
        results.close()
        assert len(seen) < 20

    def test_no_samples_no_results(self):
        assert list(read_images([], lambda sample: sample, num_threads=2)) == []


class TestExcludeBad:
    def data(self, num_images):
        earlier = (Exclusion(name="notes.txt", reason="not an image file"),)
        return Dataset(
            name="pets",
            layout="test",
            class_names=("cat", "dog"),
            samples=tuple(samples_of([None] * num_images)),
            exclusions=earlier,
        )

    def bad(self, count):
        return [BadImage(f"{i:03d}", "the file is empty", "Replace it.") for i in range(count)]

    @pytest.mark.parametrize("policy", ["auto", "skip", "error", "quarantine"])
    def test_nothing_bad_changes_nothing(self, policy):
        data = self.data(3)
        assert exclude_bad(data, [], policy=policy) is data

    def test_skip_names_and_counts_what_it_leaves_out(self):
        data = exclude_bad(self.data(200), self.bad(2), policy="skip")
        assert len(data.samples) == 198
        assert {sample.name for sample in data.samples}.isdisjoint({"000", "001"})
        assert [(e.name, e.reason) for e in data.exclusions] == [
            ("notes.txt", "not an image file"),
            ("000", "the file is empty"),
            ("001", "the file is empty"),
        ]

    @pytest.mark.parametrize(("num_bad", "num_images"), [(1, 60), (3, 5), (3, 299), (3, 301), (4, 400), (50, 5000)])
    def test_auto_leaves_out_the_larger_of_one_percent_and_three(self, num_bad, num_images):
        data = exclude_bad(self.data(num_images), self.bad(num_bad), policy="auto")
        assert len(data.samples) == num_images - num_bad

    @pytest.mark.parametrize(("num_bad", "num_images"), [(4, 399), (4, 8), (51, 5000), (50, 50)])
    def test_auto_stops_at_more_and_names_the_option_that_skips_them(self, num_bad, num_images):
        with pytest.raises(DataError) as caught:
            exclude_bad(self.data(num_images), self.bad(num_bad), policy="auto")
        message = str(caught.value)
        assert (
            f"{num_bad} of {num_images:,} files of pets cannot be used (more than 1% of all and more than 3)" in message
        )
        assert "Or leave them out: --bad-images skip" in message
        assert message.count("Replace it.") == 1

    @pytest.mark.parametrize("policy", ["skip", "quarantine"])
    def test_what_was_asked_for_has_no_limit(self, policy):
        assert len(exclude_bad(self.data(60), self.bad(59), policy=policy).samples) == 1

    def test_policy_error_takes_none_and_names_it(self):
        with pytest.raises(DataError) as caught:
            exclude_bad(self.data(1000), self.bad(1), policy="error")
        message = str(caught.value)
        assert "1 of 1,000 files of pets cannot be used (--bad-images error)" in message
        assert message.endswith("  000: the file is empty\n  Replace it.")
        assert "more" not in message

    def test_a_warning_counts_what_is_left_out(self):
        assert describe_bad(0, 60) == []
        assert describe_bad(1, 60) == [
            "of 60 images 1 file is unusable and is left out; --bad-images error stops instead"
        ]
        assert describe_bad(1200, 6000)[0].startswith("of 6,000 images 1,200 files are unusable and are left out")

    def test_of_many_the_first_ten_are_listed_and_the_rest_counted(self):
        with pytest.raises(DataError) as caught:
            exclude_bad(self.data(100), self.bad(13), policy="error")
        assert str(caught.value).count("the file is empty") == 10
        assert "and 3 more" in str(caught.value)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=8), st.sampled_from([1, 3]))
def test_any_sizes_are_stored_whole(sizes, channels):
    images = [noise(height, width, channels) for height, width in sizes]
    store = ImageStore(images)
    assert all((store[i] == image).all() for i, image in enumerate(images))
    assert (store.one_shape is not None) == (len(set(sizes)) == 1)
