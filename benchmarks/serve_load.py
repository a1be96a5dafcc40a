"""`recog serve` under load, beside LitServe with the same ONNX file and beside the same work in one process.

    python benchmarks/serve_load.py BUNDLE PHOTOS [SECONDS]

The services and the work in one process run on core 0 with one thread, the clients on core 1. RECOG_PEER_PYTHON names the Python
of an environment with litserve, onnxruntime and pillow.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serve"))

from harness import PEERS, write_result
from load import Result, Summary, closed_loop, open_loop
from service import serving

from recog.runtime.predictor import load

CLIENTS = (1, 8, 32, 128)


def pin(core: int) -> None:
    os.sched_setaffinity(0, {core})


def photos_below(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]


def in_process_rate(bundle: Path, photos: list[bytes], seconds: float) -> float:
    """Images a second of Predictor.predict_each on core 0."""
    code = (
        "import sys,time\nfrom pathlib import Path\nfrom recog.runtime.predictor import load\n"
        "p=load(sys.argv[1],num_threads=1,engine='onnxruntime-no-spinning')\n"
        "files=[f.read_bytes() for f in sorted(Path(sys.argv[2]).rglob('*.jpg'))]\n"
        "list(p.predict_each(files[:32],reject=p.can_reject))\nb=time.perf_counter();n=0\n"
        "while time.perf_counter()-b<float(sys.argv[3]): n+=len(list(p.predict_each(files,reject=p.can_reject)))\n"
        "print(n/(time.perf_counter()-b))"
    )
    command = ["taskset", "-c", "0", sys.executable, "-c", code, str(bundle), sys.argv[2], str(seconds)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return float(done.stdout)


def sender(photos: list[bytes], path: str, *, as_json: bool):
    bodies = [json.dumps({"image": base64.b64encode(p).decode()}).encode() if as_json else p for p in photos]
    header = "Content-Type: application/json\r\n" if as_json else "Content-Type: image/jpeg\r\n"

    async def send(client, number) -> Result:
        return await client.post(path, bodies[number % len(bodies)], header)

    return send


def closed(port: int, send, num_clients: int, seconds: float) -> tuple[float, Summary]:
    """(replies with 200 a second, all results) of about `seconds`."""
    asyncio.run(
        closed_loop(port, send, num_clients=num_clients, num_requests=2 * num_clients)
    )  # until batches have their size
    begun = time.perf_counter()
    results: list[Result] = []
    while time.perf_counter() - begun < seconds:
        results += asyncio.run(closed_loop(port, send, num_clients=num_clients, num_requests=max(64, 4 * num_clients)))
    summary = Summary(results)
    return summary.count(200) / (time.perf_counter() - begun), summary


def row(name: str, rate: float, base: float, summary: Summary) -> str:
    p50, p99 = summary.percentile(0.5), summary.percentile(0.99)
    others = len(list(summary.results)) - summary.count(200)
    return (
        f"| {name} | {rate:.1f} | {rate / base:.2f} | {1000 * p50:.0f} | {1000 * p99:.0f} | {p99 / p50:.1f} "
        f"| {len(list(summary.results))} | {others} |"
    )


def litserve_at(bundle: Path) -> tuple[subprocess.Popen, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    python = os.environ["RECOG_PEER_PYTHON"]
    command = ["taskset", "-c", "0", python, str(PEERS / "litserve_app.py"), str(bundle), str(port)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as reply:
                if reply.status == 200:
                    return process, port
        except OSError:
            time.sleep(0.1)
    raise SystemExit("litserve did not start")


def peer_rows(bundle: Path, photos: list[bytes], base: float, seconds: float) -> list[str]:
    process, port = litserve_at(bundle)
    try:
        send = sender(photos, "/predict", as_json=True)
        return [row(f"LitServe, {n} clients", *reorder(closed(port, send, n, seconds), base)) for n in CLIENTS]
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its workers would outlive it
        process.wait(30)


def reorder(found: tuple[float, Summary], base: float) -> tuple[float, float, Summary]:
    return found[0], base, found[1]


def recog_rows(bundle: Path, photos: list[bytes], base: float, seconds: float) -> list[str]:
    with serving(f"m={bundle}", "--threads", "1", "--quiet") as service:
        for pid in (service.process.pid, *service.workers()):
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(thread), {0})
        send = sender(photos, "/predict?top=1", as_json=False)
        rows, capacity = [], 0.0
        for count in CLIENTS:
            rate, summary = closed(service.port, send, count, seconds)
            capacity = max(capacity, rate)
            rows.append(row(f"recog serve, {count} clients", rate, base, summary))
        for share in (0.7, 3.0):
            begun = time.perf_counter()
            results = asyncio.run(open_loop(service.port, send, rate=share * capacity, seconds=2 * seconds))
            summary = Summary(results)
            rate = summary.count(200) / (time.perf_counter() - begun)
            rows.append(row(f"recog serve, arrivals at {share:g} x capacity", rate, base, summary))
            refused = Summary([Result(200, r.seconds) for r in results if r.status == 503])
            if refused.seconds:
                p99 = 1000 * refused.percentile(0.99)
                rows.append(f"\nRefused with 503 at {share:g} x capacity: {len(refused.seconds)}, p99 {p99:.0f} ms.\n")
        rows += after_aborts(service, send, seconds)
        rows += after_deaths(service, send)
        return rows


def after_aborts(service, send, seconds: float) -> list[str]:
    """Throughput before and after a phase in which 80 % of the requests are given up."""

    async def give_up(client, number) -> Result:
        if number % 5 == 0:
            return await send(client, number)
        task = asyncio.create_task(send(client, number))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return Result(-1, 0.0)

    first, _ = closed(service.port, send, 8, seconds)
    asyncio.run(closed_loop(service.port, give_up, num_clients=32, num_requests=1000))
    third, _ = closed(service.port, send, 8, seconds)
    return [
        f"\nAfter 1,000 requests of which 80 % were given up: {third:.1f} images/s, before {first:.1f} "
        f"({third / first:.2f}).\n"
    ]


def after_deaths(service, send) -> list[str]:
    """Seconds from a killed inference process to readiness, under 8 clients."""
    waits: list[float] = []

    async def kill() -> None:
        for _ in range(5):
            await asyncio.sleep(2)
            (worker,) = service.workers()
            os.kill(worker, signal.SIGKILL)
            begun = time.monotonic()
            await asyncio.to_thread(service.wait_ready, wanted=False)
            await asyncio.to_thread(service.wait_ready)
            waits.append(time.monotonic() - begun)

    async def run() -> list[Result]:
        task = asyncio.create_task(kill())
        results: list[Result] = []
        while not task.done():
            results += await closed_loop(service.port, send, num_clients=8, num_requests=64)
        return results

    summary = Summary(asyncio.run(run()))
    return [
        f"\n{len(waits)} inference processes killed under 8 clients: ready again after {min(waits):.1f}-{max(waits):.1f} s; "
        f"{summary.count(200)} answers, {summary.count(503)} x 503, {summary.count(0)} lost connections.\n"
    ]


def main() -> None:
    bundle, photos = Path(sys.argv[1]), photos_below(Path(sys.argv[2]))
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 10.0
    pin(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    base = in_process_rate(bundle, photos, seconds)
    rows = recog_rows(bundle, photos, base, seconds)
    peers = peer_rows(bundle, photos, base, seconds) if "RECOG_PEER_PYTHON" in os.environ else []
    again = in_process_rate(bundle, photos, seconds)
    manifest = load(bundle).manifest
    tables = [line for line in rows if line.startswith("|")]
    notes = [line for line in rows if not line.startswith("|")]
    write_result(
        "serve_load",
        "recog serve under load",
        f"Bundle: {manifest.architecture}, {len(photos)} photos, one image per request. Services on core 0 with one thread, "
        f"clients on core 1. The same decoding and network in one process on core 0: {base:.1f} images/s before and "
        f"{again:.1f} after; ratios are to the first. {seconds:g} s per row.\n\n"
        "| | images/s | ratio | p50 ms | p99 ms | p99 / p50 | n | not 200 |\n|---|---|---|---|---|---|---|---|\n"
        + "\n".join([*tables, *peers])
        + "\n"
        + "".join(notes),
    )


if __name__ == "__main__":
    main()
