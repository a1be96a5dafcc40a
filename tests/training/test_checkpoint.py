import errno
import json
import logging
import os
import stat

import pytest
import torch

from recog.core.errors import CheckpointError, ConfigError, DiskError, TrainingError
from recog.training import checkpoint
from recog.training.checkpoint import Checkpoints, describe_versions, flatten_state, unflatten_state
from recog.training.config import CheckpointConfig

FACTS = {"config": {"optim": {"lr": 0.1}, "shape": (8, 8)}, "data": "sha256:0"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "checkpoints"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(checkpoint, "RETRY_PAUSES_S", (0.0, 0.0, 0.0))


def checkpoints_in(folder, facts=FACTS, **settings):
    return Checkpoints(folder, facts, CheckpointConfig(**settings))


def state_of(number):
    return {"weights": {"w": torch.full((3, 2), float(number))}, "rank": [number / 3, -1.5], "best": None}


def save(folder, *cursors, **settings):
    store = checkpoints_in(folder, **settings)
    for number, (epoch, step) in enumerate(cursors):
        store.save(state_of(number), epoch=epoch, step=step)
    return store


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_comes_back(folder):
    save(folder, (0, 3), (0, 10), (1, 0))
    loaded = checkpoints_in(folder).load_newest()
    assert (loaded.epoch, loaded.step, loaded.skipped) == (1, 0, ())
    assert loaded.path == folder / "epoch-00001-step-0000000.json"
    assert loaded.state["weights"]["w"].tolist() == [[2.0, 2.0]] * 3
    assert loaded.state["rank"] == [2 / 3, -1.5]
    assert describe_versions(loaded) is None


def test_two_are_kept_and_nothing_else_is_left(folder):
    save(folder, (0, 3), (0, 10), (1, 0))
    kept = ["epoch-00000-step-0000010", "epoch-00001-step-0000000"]
    assert names(folder) == [f"{stem}.{kind}" for stem in kept for kind in ("json", "safetensors")]
    save(folder, (1, 1), (1, 2), (1, 3), keep=3)
    assert len(names(folder)) == 6


def test_the_manifest_says_what_the_recipe_asks_for(folder):
    save(folder, (2, 5))
    manifest = json.loads((folder / "epoch-00002-step-0000005.json").read_bytes())
    tensors = folder / manifest["file"]
    assert (manifest["epoch"], manifest["step"], manifest["size"]) == (2, 5, tensors.stat().st_size)
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["facts"] == {"config": {"optim": {"lr": 0.1}, "shape": [8, 8]}, "data": "sha256:0"}
    assert manifest["format_version"] == 1


def test_files_have_the_mode_that_the_umask_gives(folder):
    before = os.umask(0o027)
    try:
        save(folder, (0, 1))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}


def test_no_checkpoint_is_no_error(folder):
    assert checkpoints_in(folder).load_newest() is None
    folder.mkdir(parents=True)
    (folder / "epoch-00000-step-0000003.safetensors").write_bytes(b"no manifest: it does not exist")
    assert checkpoints_in(folder).load_newest() is None


def test_a_damaged_one_is_skipped_with_its_reason_and_the_next_is_taken(folder):
    save(folder, (0, 3), (1, 0))
    path = folder / "epoch-00001-step-0000000.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    loaded = checkpoints_in(folder).load_newest()
    assert (loaded.epoch, loaded.step) == (0, 3)
    (skip,) = loaded.skipped
    assert skip.path == folder / "epoch-00001-step-0000000.json"
    assert "bytes instead of" in skip.reason


def test_a_skipped_one_does_not_count_among_those_kept(folder):
    """Else the damaged newest and the one just written would be the two, and the last good one before them gone."""
    store = save(folder, (0, 3), (1, 0))
    (folder / "epoch-00001-step-0000000.json").write_bytes(b"{}")
    store.load_newest()
    store.save(state_of(9), epoch=0, step=4)
    assert [path.name for path in sorted(folder.glob("*.json"))] == [
        "epoch-00000-step-0000003.json",
        "epoch-00000-step-0000004.json",
    ]


def test_all_damaged_is_an_error_that_names_file_cause_and_command(folder):
    save(folder, (0, 3), (1, 0))
    for path in folder.glob("*.json"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        checkpoints_in(folder).load_newest()
    message = str(caught.value)
    assert "epoch-00000-step-0000003.json is damaged" in message
    assert "epoch-00001-step-0000000.json is damaged" in message
    assert f"recog train --config {folder.parent / 'run.toml'}" in message


def test_other_settings_are_refused_and_named(folder):
    save(folder, (0, 3))
    other = {"config": {"optim": {"lr": 0.05}, "shape": (8, 8)}, "data": "sha256:1"}
    with pytest.raises(CheckpointError, match=r"config\.optim\.lr was 0\.1 and is 0\.05 now; data was 'sha256:0'"):
        checkpoints_in(folder, facts=other).load_newest()


def test_leftovers_of_a_killed_process_go(folder):
    save(folder, (0, 3))
    kept = names(folder)
    (folder / "epoch-00001-step-0000000.json.tmp-17").write_bytes(b"half")
    (folder / "epoch-00000-step-0000001.safetensors").write_bytes(b"whose manifest was removed")
    assert checkpoints_in(folder).load_newest().step == 3
    assert names(folder) == kept


def test_removing_leaves_no_folder(folder):
    store = save(folder, (0, 3))
    store.remove()
    assert not folder.exists()
    store.remove()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["tensor", "number"])
def test_what_is_not_finite_is_never_written(folder, bad, where):
    store = save(folder, (0, 3))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    state = state_of(1)
    if where == "tensor":
        state["weights"]["w"][2, 1] = bad
    else:
        state["rank"][1] = bad
    name = "weights/w" if where == "tensor" else "table/rank/1"
    with pytest.raises(TrainingError, match=f"'{name}' is not finite at epoch 1, step 7"):
        store.save(state, epoch=0, step=7)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_not_finite_weights_with_the_right_hash_are_refused(folder, monkeypatch):
    store = save(folder, (0, 3))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_first_not_finite", lambda tensors, values: None)
        store.save({"w": torch.tensor([1.0, float("nan")])}, epoch=1, step=0)
    loaded = store.load_newest()
    assert (loaded.epoch, loaded.step) == (0, 3)
    assert "holds 'w', which is not finite" in str(loaded.skipped[0])


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_failed_write_is_tried_three_times_again(folder, failures, monkeypatch, caplog):
    count = iter(range(failures))
    real = os.fsync

    def stutter(descriptor):
        if next(count, None) is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", stutter)
    with caplog.at_level(logging.WARNING):
        save(folder, (0, 3))
    assert len(caplog.records) == failures
    assert checkpoints_in(folder).load_newest().step == 3


def test_a_write_that_fails_for_good_says_so_and_leaves_the_others(folder, monkeypatch):
    store = save(folder, (0, 3))

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskError, match=r"epoch-00000-step-0000004.*No space left.*recog train --resume") as caught:
        store.save(state_of(1), epoch=0, step=4)
    assert caught.value.exit_code == 74
    assert store.load_newest().step == 3
    assert len(names(folder)) == 2


def test_an_old_one_that_cannot_be_removed_does_not_stop_training(folder, monkeypatch, caplog):
    store = save(folder, (0, 1), (0, 2))
    monkeypatch.setattr(
        type(folder), "unlink", lambda path, **_: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error"))
    )
    store.save(state_of(2), epoch=0, step=3)
    assert "cannot be removed: I/O error" in caplog.text
    assert store.load_newest().step == 3


def test_when_it_is_due(folder, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    store = checkpoints_in(folder, every_s=10.0, every_steps=4)
    assert [step for step in range(1, 9) if store.is_due(step)] == [4, 8]
    now[0] = 110.0
    assert store.is_due(1)
    store.save(state_of(0), epoch=0, step=1)
    assert not store.is_due(2)
    assert not store.is_due(2, epoch_ended=True)  # nothing much would be lost
    now[0] = 112.0
    assert store.is_due(2, epoch_ended=True)
    assert not store.is_due(2)


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"every_s": 0}, "every_s is 0"), ({"every_steps": 0}, "every_steps is 0"), ({"keep": 1}, "keep is 1")],
)
def test_settings_that_cannot_work_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        CheckpointConfig(**settings)


def test_another_version_is_named(folder):
    save(folder, (0, 3))
    loaded = checkpoints_in(folder).load_newest()
    older = {**loaded.versions, "torch": "2.10.0"}
    found = describe_versions(type(loaded)(**{**vars(loaded), "versions": older}))
    assert found == f"torch was '2.10.0' and is '{torch.__version__}' now"


@pytest.mark.timeout(10)  # a pipe that is opened to be read would wait for a writer for ever
@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "deep", "epoch"])
def test_a_manifest_of_another_kind_is_reported_as_unusable(tmp_path, kind):
    path, outside = tmp_path / "manifest.json", tmp_path / "outside.json"
    good = {"format_version": 1, "epoch": 1, "step": 2, "file": "f", "size": 3, "sha256": "s", "versions": {}}
    good |= {"facts": {}, "values": None, "digest": "d"}
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        outside.write_text(json.dumps(good))
        path.symlink_to(outside)
    elif kind == "folder":
        path.mkdir()
    elif kind == "deep":
        path.write_text(json.dumps(good).replace("null", "[" * 900 + "]" * 900))
    else:
        path.write_text(json.dumps(good | {"epoch": True}))
    reasons = {"pipe": "is a named pipe", "link": "is a symbolic link", "folder": "is a folder"}
    reasons |= {"deep": "nested more than 32 levels deep", "epoch": "epoch is true or false; expected a whole number"}
    with pytest.raises(checkpoint._Unusable, match=reasons[kind]):
        checkpoint._read_manifest(path)


def test_whole_numbers_beyond_64_bits_come_back(folder):
    """torch's CPU generator can be seeded with 2**64 - 1, and settings may hold such a seed."""
    checkpoints_in(folder).save({"seed": 2**64 - 1, "big": 3**200}, epoch=0, step=1)
    assert checkpoints_in(folder).load_newest().state == {"seed": 2**64 - 1, "big": 3**200}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_tensors_are_read_from_a_regular_file_only(folder, tmp_path, kind):
    save(folder, (0, 3))
    (tensors,) = folder.glob("*.safetensors")
    whole = tensors.rename(tmp_path / "whole")
    {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda path: path.symlink_to(whole)}[kind](tensors)
    what = {"pipe": "a named pipe", "folder": "a folder", "link": "a symbolic link"}[kind]
    with pytest.raises(CheckpointError, match=f"safetensors is {what}; expected a regular file"):
        checkpoints_in(folder).load_newest()


def test_removal_takes_what_is_in_the_folder_and_nothing_behind_links(folder, tmp_path):
    save(folder, (0, 3))
    (folder / "sub").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    (folder / "link").symlink_to(tmp_path / "mine")
    checkpoints_in(folder).remove()
    assert not folder.exists()
    folder.symlink_to(tmp_path / "mine")
    checkpoints_in(folder).remove()
    assert (tmp_path / "mine" / "file").exists()


def through_json(state):
    tensors, values = flatten_state(state)
    return unflatten_state(tensors, json.loads(json.dumps(values, allow_nan=False)))


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
        assert first.dtype == second.dtype
        assert first.stride() == second.stride()
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second


def test_every_kind_of_value_comes_back():
    state = {
        "weights": {"conv.weight": torch.randn(2, 3, 3, 3).to(memory_format=torch.channels_last)},
        "half": torch.randn(4).to(torch.bfloat16),
        "scalar": torch.tensor(3.0),
        "rng": torch.get_rng_state(),
        "transposed": torch.arange(6).reshape(2, 3).T,
        "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "nesterov": True, "foreach": None, "params": [0, 1]}],
        "state": {0: {"step": 7}, 10: {}},
        "empty": {},
        "name": "ümlaut/with/slashes",
        "tensor": {"tensor": torch.zeros(0), "table": "a word that is also a tag"},
        "third": 1 / 3,
    }
    assert_same(through_json(state), state)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_an_optimiser_goes_on_as_if_nothing_had_happened(kind):
    def made():
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        parameters = list(layer.parameters())
        if kind == "sgd":
            return layer, torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)
        return layer, torch.optim.Adam(parameters, lr=0.1, amsgrad=True)

    def step(layer, optimizer):
        optimizer.zero_grad()
        layer(torch.ones(2, 3, 5, 5)).square().sum().backward()
        optimizer.step()

    straight, resumed = made(), made()
    step(*straight)
    resumed[0].load_state_dict(through_json(straight[0].state_dict()))
    resumed[1].load_state_dict(through_json(straight[1].state_dict()))
    step(*straight)
    step(*resumed)
    for one, other in zip(straight[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(one, other)
    assert_same(resumed[1].state_dict(), straight[1].state_dict())


def test_the_tensors_are_copies():
    weights = torch.zeros(2)
    tensors, _ = flatten_state({"weights": weights})
    weights += 1
    assert tensors["weights"].tolist() == [0, 0]


def test_an_expanded_tensor_comes_back_by_value():
    found = through_json({"w": torch.tensor([1.0, 2.0])[:, None].expand(2, 3)})
    assert found["w"].tolist() == [[1, 1, 1], [2, 2, 2]]


def test_what_cannot_be_kept_is_named():
    with pytest.raises(TypeError, match="'a/1' holds set"):
        flatten_state({"a": [0, {1}]})
    with pytest.raises(TypeError, match="'a' has keys"):
        flatten_state({"a": {0: 1, "b": 2}})


@pytest.mark.parametrize(
    "values", [{"tensor": "other"}, {"pickle": "x"}, {"tensor": "a", "more": 1}, {"ints": {"x": 1}}]
)
def test_what_does_not_belong_together_is_refused(values):
    with pytest.raises((KeyError, ValueError)):
        unflatten_state({"a": torch.zeros(1)}, values)
