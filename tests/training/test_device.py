import pytest
import torch

from recog.core.errors import ConfigError
from recog.training.device import autocast, build_scaler, check_precision, choose_device, has_bfloat16, move

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
