"""Load: no reply is swapped, lost or doubled. Figures: benchmarks/serve_load.py."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from echo_bundle import NUM_TAGS, tagged_image, write_echo_bundle
from load import Client, Result, Summary, closed_loop
from service import multipart, serving

SIZES = (8, 8, 8, 30, 200)  # pixels a side
IMAGES = {(tag, size): tagged_image(tag, size) for tag in range(NUM_TAGS) for size in set(SIZES)}


@pytest.fixture(scope="module")
def echo(golden, tmp_path_factory):
    return write_echo_bundle(golden, tmp_path_factory.mktemp("echo") / "echo")


@pytest.fixture(scope="module")
def echo_service(echo):
    with serving(f"echo={echo}", "--quiet") as service:
        yield service


def request_of(number):
    """(tags, body, header) of the request `number`: 1 to 16 images, each of a tag and a size of its own."""
    chance = random.Random(number)
    tags = [chance.randrange(NUM_TAGS) for _ in range(chance.choice((1, 1, 1, 2, 5, 16)))]
    files = [("x", IMAGES[tag, chance.choice(SIZES)]) for tag in tags]
    body, headers = multipart(files)
    return tags, body, f"Content-Type: {headers['Content-Type']}\r\n"


def labels_of(result, prefix="t"):
    return [int(answer["label"].removeprefix(prefix)) for answer in result.json()["predictions"]]


def run_tagged(service, num_requests, *, num_clients=64):
    """Counts of replies to tagged requests, of which 10 % are cancelled and 5 % hold no image. A swapped reply fails."""
    counts = {"right": 0, "bad": 0, "cancelled": 0}

    async def send(client, number):
        kind = random.Random(-number).random()
        if kind < 0.05:
            result = await client.post("/predict?top=1", b"no image")
            assert (result.status, list(result.json())) == (400, ["error"])
            counts["bad"] += 1
            return result
        tags, body, header = request_of(number)
        if kind < 0.15:
            try:
                async with asyncio.timeout(random.Random(number).random() * 0.02):
                    result = await client.post("/predict?top=1", body, header)
            except TimeoutError:
                counts["cancelled"] += 1
                return Result(-1, 0.0)
        else:
            result = await client.post("/predict?top=1", body, header)
        assert result.status == 200, result
        assert labels_of(result) == tags
        counts["right"] += 1
        return result

    asyncio.run(closed_loop(service.port, send, num_clients=num_clients, num_requests=num_requests))
    assert sum(counts.values()) == num_requests
    return counts


def test_s1_tagged_replies(echo_service):
    counts = run_tagged(echo_service, 600)
    assert counts["right"] > 480
    assert counts["bad"] > 10


@pytest.mark.slow
def test_s1_twenty_thousand_tagged_replies(echo_service, capsys):
    counts = run_tagged(echo_service, 20_000)
    with capsys.disabled():
        found = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        print(f"\ntagged replies: {found}; 0 swapped, lost or doubled")


def check_same(service, digits, expected, num_requests):
    probs = np.array([prediction.probs for prediction in expected])

    async def send(client, number):
        return await client.post("/predict", digits[number % 40], tag=number % 40)

    results = asyncio.run(closed_loop(service.port, send, num_clients=16, num_requests=num_requests))
    assert len(results) == num_requests
    for result in results:
        (answer,) = result.json()["predictions"]
        found = {row["label"]: row["prob"] for row in answer["top"]}
        np.testing.assert_allclose([found[str(i)] for i in range(10)], probs[result.tag], atol=1e-4)


def test_s2_same_probabilities_as_predict(service, digits, expected):
    check_same(service, digits, expected, 200)


@pytest.mark.slow
def test_s2_five_thousand(service, digits, expected):
    check_same(service, digits, expected, 5000)


def test_s3_nothing_but_200_at_any_number_of_clients(echo_service):
    async def send(client, number):
        return await client.post("/predict?top=1", IMAGES[number % NUM_TAGS, 8], tag=number % NUM_TAGS)

    for num_clients in (1, 8, 128):
        results = asyncio.run(closed_loop(echo_service.port, send, num_clients=num_clients, num_requests=256))
        assert Summary(results).count(200) == 256
        assert all(labels_of(result) == [result.tag] for result in results)


def test_s4_overload_is_refused_and_passes(echo):
    async def send(client, number):
        return await client.post("/predict?top=1", IMAGES[number % NUM_TAGS, 8], tag=number % NUM_TAGS)

    with serving(f"echo={echo}", "--quiet", "--limit", "max_waiting=4") as service:
        (worker,) = service.workers()

        async def overload():
            os.kill(worker, signal.SIGSTOP)
            task = asyncio.create_task(closed_loop(service.port, send, num_clients=64, num_requests=300))
            await asyncio.sleep(1)
            os.kill(worker, signal.SIGCONT)
            return await task

        results = asyncio.run(overload())
        assert {result.status for result in results} == {200, 503}
        assert all(labels_of(result) == [result.tag] for result in results if result.status == 200)
        after = asyncio.run(closed_loop(service.port, send, num_clients=4, num_requests=50))
        assert Summary(after).count(200) == 50
        refused = next(result for result in results if result.status == 503)
        assert refused.json() == {"error": "too many requests are waiting; retry in 1 s"}


def run_with_deaths(service, *, num_deaths, seconds):
    """Requests while the inference process is killed again and again; per death the seconds until it is ready."""
    waits = []

    async def send(client, number):
        tags, body, header = request_of(number)
        result = await client.post("/predict?top=1", body, header)
        assert result.status in (200, 503), result
        assert result.status == 503 or labels_of(result) == tags
        return result

    async def kill():
        for _ in range(num_deaths):
            await asyncio.sleep(seconds)
            (worker,) = service.workers()
            os.kill(worker, signal.SIGKILL)
            begun = time.monotonic()
            await asyncio.to_thread(service.wait_ready, wanted=False)
            await asyncio.to_thread(service.wait_ready)
            waits.append(time.monotonic() - begun)
        return waits

    async def run():
        stop = asyncio.create_task(kill())
        results = []
        while not stop.done():
            results += await closed_loop(service.port, send, num_clients=8, num_requests=64)
        await stop
        return results

    return asyncio.run(run()), waits


def test_s5_inference_processes_that_die(echo):
    with serving(f"echo={echo}", "--quiet") as service:
        results, waits = run_with_deaths(service, num_deaths=2, seconds=0.5)
        assert len(waits) == 2
        assert Summary(results).count(200) > 50
        assert service.metric('recog_inference_restarts{model="echo"}') == 2
        assert service.predict(IMAGES[9, 8]).json()["predictions"][0]["label"] == "t9"


def test_s6_sigterm_under_load_resets_nobody(echo):
    with serving(f"echo={echo}", "--quiet", "--limit", "drain_s=3") as service:
        stopped = asyncio.Event()

        async def client():
            found = []
            connection = Client(service.port)
            while not stopped.is_set():
                tag = random.randrange(NUM_TAGS)
                found.append(await connection.post("/predict?top=1", IMAGES[tag, 8], tag=tag))
            connection.close()
            return found

        async def run():
            clients = [asyncio.create_task(client()) for _ in range(8)]
            await asyncio.sleep(0.3)
            service.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(service.wait_ready, wanted=False, limit_s=2)  # what a balancer would see
            stopped.set()
            return [result for found in await asyncio.gather(*clients) for result in found]

        results = asyncio.run(run())
        assert Summary(results).count(200) == len(results) > 20
        assert all(labels_of(result) == [result.tag] for result in results)
        assert service.process.wait(30) == 0


def test_s7_reload_under_load(golden, echo, tmp_path):
    """Every reply is of one version, and matches the names of its classes."""
    other = write_echo_bundle(golden, tmp_path / "other", prefix="u")
    current = tmp_path / "current"
    current.symlink_to(echo)
    digests = {
        json.loads((folder / "recog.json").read_text())["digest"]: prefix
        for folder, prefix in ((echo, "t"), (other, "u"))
    }
    with serving(f"echo={current}", "--quiet") as service:
        versions = []

        async def send(client, number):
            tags, body, header = request_of(number)
            result = await client.post("/predict?top=1", body, header)
            assert result.status == 200, result
            assert labels_of(result, digests[result.json()["digest"]]) == tags
            versions.append(digests[result.json()["digest"]])
            return result

        def replace(target):
            link = tmp_path / "next"
            link.symlink_to(target)
            os.replace(link, current)
            service.process.send_signal(signal.SIGHUP)

        async def run():
            for target, prefix in ((other, "u"), (echo, "t")):
                replace(target)
                for _ in range(200):
                    await closed_loop(service.port, send, num_clients=8, num_requests=32)
                    if versions[-1] == prefix:
                        break
                assert versions[-1] == prefix

        asyncio.run(run())
        assert set(versions) == {"t", "u"}


def resident_kib(service):
    pids = [service.process.pid, *service.workers()]
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@pytest.mark.slow
def test_s8_memory_files_and_threads_stay(echo):
    with serving(f"echo={echo}", "--quiet") as service:
        run_tagged(service, 2000, num_clients=16)
        before = resident_kib(service)
        files = len(os.listdir(f"/proc/{service.process.pid}/fd"))
        threads = [len(os.listdir(f"/proc/{pid}/task")) for pid in (service.process.pid, *service.workers())]
        run_tagged(service, 10_000, num_clients=16)
        assert (resident_kib(service) - before) / 10_000 < 1.0
        assert len(os.listdir(f"/proc/{service.process.pid}/fd")) <= files + 2
        assert threads == [len(os.listdir(f"/proc/{pid}/task")) for pid in (service.process.pid, *service.workers())]


def test_s10_requests_that_are_given_up(echo_service):
    async def give_up(client, number):
        _, body, header = request_of(number)
        task = asyncio.create_task(client.post("/predict?top=1", body, header))
        await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return Result(-1, 0.0)

    async def send(client, number):
        return await client.post("/predict?top=1", IMAGES[number % NUM_TAGS, 8], tag=number % NUM_TAGS)

    asyncio.run(closed_loop(echo_service.port, give_up, num_clients=16, num_requests=300))
    results = asyncio.run(closed_loop(echo_service.port, send, num_clients=8, num_requests=100))
    assert [labels_of(result) for result in results] == [[result.tag] for result in results]
    assert echo_service.metric("recog_open_requests") == 0
