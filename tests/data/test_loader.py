from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import re
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_training import hash_of, loader, lr_at, made
from torch.utils.data import DataLoader, Dataset

from recog.core.errors import ConfigError, DataError
from recog.data import loader as module
from recog.data.augment.batch import AugmentConfig
from recog.data.loader import TrainLoader, batches_with_restarts, share
from recog.data.store import ImageStore
from recog.recipes.config import LoaderConfig
from recog.training.fit import StepLog, fit

NUM_IMAGES = 26
AUGMENT = AugmentConfig(policy="standard", geometry="warp", mirror=True)
UNTOUCHED = AugmentConfig(policy="none", mirror=False)


@pytest.fixture(scope="module")
def store():
    """Image i is noise, but for its first pixel, which is i: who it was can be told after shuffling."""
    images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 12, 12, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(NUM_IMAGES)
    return ImageStore(list(images))


def loader_of(store, *, augment=AUGMENT, batch_size=4, seed=5, num_workers=0):
    labels = np.arange(len(store), dtype=np.int64) * 10
    return TrainLoader(
        store=store,
        targets=labels,
        augment=augment,
        image_size=(12, 12),
        batch_size=batch_size,
        seed=seed,
        num_workers=num_workers,
    )


def equal(first, second):
    return len(first) == len(second) and all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(first, second, strict=True)
    )


def who(batch):
    return batch[0][:, 0, 0, 0].tolist()


def test_a_batch_is_uint8_images_with_their_labels(store):
    batches = list(loader_of(store, augment=UNTOUCHED).batches(0))
    assert len(batches) == 26 // 4
    for images, labels in batches:
        assert (images.dtype, images.shape) == (torch.uint8, (4, 12, 12, 3))
        assert labels.dtype == torch.int64
        assert labels.tolist() == [10 * i for i in who((images, labels))]
        assert all((images[b].numpy() == store[i]).all() for b, i in enumerate(who((images, labels))))


@pytest.mark.parametrize("batch_size", [1, 4, 13, 25])
def test_each_image_at_most_once_per_epoch_and_the_rest_is_less_than_a_batch(store, batch_size):
    loader = loader_of(store, augment=UNTOUCHED, batch_size=batch_size)
    seen = [i for batch in loader.batches(3) for i in who(batch)]
    assert len(seen) == len(set(seen)) == loader.steps_per_epoch * batch_size
    assert 0 <= NUM_IMAGES - len(seen) < batch_size


@pytest.mark.parametrize("batch_size", [26, 27, 1000])
def test_with_fewer_images_than_a_batch_all_are_the_batch(store, batch_size):
    loader = loader_of(store, augment=UNTOUCHED, batch_size=batch_size)
    (batch,) = loader.batches(0)
    assert loader.steps_per_epoch == 1
    assert sorted(who(batch)) == list(range(NUM_IMAGES))


def test_every_image_has_its_turn_over_the_epochs(store):
    """2 of 26 are left out of an epoch by chance; that one image is left out of 12 epochs has probability (1/13)^12."""
    loader = loader_of(store, augment=UNTOUCHED)
    orders = [[i for batch in loader.batches(epoch) for i in who(batch)] for epoch in range(12)]
    assert set().union(*orders) == set(range(NUM_IMAGES))
    assert len({tuple(order) for order in orders}) == 12


def test_seed_and_epoch_decide_everything(store):
    first = list(loader_of(store).batches(1))
    assert equal(first, list(loader_of(store).batches(1)))
    assert not equal(first, list(loader_of(store).batches(2)))
    assert not equal(first, list(loader_of(store, seed=6).batches(1)))


def test_the_batch_size_changes_who_meets_but_not_how_anyone_looks(store):
    looks = {}
    for batch_size in (2, 13):
        for images, labels in loader_of(store, batch_size=batch_size).batches(1):
            for image, label in zip(images, labels.tolist(), strict=True):
                assert torch.equal(looks.setdefault(label, image), image)
    assert len(looks) == NUM_IMAGES


@pytest.mark.parametrize("geometry", ["warp", "crop"])
def test_workers_do_the_work_and_change_nothing(store, caplog, geometry):
    """0, 1 and 2 worker processes: the same bytes, made by other processes, as the debug log shows."""
    caplog.set_level(logging.DEBUG, logger="recog.data.loader")
    augment = AugmentConfig(policy="standard", geometry=geometry, mirror=True)
    batches, pids = {}, {}
    for num_workers in (0, 1, 2):
        caplog.clear()
        batches[num_workers] = list(loader_of(store, augment=augment, num_workers=num_workers).batches(1))
        found = [re.fullmatch(r"epoch 1 step (\d+): batch made by process (\d+)", line) for line in caplog.messages]
        assert [int(match[1]) for match in found] == list(range(6))
        pids[num_workers] = {int(match[2]) for match in found}
    assert equal(batches[0], batches[1])
    assert equal(batches[0], batches[2])
    assert pids[0] == {os.getpid()}
    assert [len(pids[n]) for n in (1, 2)] == [1, 2]
    assert os.getpid() not in pids[1] | pids[2]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("first_step", [0, 1, 5, 6])
def test_resuming_at_a_step_gives_the_tail(store, caplog, num_workers, first_step):
    caplog.set_level(logging.DEBUG, logger="recog.data.loader")
    whole = list(loader_of(store).batches(2))
    caplog.clear()
    tail = list(loader_of(store, num_workers=num_workers).batches(2, first_step=first_step))
    assert equal(tail, whole[first_step:])
    assert [int(line.split()[3].rstrip(":")) for line in caplog.messages] == list(range(first_step, 6))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_first_steps_of_all_epochs_have_smaller_images(store, num_workers):
    """Six steps an epoch, eight of them small; the pixels are Pillow's, whose filter is the same up to rounding."""
    whole = loader_of(store)
    loader = dataclasses.replace(whole, num_workers=num_workers, num_small_steps=8, small_size=(6, 8))
    sides = [[tuple(images.shape[1:3]) for images, _ in loader.batches(epoch)] for epoch in range(2)]
    assert sides == [[(6, 8)] * 6, [(6, 8)] * 2 + [(12, 12)] * 4]
    assert equal(list(loader.batches(1, first_step=2)), list(whole.batches(1, first_step=2)))
    small, labels = loader.batch(1, 1)
    large, same = whole.batch(1, 1)
    assert torch.equal(labels, same)
    for image, larger in zip(small.numpy(), large.numpy(), strict=True):
        expected = np.asarray(Image.fromarray(larger).resize((8, 6), Image.Resampling.BILINEAR))
        assert np.abs(image.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("num_workers", [0, 1])
def test_torchs_own_generator_is_left_alone(store, num_workers):
    """Dropout draws from it: if every epoch or resume advanced it, a resumed run would train another network."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader_of(store, num_workers=num_workers).batches(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_store_is_not_changed_by_what_is_done_to_a_batch(store):
    before = store.stack().copy()
    for images, labels in loader_of(store, augment=UNTOUCHED).batches(0):
        images.zero_()
        labels.zero_()
    assert (store.stack() == before).all()
    assert list(loader_of(store).batches(0))[0][1].any()


def test_nothing_to_learn_from_is_an_error():
    with pytest.raises(DataError, match="training split is empty"):
        loader_of(ImageStore([]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, r"loader\.batch_size is 0; it must be 1 or more"),
        ({"batch_size": -4}, r"loader\.batch_size is -4"),
        ({"num_workers": -1}, r"loader\.num_workers is -1; it must be 0 or more"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message):
        LoaderConfig(**settings)


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("augment", [AUGMENT, AugmentConfig(policy="standard", geometry="warp", mixup=0.8, cutmix=1.0)])
def test_the_shares_of_the_processes_are_the_batches_of_one(store, num_ranks, augment):
    """Of a batch of 10, three processes take 3, 3 and 4: the same images, augmented and mixed alike, in the same order."""
    loader = replace(loader_of(store, augment=augment, batch_size=10), num_ranks=num_ranks, num_classes=260)
    parts = [list(replace(loader, rank=rank).batches(1, first_step=1)) for rank in range(num_ranks)]
    (whole,) = list(replace(loader, num_ranks=1).batches(1, first_step=1))
    together = [torch.cat([part[0][i] for part in parts]) for i in (0, 1)]
    assert torch.equal(together[0], whole[0])
    assert torch.equal(together[1], whole[1])
    sizes = [len(part[0][1]) for part in parts]
    assert sum(sizes) == 10
    assert max(sizes) - min(sizes) <= 1


def test_a_process_without_an_image_is_an_error(store):
    with pytest.raises(ConfigError, match=r"loader\.batch_size is 2, of 26 training images\) for 3 processes"):
        replace(loader_of(store, batch_size=2), num_ranks=3)
    with pytest.raises(ConfigError, match="a step takes 26 images"):
        replace(loader_of(store, batch_size=64), num_ranks=27)


def test_shares_by_hand():
    assert [range(10)[share(10, rank, 3)] for rank in range(3)] == [range(0, 3), range(3, 6), range(6, 10)]
    assert [range(2)[share(2, rank, 4)] for rank in range(4)] == [range(0), range(0, 1), range(1, 1), range(1, 2)]


def test_batches_of_several_labels_carry_their_own_rows():
    rows = (np.arange(12)[:, None] >> np.arange(3) & 1).astype(np.float32)
    store = ImageStore([np.full((4, 4, 1), i, np.uint8) for i in range(12)])
    loader = TrainLoader(
        store=store,
        targets=rows,
        augment=AugmentConfig(policy="none", geometry="warp").filled(),
        image_size=(4, 4),
        batch_size=4,
        seed=0,
    )
    assert loader.class_count == 3
    for images, targets in loader.batches(0):
        assert targets.dtype == torch.float32
        np.testing.assert_array_equal(targets.numpy(), rows[images[:, 0, 0, 0].numpy()])
    with pytest.raises(ConfigError, match="without the others"):
        replace(loader, balanced=True)


pytestmark = pytest.mark.slow


class Numbers(Dataset):
    """Item i is first + i; `harm` may do something to the process that makes it."""

    def __init__(self, first, count, harm=None):
        self.first, self.count, self.harm = first, count, harm

    def __len__(self):
        return self.count - self.first

    def __getitem__(self, item):
        if self.harm is not None:
            self.harm(self.first + item)
        return torch.tensor(self.first + item)


def steps_of(count, harm=None, *, first=0, num_workers=1):
    def load(step):
        timeout = 0.5 if num_workers else 0
        return DataLoader(Numbers(step, count, harm), batch_size=None, num_workers=num_workers, timeout=timeout)

    return batches_with_restarts(load, first_step=first, num_steps=count)


def once(path, deed):
    """Do `deed` where `path` does not exist yet, and make it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    deed()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_without_harm_it_is_the_loader(num_workers):
    found = [(step, int(batch)) for step, batch in steps_of(6, first=2, num_workers=num_workers)]
    assert found == [(2, 2), (3, 3), (4, 4), (5, 5)]


def test_a_worker_that_dies_making_a_batch_is_replaced(tmp_path, caplog):
    def harm(number):
        if number == 3:
            once(tmp_path / "harmed", die)

    with caplog.at_level(logging.WARNING):
        found = [int(batch) for _, batch in steps_of(6, harm)]
    assert found == [0, 1, 2, 3, 4, 5]
    assert len(caplog.records) == 1
    assert "restarting them at step" in caplog.text


def test_a_worker_that_hangs_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HANG_S", 1.5)

    def harm(number):
        if number == 2:
            once(tmp_path / "harmed", lambda: time.sleep(600))

    started = time.monotonic()
    assert [int(batch) for _, batch in steps_of(4, harm)] == [0, 1, 2, 3]
    assert time.monotonic() - started < 60


def test_a_slow_batch_is_waited_for():
    def harm(number):
        time.sleep(1.2 if number == 1 else 0)  # more than twice the loader's timeout

    assert [int(batch) for _, batch in steps_of(3, harm)] == [0, 1, 2]


def test_after_three_restarts_it_is_an_error():
    def harm(number):
        if number == 2:
            die()

    batches = steps_of(4, harm)
    with pytest.raises(DataError, match=r"were lost 4 times \(.*--workers 0"):
        list(batches)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_of_the_data_is_passed_on(num_workers):
    def harm(number):
        if number == 1:
            raise OSError("a bad disk")

    with pytest.raises(OSError, match="a bad disk"):
        list(steps_of(3, harm, num_workers=num_workers))


def kill_workers():
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
        child.join()


@pytest.mark.parametrize("step", [3, 8, 13])
def test_training_ends_alike_where_workers_are_killed_between_two_steps(step):
    straight = made()
    list(fit(straight, loader(), lr_at, epochs=3))
    state = made()
    for log in fit(state, dataclasses.replace(loader(), num_workers=2), lr_at, epochs=3):
        if isinstance(log, StepLog) and log.step == step:
            kill_workers()
            time.sleep(0.05)  # where torch's handler would raise
    assert hash_of(state) == hash_of(straight)
