"""A real service in a process of its own, and a plain HTTP client, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1-trust"  # committed

START_S = 60


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Service:
    process: subprocess.Popen
    log: Path
    port: int
    facts: dict[str, Any] = field(default_factory=dict)

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, headers=headers)

    def predict(self, image: bytes, query: str = "", **headers: str) -> Reply:
        return self.request("POST", f"/predict{query}", image, {"Content-Type": "image/png", **headers})

    def infer(self, table: object, model: str = "digits", binary: bytes = b"") -> Reply:
        body = json.dumps(table).encode()
        headers = {"Content-Type": "application/json"}
        if binary:
            headers = {"Inference-Header-Content-Length": str(len(body)), "Content-Type": "application/octet-stream"}
        return self.request("POST", f"/v2/models/{model}/infer", body + binary, headers)

    def raw(self, data: bytes, *, wait_s: float = 20, leave: bool = False) -> bytes:
        """What the service answers to `data` until it closes the connection, which it may do before all was sent.

        With `leave`, the client closes its side when all is sent.
        """
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as connection:
            answer = b""
            with contextlib.suppress(OSError):  # a service that closed first: ConnectionError, or ENOTCONN of shutdown
                connection.sendall(data)
                if leave:
                    connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError, TimeoutError):
                while part := connection.recv(65_536):
                    answer += part
            return answer

    def workers(self) -> list[int]:
        """Process ids of the inference processes."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def logged(self, count: int, path: str) -> list[dict[str, Any]]:
        """The access log of a path once it has `count` lines: each is written after its answer."""
        for _ in range(500):
            lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
            found = [line for line in lines if line["path"] == path]
            if len(found) >= count:
                return found
            time.sleep(0.01)
        raise AssertionError(f"{path} is logged {len(found)} times")

    def metric(self, line: str) -> float:
        for row in self.get("/metrics").body.decode().splitlines():
            if row.startswith(f"{line} "):
                return float(row.rpartition(" ")[2])
        return 0.0

    def wait_ready(self, *, wanted: bool = True, limit_s: float = 30) -> float:
        """Seconds until readiness is as wanted."""
        begun = time.monotonic()
        while time.monotonic() - begun < limit_s:
            with contextlib.suppress(OSError):
                if (self.get("/v2/health/ready").status == 200) == wanted:
                    return time.monotonic() - begun
            time.sleep(0.02)
        raise AssertionError(
            f"not {'ready' if wanted else 'unready'} after {limit_s} s:\n{self.log.read_text()[-2000:]}"
        )

    def stop(self, number: int = signal.SIGTERM, limit_s: float = 40) -> int:
        self.process.send_signal(number)
        return self.process.wait(limit_s)


@contextlib.contextmanager
def serving(*arguments: str, env: Mapping[str, str] | None = None, wait: bool = True) -> Iterator[Service]:
    """`recog serve ARGUMENTS` on a free port of 127.0.0.1, ready unless `wait` is false; ended with the block."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        log = Path(folder) / "log"
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, "-m", "recog", "serve", *arguments, "--port", str(port), "--json"]
        with log.open("wb") as stderr, (Path(folder) / "out").open("wb") as stdout:
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env={**os.environ, **(env or {})})
        service = Service(process, log, port)
        try:
            if wait:
                _await_start(service, Path(folder) / "out")
            yield service
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _await_start(service: Service, out: Path) -> None:
    begun = time.monotonic()
    while not out.read_text().endswith("\n"):
        if service.process.poll() is not None or time.monotonic() - begun > START_S:
            raise AssertionError(f"the service did not start:\n{service.log.read_text()[-3000:]}")
        time.sleep(0.02)
    service.facts = json.loads(out.read_text())


def multipart(files: list[tuple[str, bytes]], boundary: str = "frontier") -> tuple[bytes, dict[str, str]]:
    """(body, headers) of a form with the files, each a part of its own."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'.encode()
        + b"Content-Type: application/octet-stream\r\n\r\n"
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), {
        "Content-Type": f"multipart/form-data; boundary={boundary}"
    }
