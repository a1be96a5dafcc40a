"""Settings of the HTTP service."""

from __future__ import annotations

from dataclasses import dataclass, field

from recog.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ServeLimits:
    """What a request may cost. Above: a 4xx, or 503 where the service is busy."""

    max_body_bytes: int = 20 << 20
    max_images: int = 16  # per request
    max_parts: int = 32  # of a multipart body
    max_part_header_bytes: int = 8 << 10
    max_waiting: int = 256  # requests per bundle that wait for the network; above: 503
    max_open: int = 1024  # requests that are read or waiting, over all bundles; above: 503
    max_open_bytes: int = 512 << 20  # of the bodies that are held at one time; above: 503
    max_batch: int = 64  # images
    max_delay_ms: float = 5.0  # how long a batch waits for more requests while the network is busy
    deadline_s: float = 30.0  # from the first byte of a request to its answer
    header_s: float = 10.0  # to send the header of a request
    drain_s: float = 2.0  # after SIGTERM, new requests are still answered for so long

    def __post_init__(self) -> None:
        for name in ("max_delay_ms", "drain_s"):
            if not 0 <= getattr(self, name) <= 60_000:
                raise ConfigError(f"--limit {name} is {getattr(self, name)}; it must be from 0 to 60000.")
        for name, value in vars(self).items():
            if name not in ("max_delay_ms", "drain_s") and not 0 < value <= 1 << 40:
                raise ConfigError(f"--limit {name} is {value}; it must be above 0.")
        if self.max_batch < self.max_images:
            raise ConfigError(
                f"--limit max_batch is {self.max_batch} and max_images {self.max_images}; a request is answered in one "
                "batch, so max_batch must be as large."
            )


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Where the service listens and who may use it."""

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free port
    token: str = field(default="", repr=False)  # empty: none is asked for
    allowed_hosts: tuple[str, ...] = ()  # names in the Host header; empty: those of this machine on loopback, else all
    engine: str = "auto"
    num_threads: int | None = None
    access_log: bool = True
    limits: ServeLimits = field(default_factory=ServeLimits)
