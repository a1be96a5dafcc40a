import pytest
import torch
from small_models import build

from recog.core.errors import ConfigError
from recog.training.device import (
    PrecisionTrial,
    autocast,
    build_scaler,
    check_precision,
    choose_device,
    choose_precision,
    has_bfloat16,
    move,
    try_bfloat16,
)
from recog.training.distributed import World

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many GPUs, as torch would describe it; none of them is touched."""

    def have(num_gpus):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)

    return have


def test_auto_takes_a_gpu_where_there_is_one(machine):
    machine(0)
    assert choose_device("auto") == choose_device("cpu") == CPU
    machine(2)
    assert choose_device("auto") == torch.device("cuda", 0)
    assert choose_device("cuda", local_rank=1) == torch.device("cuda", 1)
    assert choose_device("cpu", local_rank=1) == CPU


def test_a_gpu_that_is_not_there_is_refused(machine):
    machine(0)
    with pytest.raises(ConfigError, match=r"compute\.device is cuda, but torch finds no usable GPU .*--device auto"):
        choose_device("cuda")
    machine(1)
    with pytest.raises(ConfigError, match="this machine has 1 GPUs, and process 2 needs its own"):
        choose_device("auto", local_rank=1)


def test_float16_is_for_gpus():
    check_precision(GPU, "float16")
    check_precision(CPU, "bfloat16")
    with pytest.raises(ConfigError, match=r"compute\.precision is float16, which needs a GPU"):
        check_precision(CPU, "float16")


def test_bfloat16_is_asked_of_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert has_bfloat16(CPU)
    assert not has_bfloat16(GPU)


def test_autocast_computes_in_the_precision_that_is_named():
    a = torch.ones(2, 2)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        with autocast(CPU, precision):
            assert (a @ a).dtype == dtype


def test_the_loss_is_scaled_in_float16_alone():
    weight = torch.nn.Parameter(torch.tensor(2.0))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    scaler = build_scaler("bfloat16")
    assert not scaler.is_enabled()
    scaler.scale(3 * weight).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert weight.item() == 0.5  # 2 - 0.5 * 3


def test_moving_to_where_it_is_copies_nothing():
    tensor = torch.ones(3)
    assert move(tensor, CPU) is tensor


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_training_on_a_gpu(precision, tmp_path):
    """The whole run on a GPU: device, precision, pinned batches, and a bundle whose ONNX file answers alike on the CPU."""
    from recog.recipes.config import ComputeConfig, DataConfig, TrainConfig
    from recog.training.config import OptimConfig
    from recog.verbs.run import Run
    from recog.verbs.train import train_events

    config = TrainConfig(
        data=DataConfig(source="digits"),
        optim=OptimConfig(epochs=3),
        compute=ComputeConfig(device="cuda", precision=precision, num_threads=1),
    )
    *events, last = train_events(config, name="gpu", runs=tmp_path)
    assert isinstance(last, Run)
    assert any("training on" in event.text for event in events if hasattr(event, "text"))
    assert 'device = "cuda"' in (last.folder / "run.toml").read_text()
    assert last.report.accuracy.value > 0.8
    images = torch.zeros(4, 8, 8, 1, dtype=torch.uint8).pin_memory()
    assert move(images, choose_device("auto")).is_cuda


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
    monkeypatch.setattr("recog.training.device.try_bfloat16", lambda *_, **__: fast)
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
