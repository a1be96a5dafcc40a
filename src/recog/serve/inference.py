"""One bundle behind a queue: requests become batches, an inference process answers them, and a new one follows one that ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recog.bundle.manifest import find_bundle
from recog.core.errors import RecogError
from recog.serve.config import ServeConfig, ServeLimits
from recog.serve.messages import LENGTH_BYTES, Answered, Batch, Failed, Image, Ready, pack, unpack_from_worker

log = logging.getLogger("recog.serve")

State = Literal["loading", "ready", "restarting", "stopped"]
MAX_IN_FLIGHT = 2  # batches that an inference process has: one is computed, one is read
MAX_BATCH_BYTES = 64 << 20
BATCH_S = 0.5  # a batch is not made larger than what takes so long
HANG_S = 5.0  # beyond the deadline, an inference process that does not answer is ended
_FIRST_BACK_OFF_S, _MAX_BACK_OFF_S = 0.5, 10.0


class Unavailable(Exception):  # noqa: N818  an answer to a client, who may try again
    """Why a request cannot be answered now."""

    def __init__(self, reason: str, *, retry_after_s: int = 1) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class LoadError(RecogError):
    """A bundle that cannot be served, as its inference process has found."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.exit_code = failed.exit_code


@dataclass(eq=False, slots=True)
class Request:
    """The images of one request, which are answered in one batch by one version of the bundle."""

    images: tuple[Image, ...]
    answer: asyncio.Future[Part]

    @property
    def num_bytes(self) -> int:
        return sum(len(image.data) for image in self.images)


@dataclass(frozen=True, slots=True)
class Part:
    """The answer to one request: `places` are its images in the whole batch."""

    ready: Ready
    answered: Answered
    places: range


@dataclass(eq=False)
class Sent:
    requests: list[Request]
    started: float


class Worker:
    """The connection to one inference process."""

    def __init__(self, process: asyncio.subprocess.Process, channel: socket.socket) -> None:
        self.process = process
        self.in_flight: dict[int, Sent] = {}
        self.ready: Ready | None = None
        self._channel = channel
        self._number = 0
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @classmethod
    async def start(cls, folder: Path, config: ServeConfig) -> Worker:
        """A process that has loaded the bundle in `folder`. LoadError where it cannot be served, Unavailable where it ended."""
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = [str(theirs.fileno()), str(folder), config.engine, str(config.num_threads or 0)]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "recog.serve.worker", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr,
                pass_fds=(theirs.fileno(),),
            )
        worker = cls(process, ours)
        worker._reader, worker._writer = await asyncio.open_connection(sock=ours)
        try:
            first = await worker.receive()
        except BaseException:
            worker.kill()
            raise
        if isinstance(first, Ready):
            worker.ready = first
            return worker
        worker.kill()
        if isinstance(first, Failed):
            raise LoadError(first)
        raise Unavailable("the inference process ended while it loaded the bundle")

    async def receive(self) -> Ready | Failed | Answered | None:
        """The next message; None once the process has ended."""
        try:
            header = await self._reader.readexactly(LENGTH_BYTES)
            return unpack_from_worker(await self._reader.readexactly(int.from_bytes(header, "little")))
        except (asyncio.IncompleteReadError, OSError):
            return None

    def send(self, requests: list[Request]) -> None:
        self._number += 1
        self.in_flight[self._number] = Sent(requests, time.monotonic())
        images = tuple(image for request in requests for image in request.images)
        self._writer.write(pack(Batch(self._number, images)))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self._writer.close()

    async def close(self) -> None:
        """End the process once it has answered what it was sent."""
        while self.in_flight and self.process.returncode is None:
            await asyncio.sleep(0.01)
        self._writer.close()
        try:
            await asyncio.wait_for(self.process.wait(), HANG_S)
        except TimeoutError:
            self.kill()


@dataclass(eq=False)
class Model:
    """A bundle under a name: `answer` requests, `reload` it, `close` it."""

    name: str
    source: str  # as given on the command line; looked up anew by every reload
    config: ServeConfig
    on_batch: Callable[[str, int], None] = lambda name, num_images: None
    state: State = "loading"
    num_restarts: int = 0
    _waiting: deque[Request] = field(default_factory=deque)
    _worker: Worker | None = None
    _image_s: float = 0.0  # moving mean of the network's time
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _reloading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def limits(self) -> ServeLimits:
        return self.config.limits

    @property
    def is_ready(self) -> bool:
        return self.state == "ready"

    @property
    def ready(self) -> Ready:
        """The version that answers now. Unavailable before the first is loaded."""
        if self._worker is None or self._worker.ready is None:
            raise Unavailable("the model is not loaded")
        return self._worker.ready

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    async def load(self) -> None:
        """Load the bundle for the first time. RecogError where it cannot be served."""
        await self.reload()
        self._start(self._dispatch())
        self._start(self._watch())

    async def reload(self) -> None:
        """Load the bundle anew and let it answer from then on; the earlier version keeps answering until then.

        RecogError where it cannot be served: the earlier version stays.
        """
        async with self._reloading:
            worker = await Worker.start(find_bundle(self.source), self.config)
            earlier, self._worker = self._worker, worker
            self.state = "ready"
            self._start(self._receive(worker))
            self._changed.set()
            if earlier is not None:
                self._start(earlier.close())

    async def answer(self, images: Sequence[Image], *, timeout_s: float) -> Part:
        """The answer to 1 to `max_images` images. Unavailable where it is not given in time."""
        if self.state in ("loading", "stopped"):
            raise Unavailable(f"the model '{self.name}' is {self.state}")
        if len(self._waiting) >= self.limits.max_waiting:
            raise Unavailable("too many requests are waiting")
        num_images = sum(len(request.images) for request in self._waiting)
        if num_images and (num_images + len(images)) * self._image_s > timeout_s:
            # else all of them would be answered too late; one that waits alone is taken, so that the estimate can recover
            raise Unavailable("more images are waiting than can be answered before the deadline")
        request = Request(tuple(images), asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._changed.set()
        try:
            async with asyncio.timeout(timeout_s):
                return await request.answer
        except TimeoutError:
            raise Unavailable("the deadline of the request has passed") from None
        finally:
            request.answer.cancel()  # cancelled requests are left out of the next batch

    async def close(self) -> None:
        self.state = "stopped"
        for task in self._tasks:
            task.cancel()
        for request in self._waiting:
            _fail(request, Unavailable("the service is stopping"))
        if self._worker is not None:
            await self._worker.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dispatch(self) -> None:
        """Send batches: at once to a process that waits, and while one is computed, what has gathered after a short delay."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._waiting and (worker := self._free_worker()) is not None:
                if worker.in_flight and sum(len(r.images) for r in self._waiting) < self._batch_size():
                    await asyncio.sleep(self.limits.max_delay_ms / 1000)
                    if worker is not self._free_worker():
                        continue
                requests = self._take()
                if requests:
                    worker.send(requests)

    def _free_worker(self) -> Worker | None:
        worker = self._worker if self.is_ready else None
        return worker if worker is not None and len(worker.in_flight) < MAX_IN_FLIGHT else None

    def _batch_size(self) -> int:
        """Images: as many as take BATCH_S, by what earlier batches took."""
        if not self._image_s:
            return self.limits.max_batch
        return max(1, min(self.limits.max_batch, int(BATCH_S / self._image_s)))

    def _take(self) -> list[Request]:
        """Requests for one batch, without cancelled ones; at least one where there is any."""
        requests: list[Request] = []
        num_images = num_bytes = 0
        while self._waiting:
            request = self._waiting[0]
            if not request.answer.done():
                num_images += len(request.images)
                num_bytes += request.num_bytes
                if requests and (num_images > self._batch_size() or num_bytes > MAX_BATCH_BYTES):
                    break
                requests.append(request)
            self._waiting.popleft()
        return requests

    async def _receive(self, worker: Worker) -> None:
        while isinstance(message := await worker.receive(), Answered):
            sent = worker.in_flight.pop(message.number)
            self._changed.set()
            self._deliver(worker, message, sent.requests)
        if worker.in_flight or worker is self._worker:
            self._lose(worker)
            if worker is self._worker and self.state != "stopped":
                await self._restart()

    def _deliver(self, worker: Worker, message: Answered, requests: list[Request]) -> None:
        num_images = sum(len(request.images) for request in requests)
        self.on_batch(self.name, num_images)
        if message.duration_s:
            share = message.duration_s / max(1, num_images - len(message.errors))
            self._image_s = share if not self._image_s else 0.8 * self._image_s + 0.2 * share
        start = 0
        for request in requests:
            places = range(start, start + len(request.images))
            start = places.stop
            if worker.ready is not None and not request.answer.done():
                request.answer.set_result(Part(worker.ready, message, places))

    def _lose(self, worker: Worker) -> None:
        """The batch that was computed has failed; what was only read waits again, before all others."""
        worker.kill()
        batches = [sent.requests for sent in worker.in_flight.values()]
        worker.in_flight.clear()
        for request in batches[0] if batches else ():
            _fail(request, Unavailable("the inference process ended while it worked on this request"))
        for requests in reversed(batches[1:]):
            self._waiting.extendleft(reversed(requests))
        self._changed.set()

    async def _restart(self) -> None:
        self.state = "restarting"
        back_off_s = _FIRST_BACK_OFF_S
        while self.state == "restarting":
            self.num_restarts += 1
            log.error("%s: the inference process ended; another one is started", self.name)
            try:
                await self.reload()
            except (RecogError, Unavailable, OSError) as error:
                log.error("%s: %s", self.name, error)
                await asyncio.sleep(back_off_s)
                back_off_s = min(2 * back_off_s, _MAX_BACK_OFF_S)

    async def _watch(self) -> None:
        """End an inference process that does not answer."""
        while True:
            await asyncio.sleep(1.0)
            worker = self._worker
            oldest = next(iter(worker.in_flight.values()), None) if worker else None
            if worker and oldest and time.monotonic() - oldest.started > self.limits.deadline_s + HANG_S:
                log.error("%s: the inference process does not answer and is ended", self.name)
                worker.kill()


def _fail(request: Request, error: Unavailable) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)
