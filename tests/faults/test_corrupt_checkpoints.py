"""200 ways to damage the newest checkpoint: each is found, named, and the one before it taken; none is ever loaded."""

from __future__ import annotations

import json
import random
import shutil

import pytest
import torch
from safetensors.torch import load, save

from recog.core.errors import CheckpointError
from recog.core.files import canonical_json, pretty_json, sha256_bytes
from recog.training.checkpoint import Checkpoints
from recog.training.config import CheckpointConfig

FACTS = {"config": {"optim": {"lr": 0.1, "momentum": 0.9}, "model": {"name": "small"}}, "data": "sha256:0"}
OLDER, NEWEST = "epoch-00000-step-0000008", "epoch-00001-step-0000000"


def checkpoints_in(folder):
    return Checkpoints(folder, FACTS, CheckpointConfig())


def state_of(seed):
    """A convolution and a linear layer with their SGD momentum and random state, as training keeps them."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 3))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.randn(2, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    return {
        "weights": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "best": {"rank": [0.5, -0.7], "epoch": 1},
    }


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "checkpoints"
    store = checkpoints_in(folder)
    store.save(state_of(0), epoch=0, step=8)
    store.save(state_of(1), epoch=1, step=0)
    return folder


def flip_bit(name, rng, folder):
    data = bytearray((folder / name).read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    (folder / name).write_bytes(data)


def zero_fill(name, rng, folder):
    data = bytearray((folder / name).read_bytes())
    start = rng.randrange(len(data) - 64)
    data[start : start + 64] = bytes(64)
    (folder / name).write_bytes(data)


def truncate(name, length, folder):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: length if length is not None else len(data) // 2])


def append(name, rng, folder):
    with (folder / name).open("ab") as file:
        file.write(rng.randbytes(rng.randint(1, 99)))


def swap(suffix, folder):
    older, newest = (folder / f"{stem}.{suffix}" for stem in (OLDER, NEWEST))
    newest.write_bytes(older.read_bytes())


def rewrite(change, folder):
    """The manifest with `change` made and its digest set right: what no accident does."""
    path = folder / f"{NEWEST}.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    del manifest["digest"]
    manifest["digest"] = sha256_bytes(canonical_json(manifest))
    path.write_bytes(pretty_json(manifest))


def other_tensors(change, folder):
    """Other tensors under a manifest that vouches for them."""
    path = folder / f"{NEWEST}.safetensors"
    tensors = load(path.read_bytes())
    change(tensors)
    data = save(tensors)
    path.write_bytes(data)
    rewrite(lambda manifest: manifest.update(size=len(data), sha256=sha256_bytes(data)), folder)


def no_safetensors(folder):
    (folder / f"{NEWEST}.safetensors").write_bytes(b"not at all")
    rewrite(lambda manifest: manifest.update(size=10, sha256=sha256_bytes(b"not at all")), folder)


def set_bad(value):
    return lambda tensors: tensors["weights/2.weight"].__setitem__((0, 0), value)


def mutations():
    for suffix, flips in (("safetensors", 55), ("json", 75)):
        name = f"{NEWEST}.{suffix}"
        for seed in range(flips):
            yield f"bit {seed} of {suffix}", lambda folder, n=name, s=seed: flip_bit(n, random.Random(s), folder)
        for seed in range(15):
            yield f"zeros {seed} in {suffix}", lambda folder, n=name, s=seed: zero_fill(n, random.Random(s), folder)
        for seed in range(5):
            yield f"{seed} appended to {suffix}", lambda folder, n=name, s=seed: append(n, random.Random(s), folder)
        for length in (0, 1, 8, None, -1, -2):
            yield f"{suffix} cut at {length}", lambda folder, n=name, k=length: truncate(n, k, folder)
        yield f"{suffix} of the other", lambda folder, s=suffix: swap(s, folder)
        yield f"{suffix} a folder", lambda folder, n=name: ((folder / n).unlink(), (folder / n).mkdir())
    yield "tensors gone", lambda folder: (folder / f"{NEWEST}.safetensors").unlink()
    for version in (2, 99):
        yield f"version {version}", lambda folder, v=version: rewrite(lambda m: m.update(format_version=v), folder)
    yield "other network", lambda f: rewrite(lambda m: m["facts"]["config"]["model"].update(name="large"), f)
    yield "other data", lambda folder: rewrite(lambda m: m["facts"].update(data="sha256:1"), folder)
    yield "other cursor", lambda folder: rewrite(lambda m: m.update(step=3), folder)
    for bad in ("nan", "inf", "-inf"):
        yield f"{bad} weights", lambda folder, b=bad: other_tensors(set_bad(float(b)), folder)
    yield "a tensor short", lambda folder: other_tensors(lambda tensors: tensors.pop("weights/0.bias"), folder)
    yield "no safetensors", no_safetensors
    yield "an unknown entry", lambda folder: rewrite(lambda m: m["values"].update(pickle="x"), folder)
    yield "no object", lambda folder: (folder / f"{NEWEST}.json").write_text("[1]")
    yield "deep", lambda folder: (folder / f"{NEWEST}.json").write_text("[" * 200_000)


CASES = list(mutations())


def test_there_are_two_hundred():
    assert len(CASES) >= 200


@pytest.mark.parametrize("damage", [case for _, case in CASES], ids=[name for name, _ in CASES])
def test_the_one_before_it_is_taken(damage, sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "run" / "checkpoints")
    damage(folder)
    loaded = checkpoints_in(folder).load_newest()
    assert (loaded.epoch, loaded.step) == (0, 8)
    assert torch.equal(loaded.state["weights"]["0.weight"], state_of(0)["weights"]["0.weight"])
    (skip,) = loaded.skipped
    assert skip.path == folder / f"{NEWEST}.json"
    for path in folder.glob(f"{OLDER}.*"):
        path.unlink()
    with pytest.raises(CheckpointError) as caught:
        checkpoints_in(folder).load_newest()
    message = str(caught.value)
    assert f"{skip.path} {skip.reason}" in message  # the file and the cause
    assert f"recog train --config {tmp_path / 'run' / 'run.toml'}" in message  # the command


@pytest.mark.parametrize("value", [None, "text", -1])
@pytest.mark.parametrize("field", ["format_version", "epoch", "file", "size", "sha256", "versions", "facts"])
def test_a_field_of_another_type_is_refused(field, value, sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "checkpoints")
    rewrite(lambda manifest: manifest.update({field: value}), folder)
    assert checkpoints_in(folder).load_newest().step == 8
