"""The process of the service: its socket, its signals, and the server around the application."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from types import FrameType
from typing import Any, ClassVar

import h11
import uvicorn
from prometheus_client import disable_created_metrics
from uvicorn.protocols.http.h11_impl import H11Protocol

from recog.core.errors import ConfigError, RecogError
from recog.serve.app import Service, build_app
from recog.serve.config import ServeConfig
from recog.serve.inference import Model, Unavailable

log = logging.getLogger("recog.serve")

KEEP_ALIVE_S = 75
_STOP_S = 28  # from SIGTERM to the end, below the 30 s after which orchestrators kill
_BACKLOG = 1024


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket. ConfigError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host.strip("[]"), port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (while")[0]
        raise ConfigError(f"cannot listen on {host}, port {port}: {reason}. Choose another --port or --host.") from None
    # asyncio sets TCP_NODELAY only on sockets that state their protocol; without it each answer on a connection that is kept
    # waits some 40 ms for the acknowledgement of the one before
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())


def run(
    bundles: Mapping[str, str],
    config: ServeConfig,
    listener: socket.socket,
    on_ready: Callable[[Mapping[str, Model]], None] = lambda models: None,
) -> None:
    """Serve `bundles` {name: bundle, run folder or name} on `listener` until SIGTERM or SIGINT; SIGHUP loads them anew.

    `on_ready` is called once all of them answer. Raises the RecogError of a bundle that cannot be served from the start.
    """
    _write_logs_to_stderr()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter, with the time at which it began
    server = _Server(bundles, config, on_ready)
    with listener:
        asyncio.run(server.serve(sockets=[listener]))
    if server.failure is not None:
        raise server.failure


def _write_logs_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class _Server(uvicorn.Server):
    """uvicorn's server, which drains before it stops, and whose bundles can be loaded anew."""

    def __init__(
        self, bundles: Mapping[str, str], config: ServeConfig, on_ready: Callable[[Mapping[str, Model]], None]
    ) -> None:
        self.service = Service(bundles, config)
        self.failure: RecogError | None = None
        self._limits = config.limits
        self._on_ready = on_ready
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate = build_app(self.service, self._start)
        super().__init__(
            uvicorn.Config(
                self._gate,
                http=type("Protocol", (_Protocol,), {"header_s": config.limits.header_s}),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, int(_STOP_S - config.limits.drain_s)),
            )
        )

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._reload()))
        self._spawn(self._load())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self) -> None:
        try:
            for model in self.service.models.values():  # one by one: each takes all cores
                await model.load()
        except (RecogError, Unavailable) as error:
            self.failure = error if isinstance(error, RecogError) else RecogError(f"{model.name}: {error}.")
            self.should_exit = True
            return
        self._on_ready(self.service.models)

    async def _reload(self) -> None:
        for model in self.service.models.values():
            try:
                before = model.ready.version
                await model.reload()
                log.info("%s: version %s replaces %s", model.name, model.ready.version, before)
            except (RecogError, Unavailable) as error:
                log.error("%s: not reloaded, the earlier version stays: %s", model.name, error)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM not ready at once, and stopped a little later, when no new requests arrive; at a second signal at once."""
        if self.service.is_draining:
            self.should_exit = self.force_exit = True
            return
        self.service.is_draining = self._gate.is_draining = True
        if sig == signal.SIGINT:
            self.should_exit = True
            return
        loop = asyncio.get_event_loop()
        loop.call_soon_threadsafe(loop.call_later, self._limits.drain_s, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


class _Protocol(H11Protocol):
    """HTTP/1.1 that gives a client `header_s` seconds to send a header, or the rest of a body that is not wanted any more."""

    header_s: ClassVar[float]
    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._overdue = self.loop.call_later(self.header_s, self._give_up)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        is_unwanted = self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE
        if not is_begun and not is_unwanted:
            self._cancel()
        elif self._overdue is None:
            self._overdue = self.loop.call_later(self.header_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        super().connection_lost(exc)

    def _cancel(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        body = json.dumps({"error": msg.rstrip(".")}).encode()
        headers = [
            ("content-type", "application/json"),
            ("connection", "close"),
            ("content-length", str(len(body))),
        ]
        with contextlib.suppress(h11.LocalProtocolError):  # an answer has begun already
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event))
        self.transport.close()
