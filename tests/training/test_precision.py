import pytest
import torch
from small_models import build

from recog.training.device import autocast
from recog.training.distributed import World
from recog.training.precision import PrecisionTrial, choose_precision, try_bfloat16


@pytest.mark.parametrize(
    ("float32_ms", "bfloat16_ms", "cosine", "expected"),
    [
        (20, 10, 0.99, "bfloat16"),
        (10.9, 10, 0.99, "float32"),  # a tenth faster is asked for
        (10, 40, 0.99, "float32"),  # a slow path
        (20, 10, 0.01, "float32"),  # fast and wrong
        (20, 10, float("nan"), "float32"),
    ],
)
def test_bfloat16_has_to_be_faster_and_right(float32_ms, bfloat16_ms, cosine, expected):
    trial = PrecisionTrial(float32_ms=float32_ms, bfloat16_ms=bfloat16_ms, gradient_cosine=cosine)
    assert trial.precision == expected
    assert str(trial).startswith(f"precision {expected}: ")


@pytest.mark.parametrize(
    ("candidate", "num_images", "expected"),
    [("bfloat16", 9_000, "float32"), ("bfloat16", 10_000, "bfloat16"), ("float32", 10_000, "float32")],
)
def test_short_trainings_are_not_timed(monkeypatch, candidate, num_images, expected):
    """10,000 images of 32 x 32 are 10.24 million pixels."""
    fast = PrecisionTrial(float32_ms=20, bfloat16_ms=10, gradient_cosine=1.0)
    monkeypatch.setattr("recog.training.precision.try_bfloat16", lambda *_, **__: fast)
    model = build("fastnet32", image_size=(32, 32))
    precision, notes = choose_precision(
        model.classifier,
        model.preprocess,
        candidate=candidate,
        batch_size=4,
        num_images=num_images,
        world=World(),
    )
    assert precision == expected
    assert notes == ([str(fast)] if expected == "bfloat16" else [])


def test_a_trial_leaves_the_network_and_torchs_chance_as_they_were():
    classifier = build("fastnet32", image_size=(16, 16)).classifier
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    chance, modes = torch.get_rng_state(), [module.training for module in classifier.modules()]
    trial = try_bfloat16(classifier, image_size=(16, 16), channels=3, batch_size=8)
    assert torch.equal(torch.get_rng_state(), chance)
    assert [module.training for module in classifier.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert trial.gradient_cosine > 0.9
    assert min(trial.float32_ms, trial.bfloat16_ms) > 0


def test_wrong_gradients_in_bfloat16_are_found():
    """A kernel that is wrong in bfloat16 alone: the first convolution mixes up the images of its batch."""
    classifier = build("resnet8", image_size=(8, 8)).classifier

    def mix_up(module, args, output):
        wrong = torch.is_autocast_enabled("cpu")
        return output.flip(0) if wrong else output

    classifier.network.conv1.register_forward_hook(mix_up)
    assert torch.is_autocast_enabled("cpu") is False
    with autocast(torch.device("cpu"), "bfloat16"):
        assert torch.is_autocast_enabled("cpu")
    trial = try_bfloat16(classifier, image_size=(8, 8), channels=3, batch_size=32)
    assert trial.gradient_cosine < 0.8
    assert trial.precision == "float32"
