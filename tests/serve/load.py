"""Clients in one asyncio loop: closed loops of n clients, or an open loop at a rate; every reply is kept with its time."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field


@dataclass
class Result:
    """Of one request: status 0 where the connection was lost."""

    status: int
    seconds: float
    body: bytes = b""
    tag: int = 0

    def json(self) -> dict:
        return json.loads(self.body)


@dataclass
class Client:
    """A connection that is kept open and opened anew where it was closed."""

    port: int
    _reader: asyncio.StreamReader | None = None
    _writer: asyncio.StreamWriter | None = None

    async def post(
        self, path: str, body: bytes, headers: str = "Content-Type: image/png\r\n", *, tag: int = 0
    ) -> Result:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        begun = time.perf_counter()
        try:
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
            assert self._reader is not None
            self._writer.write(head.encode() + body)
            answer = await self._reader.readuntil(b"\r\n\r\n")
            status = int(answer[9:12])
            fields = answer.lower()
            length = int(fields.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            content = await self._reader.readexactly(length)
            if b"connection: close" in fields:
                self.close()
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return Result(0, time.perf_counter() - begun, tag=tag)
        except asyncio.CancelledError:
            self.close()
            raise
        return Result(status, time.perf_counter() - begun, content, tag)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


Send = Callable[[Client, int], Awaitable[Result]]


async def closed_loop(port: int, send: Send, *, num_clients: int, num_requests: int) -> list[Result]:
    """`num_clients` at one time, each sending its next request when it has its answer: `send(client, number)`."""
    numbers = iter(range(num_requests))
    results: list[Result] = []

    async def work() -> None:
        client = Client(port)
        for number in numbers:
            results.append(await send(client, number))
        client.close()

    await asyncio.gather(*(work() for _ in range(num_clients)))
    return results


async def open_loop(port: int, send: Send, *, rate: float, seconds: float, seed: int = 0) -> list[Result]:
    """Requests that arrive at random (Poisson), `rate` a second, whatever the service does."""
    chance = random.Random(seed)
    free: list[Client] = []
    results: list[Result] = []

    async def one(number: int) -> None:
        client = free.pop() if free else Client(port)
        results.append(await send(client, number))
        free.append(client)

    tasks: list[asyncio.Task[None]] = []
    begun = time.perf_counter()
    due = 0.0
    while due < seconds:
        delay = due - (time.perf_counter() - begun)
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(one(len(tasks))))
        due += chance.expovariate(rate)
    await asyncio.gather(*tasks)
    for client in free:
        client.close()
    return results


@dataclass
class Summary:
    """Of results: how many, seconds of the successful ones at percentiles."""

    results: Iterable[Result]
    seconds: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.results = list(self.results)
        self.seconds = sorted(result.seconds for result in self.results if result.status == 200)

    def percentile(self, share: float) -> float:
        if not self.seconds:
            return float("nan")
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]

    def count(self, status: int) -> int:
        return sum(result.status == status for result in self.results)
