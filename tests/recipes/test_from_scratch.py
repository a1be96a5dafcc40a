import pytest

from recog.models.config import ModelConfig
from recog.recipes.from_scratch import choose_network, scratch_defaults, suited_threads


@pytest.mark.parametrize(
    ("shortest_side", "num_images", "is_grey", "expected"),
    [
        (8, 50_000, True, "resnet8"),  # a fast network halves the image four times
        (32, 1000, False, "resnet8"),
        (28, 50_000, True, "fastnet32"),
        (32, 10_000, False, "fastnet32"),
        (32, 45_000, False, "fastnet32_wide"),
    ],
)
def test_the_network_follows_size_number_and_channels(shortest_side, num_images, is_grey, expected):
    assert choose_network(shortest_side=shortest_side, num_images=num_images, is_grey=is_grey)[0] == expected


def test_a_fast_network_sees_as_many_images_in_fewer_epochs():
    epochs = {n: scratch_defaults("fastnet32", num_images=n, optimizer=None).epochs for n in (2000, 20_000, 200_000)}
    assert epochs == {2000: 60, 20_000: 30, 200_000: 12}


def test_settings_of_a_fast_network_are_for_its_own_optimiser():
    assert scratch_defaults("fastnet32", num_images=9000, optimizer=None).optim.normalise_filters
    by_sgd = scratch_defaults("fastnet32", num_images=9000, optimizer="sgd")
    other = scratch_defaults("resnet8", num_images=9000, optimizer="sgd")
    assert by_sgd == other
    assert (other.optim.lr, other.epochs, other.batch_size) == (0.1, 40, 64)


def test_the_rate_of_a_fast_network_falls_with_the_steps_and_rises_with_the_epochs():
    """In steps of 512 images: one epoch of 9,000 has 18 steps, so the highest rate; five of 45,000 have 439, and 2.4 over their
    root is 0.1145; twelve have 1,055, whose 0.0739 is below 12 / 100; of sixty the highest again.
    """
    runs = ((9000, 1), (45_000, 5), (45_000, 12), (9000, 60))
    found = [scratch_defaults("fastnet32", num_images=n, optimizer=None, epochs=epochs).optim for n, epochs in runs]
    assert [round(optim.lr, 4) for optim in found] == [0.24, 0.1145, 0.12, 0.24]
    for optim in found:  # what is left to AdamW keeps its rates
        assert optim.lr * optim.bias_lr_factor == pytest.approx(0.02)
        assert optim.lr * optim.head_lr_factor == pytest.approx(0.005)


def test_only_what_a_fast_network_can_halve_four_times_begins_smaller():
    sizes = {
        side: scratch_defaults("fastnet32", num_images=9000, optimizer=None, shortest_side=side) for side in (12, 32)
    }
    assert [found.small_fraction for found in sizes.values()] == [0.0, 0.6]


@pytest.mark.parametrize(("recipe", "side", "expected"), [("scratch", 8, 1), ("scratch", 32, 4), ("head", 8, 4)])
def test_tiny_images_are_trained_on_by_one_thread(recipe, side, expected):
    assert suited_threads(ModelConfig(image_size=(side, side)), recipe, 4) == expected
