from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recog.models.classifier import Classifier
from recog.models.networks.resnet import resnet8
from recog.runs.journal import Board


def classifier():
    torch.manual_seed(0)
    return Classifier(resnet8(num_classes=3, in_chans=1), mean=(0.5,), std=(0.25,))


@pytest.fixture
def board(tmp_path):
    board = Board(tmp_path)
    yield board
    board.close()


def events_in(board, folder):
    board.close()
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0})
    events.Reload()
    return events


def test_numbers_are_scalars_and_text_is_not(board, tmp_path):
    board.scalars("epoch", 3, {"loss": 0.5, "epoch": 3, "measure": "val_nll"})
    events = events_in(board, tmp_path)
    assert sorted(events.Tags()["scalars"]) == ["epoch/epoch", "epoch/loss"]
    (scalar,) = events.Scalars("epoch/loss")
    assert (scalar.step, scalar.value) == (3, 0.5)


def test_speed_is_known_from_the_second_step_on(board, tmp_path, monkeypatch):
    times = iter([10.0, 12.0, 12.5])
    monkeypatch.setattr("recog.runs.journal.time.perf_counter", lambda: next(times))
    for step in (1, 2, 3):
        board.speed(step, 64)
    speeds = events_in(board, tmp_path).Scalars("step/images_per_s")
    assert [(s.step, s.value) for s in speeds] == [(2, 32.0), (3, 128.0)]


def test_pictures_and_weights(board, tmp_path):
    images = np.zeros((4, 8, 8, 1), dtype=np.uint8)
    board.batch(images, 1)
    board.confusion(np.eye(3, dtype=np.int64), ["a", "b", "c"], 1)
    network = classifier()
    board.weights(network, 1)
    events = events_in(board, tmp_path)
    assert sorted(events.Tags()["images"]) == ["batch/as_the_network_sees_it", "val/confusion_true_class_by_row"]
    names = {f"weights/{name.replace('.', '/')}" for name, _ in network.network.named_parameters()}
    assert set(events.Tags()["histograms"]) == names
    (histogram,) = events.Histograms("weights/fc/weight")
    weight = network.classifier.weight.detach()
    assert histogram.histogram_value.num == weight.numel()
    assert histogram.histogram_value.max == pytest.approx(weight.max().item())


def test_the_graph_changes_neither_the_network_nor_chance(board, tmp_path):
    network = classifier().train()
    network.network.bn1.eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    chance = torch.get_rng_state()
    board.graph(network, np.zeros((4, 8, 8, 1), dtype=np.uint8))
    assert torch.equal(torch.get_rng_state(), chance)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert events_in(board, tmp_path).Tags()["graph"]


def test_a_graph_that_cannot_be_drawn_raises_and_prints_nothing(board, capfd):
    class Undrawable(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, images):
            return {"not": [object()]}

    with pytest.raises(RuntimeError):
        board.graph(Undrawable(), np.zeros((1, 8, 8, 1), dtype=np.uint8))
    assert capfd.readouterr().out == ""


def test_settings_and_outcome(board, tmp_path):
    table = {"seed": 0, "optim": {"lr": 0.1, "betas": [0.9, 0.99]}, "recipe": "scratch"}
    table |= {"data": {"source": "a"}, "augment": {"mixup": 0.2, "cutmix": 0.0}}
    board.settings("[optim]\nlr = 0.1")
    board.outcome(table, {"val_accuracy": 0.75})
    events = events_in(board, tmp_path)
    assert events.Scalars("outcome/val_accuracy")[0].value == 0.75
    (written,) = [m for m in map(Path.read_bytes, tmp_path.iterdir()) if b"_hparams_/experiment" in m]
    assert [name in written for name in (b"optim.lr", b"augment.mixup", b"augment.cutmix", b"data.source")] == [
        True,
        True,
        False,
        False,
    ]
    text = events.Tensors("run.toml/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "lr = 0.1" in text


def test_a_board_without_use_writes_nothing(tmp_path):
    Board(tmp_path / "tensorboard").close()
    assert not (tmp_path / "tensorboard").exists()
