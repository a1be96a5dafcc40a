"""The queue and the inference process: batches, crashes, hangs, reloads, deadlines, clients that leave."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time

import pytest
from service import GOLDEN

from recog.core.errors import BundleError
from recog.serve.app import predictions_of
from recog.serve.config import ServeConfig, ServeLimits
from recog.serve.inference import LoadError, Model, Request, Unavailable
from recog.serve.messages import Image
from recog.serve.worker import open_bundle


def config(**limits):
    return ServeConfig(num_threads=1, limits=ServeLimits(**limits))


def with_model(golden, work, **limits):
    """Run `work(model)` on a loaded model."""

    async def run():
        model = Model("digits", str(golden), config(**limits))
        await model.load()
        try:
            return await work(model)
        finally:
            await model.close()

    return asyncio.run(run())


async def labels(model, files, *, timeout_s=30.0):
    images = [Image(data) for data in files]
    part = await model.answer(images, timeout_s=timeout_s)
    return [prediction.class_names[int(prediction.preds.argmax())] for prediction in predictions_of(part, images)]


async def paused(model):
    """Stop the inference process, so that whatever is sent to it stays unanswered; returns its id."""
    pid = model._worker.process.pid
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_requests_of_all_sizes_get_their_own_answers(golden, digits, expected):
    batches = []

    async def work(model):
        model.on_batch = lambda name, num_images: batches.append(num_images)
        sizes = [1, 5, 16, 2, 3, 1, 12]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        found = await asyncio.gather(*(labels(model, digits[a : a + n]) for a, n in zip(starts, sizes, strict=True)))
        return [label for part in found for label in part]

    found = with_model(golden, work)
    assert found == [p.class_names[int(p.preds.argmax())] for p in expected[:40]]
    assert sum(batches) == 40
    assert max(batches) <= 64


def test_a_crash_fails_only_the_batch_that_was_computed(golden, digits):
    async def work(model):
        first = asyncio.create_task(labels(model, digits[:2]))
        pid = await paused(model)
        await asyncio.sleep(0.1)
        others = [asyncio.create_task(labels(model, digits[i : i + 1])) for i in range(5)]
        await asyncio.sleep(0.1)
        assert len(model._worker.in_flight) == 2
        begun = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="ended while it worked"):
            await first
        assert model.state == "restarting"
        assert [await other for other in others] == [["0"], ["1"], ["2"], ["3"], ["4"]]
        assert model.num_restarts == 1
        return time.monotonic() - begun

    assert with_model(golden, work) > 0


def test_an_inference_process_that_hangs_is_ended(golden, digits, monkeypatch):
    monkeypatch.setattr("recog.serve.inference.HANG_S", 0.2)

    async def work(model):
        await paused(model)
        with pytest.raises(Unavailable, match="deadline"):
            await labels(model, digits[:1], timeout_s=0.2)
        while model.num_restarts == 0 or not model.is_ready:
            await asyncio.sleep(0.05)
        return await labels(model, digits[:1])

    assert with_model(golden, work, deadline_s=0.5) == ["0"]


def test_a_full_queue_refuses_at_once(golden, digits):
    async def work(model):
        pid = await paused(model)
        tasks = []
        for _ in range(5):  # two are sent, three wait
            tasks.append(asyncio.create_task(labels(model, digits[:1])))
            await asyncio.sleep(0.02)
        with pytest.raises(Unavailable, match="too many requests") as error:
            await labels(model, digits[:1])
        assert error.value.retry_after_s >= 1
        os.kill(pid, signal.SIGCONT)
        return await asyncio.gather(*tasks)

    assert with_model(golden, work, max_waiting=3, max_delay_ms=0.0) == [["0"]] * 5


def test_what_would_be_answered_too_late_is_refused_at_once(golden, digits):
    async def work(model):
        pid = await paused(model)
        tasks = []
        for _ in range(4):  # two are sent, two wait
            tasks.append(asyncio.create_task(labels(model, digits[:1])))
            await asyncio.sleep(0.02)
        model._image_s = 1.0  # so three images need 3 s
        with pytest.raises(Unavailable, match="before the deadline"):
            await labels(model, digits[:1], timeout_s=2.9)
        tasks.append(asyncio.create_task(labels(model, digits[:1], timeout_s=20.0)))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGCONT)
        return await asyncio.gather(*tasks)

    assert with_model(golden, work, max_delay_ms=0.0) == [["0"]] * 5


def test_who_left_is_not_computed(golden, digits):
    batches = []

    async def work(model):
        model.on_batch = lambda name, num_images: batches.append(num_images)
        pid = await paused(model)
        kept = [asyncio.create_task(labels(model, digits[:1])) for _ in range(2)]
        await asyncio.sleep(0.1)
        left = [asyncio.create_task(labels(model, digits[:16])) for _ in range(20)]
        await asyncio.sleep(0.1)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        kept.append(asyncio.create_task(labels(model, digits[2:3])))
        os.kill(pid, signal.SIGCONT)
        return await asyncio.gather(*kept)

    assert with_model(golden, work) == [["0"], ["0"], ["2"]]
    # what was already sent is computed: at most one batch of those that left
    assert sum(batches) <= 3 + 64


def test_a_request_is_never_divided(golden, digits):
    async def work(model):
        model._waiting.extend(
            Request(tuple(Image(b"x") for _ in range(n)), asyncio.get_running_loop().create_future())
            for n in (5, 5, 6, 1)
        )
        first = [len(request.images) for request in model._take()]
        second = [len(request.images) for request in model._take()]
        model._waiting.clear()
        return first, second

    assert with_model(golden, work, max_batch=16, max_images=16) == ([5, 5, 6], [1])


def test_a_reload_changes_the_version_and_fails_nothing(golden, digits, tmp_path):
    folder = shutil.copytree(golden, tmp_path / "digits")

    async def work(model):
        before = model.ready.version
        stop = asyncio.Event()
        versions = []

        async def ask():
            while not stop.is_set():
                part = await model.answer([Image(digits[3])], timeout_s=30)
                versions.append(part.ready.version)

        clients = [asyncio.create_task(ask()) for _ in range(4)]
        await asyncio.sleep(0.1)
        shutil.rmtree(folder)
        shutil.copytree(GOLDEN.parent / "digits-format-1", folder)
        await model.reload()
        after = model.ready.version
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*clients)
        return before, after, versions

    before, after, versions = with_model(folder, work)
    assert before != after
    assert set(versions) == {before, after}
    assert versions == sorted(versions, key=[before, after].index)  # never back to the earlier one


def test_a_damaged_bundle_is_not_loaded_and_the_earlier_one_stays(golden, digits, tmp_path):
    folder = shutil.copytree(golden, tmp_path / "digits")

    async def work(model):
        before = model.ready.version
        (folder / "model.onnx").write_bytes(b"damaged")
        with pytest.raises(LoadError, match="model.onnx") as error:
            await model.reload()
        assert error.value.exit_code == BundleError.exit_code
        assert model.ready.version == before
        return await labels(model, digits[4:5])

    assert with_model(folder, work) == ["4"]


@pytest.mark.parametrize(
    "name", ["recog.json", "config.json", "calibration.json", "model.onnx", "reference.safetensors"]
)
@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "missing", "folder"])
def test_every_damage_to_a_bundle_is_found(golden, tmp_path, name, damage):
    """`open_bundle` is what the inference process does first."""
    folder = shutil.copytree(golden, tmp_path / "digits")
    path, data = folder / name, (golden / name).read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        changed = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "changed": changed}[damage])
    with pytest.raises(BundleError):
        open_bundle(folder, "auto", 1)


def test_a_bundle_that_predicts_its_reference_differently_is_not_served(golden, tmp_path, reseal):
    folder = shutil.copytree(golden, tmp_path / "digits")
    calibration = json.loads((folder / "calibration.json").read_text())
    (folder / "calibration.json").write_text(json.dumps(calibration | {"temperature": 2.0}, indent=2))
    reseal(folder)

    async def run():
        with pytest.raises(LoadError, match="predicts its reference images differently"):
            await Model("digits", str(folder), config()).load()

    asyncio.run(run())


def test_nothing_is_answered_before_it_is_loaded(golden):
    async def run():
        model = Model("digits", str(golden), config())
        with pytest.raises(Unavailable, match="loading"):
            await model.answer([Image(b"x")], timeout_s=1)
        with pytest.raises(Unavailable, match="not loaded"):
            _ = model.ready

    asyncio.run(run())
