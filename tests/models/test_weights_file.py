"""Weights as other programs write them: each form gives the tensors of the network that was saved."""

import argparse
import collections
import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from small_models import build

from recog.core.errors import ConfigError
from recog.models.config import WEIGHTS_SUFFIXES
from recog.models.weights_file import fit_tensors, read_tensors

NAME = "resnet8"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def network(seed, *, num_classes=3):
    torch.manual_seed(seed)
    return build(NAME, num_classes=num_classes).classifier.network


def prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


FORMS = {  # name: (what is saved for a state dict `s` and another one `o`, the prefix that is found)
    "plain": (lambda s, o: s, ""),
    "OrderedDict": (lambda s, o: collections.OrderedDict(s), ""),
    "state_dict": (lambda s, o: {"state_dict": s, "epoch": 3, "best_acc": np.float64(0.5)}, "state_dict."),
    "model": (lambda s, o: {"model": s, "args": argparse.Namespace(lr=0.1, output=Path("out"))}, "model."),
    "model_state_dict": (
        lambda s, o: {"model_state_dict": s, "optimizer": {"state": {0: {"exp_avg": o}}}},
        "model_state_dict.",
    ),
    "DataParallel": (lambda s, o: prefixed(s, "module."), "module."),
    "compiled": (lambda s, o: {"model": prefixed(s, "_orig_mod.")}, "model._orig_mod."),
    "Lightning": (
        lambda s, o: {"state_dict": prefixed(s, "model."), "pytorch-lightning_version": "2.5"},
        "state_dict.model.",
    ),
    "backbone": (lambda s, o: {"state_dict": prefixed(s, "backbone.")}, "state_dict.backbone."),
    "student": (lambda s, o: {"student": prefixed(s, "backbone."), "epoch": 1}, "student.backbone."),
    "encoder": (lambda s, o: prefixed(s, "encoder."), "encoder."),
    "DINO": (
        lambda s, o: {"student": prefixed(o, "module.backbone."), "teacher": prefixed(s, "backbone.")},
        "teacher.backbone.",
    ),
    "averaged": (lambda s, o: {"model": o, "ema": s}, "ema."),
    "timm's averaged": (lambda s, o: {"state_dict": o, "state_dict_ema": s}, "state_dict_ema."),
}


@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
@pytest.mark.parametrize("form", FORMS)
def test_containers_and_prefixes(form, suffix, tmp_path):
    make, prefix = FORMS[form]
    state = network(1).state_dict()
    torch.save(make(state, network(2).state_dict()), tmp_path / f"w{suffix}")
    model = build(NAME, weights=str(tmp_path / f"w{suffix}"))
    loaded = model.classifier.network.state_dict()
    assert all(torch.equal(state[key], loaded[key]) for key in state)
    below = f", below '{prefix.rstrip('.')}'" if prefix else ""
    assert model.origin.source == f"file w{suffix}, {len(state)} tensors matched{below}"


@pytest.mark.parametrize("suffix", WEIGHTS_SUFFIXES)
def test_every_suffix(suffix, tmp_path):
    state = network(1).state_dict()
    save = save_file if suffix == ".safetensors" else torch.save
    save(state, tmp_path / f"w{suffix}")
    assert torch.equal(read_tensors(tmp_path / f"w{suffix}")["fc.weight"], state["fc.weight"])


def test_a_head_for_other_classes_is_dropped_and_named(tmp_path):
    torch.save({"model": network(1, num_classes=7).state_dict()}, tmp_path / "w.pth")
    source = build(NAME, weights=str(tmp_path / "w.pth")).origin.source
    assert source.endswith("tensors matched, below 'model', dropped: fc.bias, fc.weight")


def test_weights_of_another_network_are_refused_in_five_lines_at_most(tmp_path):
    state = network(1).state_dict()
    conv = next(key for key, value in state.items() if value.ndim == 4)
    others = {f"other\n{i}": torch.zeros(9) for i in range(9)}
    torch.save({**state, conv: torch.zeros(3, 3, 5, 5), **others}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="do not fit resnet8") as refusal:
        build(NAME, weights=str(tmp_path / "w.pth"))
    lines = str(refusal.value).split("\n  ")
    assert [line.partition(":")[0] for line in lines[1:-1]] == ["Other shapes", "Only in the file"]
    assert "\n" not in "".join(lines)
    assert len(lines) <= 5


def test_a_file_of_pytorchs_first_format(tmp_path):
    state = network(1).state_dict()
    torch.save({"state_dict": state}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert read_tensors(tmp_path / "w.pth").keys() == prefixed(state, "state_dict.").keys()


def test_safetensors_with_a_prefix(tmp_path):
    state = network(1).state_dict()
    save_file(prefixed(state, "model."), tmp_path / "w.safetensors")
    assert fit_tensors(read_tensors(tmp_path / "w.safetensors"), network(3)).prefix == "model."


def test_conversion_happens_once_for_each_content(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "w.pth")
    folder = tmp_path / "cache" / "recog" / "weights"
    read_tensors(tmp_path / "w.pth")
    (converted,) = folder.glob("*.safetensors")
    written = converted.stat().st_mtime_ns
    assert read_tensors(tmp_path / "w.pth")["a"].tolist() == [1, 1]
    assert converted.stat().st_mtime_ns == written
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pth")
    assert read_tensors(tmp_path / "w.pth")["a"].tolist() == [0, 0]


def test_a_part_that_is_missing_or_not_needed_is_named(tmp_path):
    """resnet8's first convolution has 3 x 3 x 3 x 16 of over 70,000 parameters: under 5 %."""
    state = network(1).state_dict()
    first = next(iter(state))
    without = {key: value for key, value in state.items() if key != first}
    torch.save({**without, "projector.weight": torch.zeros(9, 9)}, tmp_path / "w.pth")
    source = build(NAME, weights=str(tmp_path / "w.pth")).origin.source
    assert source == f"file w.pth, {len(without)} tensors matched, dropped: projector.weight, missing: {first}"


class Command:
    """Unpickled without care, it would run a command."""

    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


def test_no_code_of_a_file_runs(tmp_path):
    ran: list[str] = []
    for command in (Command(ran.append, "ran"), Command(os.mkdir, str(tmp_path / "made"))):
        torch.save({"state_dict": network(1).state_dict(), "extra": command}, tmp_path / "w.pth")
        with pytest.raises(ConfigError, match=r"w\.pth holds pickled objects \((builtins\.getattr|posix\.mkdir)\)"):
            read_tensors(tmp_path / "w.pth")
    assert ran == []
    assert not (tmp_path / "made").exists()


def test_a_pickled_module_is_refused_with_two_lines_that_convert_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = network(1)
    torch.save(saved, "whole.pt")
    with pytest.raises(ConfigError, match=r"whole\.pt holds pickled objects \(.*resnet.*reads weights only") as refusal:
        build(NAME, weights="whole.pt")
    exec("\n".join(line.strip() for line in str(refusal.value).splitlines()[1:]), {"torch": torch})
    loaded = build(NAME, weights="weights.pth").classifier.network.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in saved.state_dict().items())


def test_a_torchscript_program_is_refused_with_two_lines_that_convert_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = network(1).eval()
    torch.jit.trace(saved, torch.zeros(1, 3, 32, 32)).save("script.pt")
    with pytest.raises(ConfigError, match="a TorchScript program") as refusal:
        build(NAME, weights="script.pt")
    exec("\n".join(line.strip() for line in str(refusal.value).splitlines()[1:]), {"torch": torch})
    loaded = build(NAME, weights="weights.pth").classifier.network.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in saved.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a readable PyTorch file"),
        (b"hello", "is not a readable PyTorch file"),
        (b"PK\x03\x04" + bytes(50), "is not a readable PyTorch file"),
    ],
)
def test_a_damaged_file_is_refused(content, message, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_tensors(tmp_path / "w.pth")


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="holds no tensors; expected a network's state dict"):
        read_tensors(tmp_path / "w.pth")


def test_a_deeper_networks_weights_are_refused(tmp_path):
    """resnet34 has every name of resnet18, in the same shapes, and 9.6 million parameters more."""
    torch.save(timm.create_model("resnet34").state_dict(), tmp_path / "w.pth")
    message = r"do not fit resnet18: 100\.0% of its parameters[^$]*Only in the file: layer1\.2\."
    with pytest.raises(ConfigError, match=message):
        build("resnet18", weights=str(tmp_path / "w.pth"))
