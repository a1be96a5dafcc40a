"""Who may use the service, and the log of what was asked: a layer around the application that every request passes."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import ipaddress
import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recog.core.errors import ConfigError
from recog.serve.config import ServeConfig

log = logging.getLogger("recog.serve")

OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})  # for probes, which carry no token
MIN_TOKEN = 16  # characters
CLIENT_LEFT = 499  # in the log only, as nginx has it
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]", "testserver")
_MAX_LOGGED_PATH = 200


def error_response(status: int, reason: str, *, headers: dict[str, str] | None = None) -> Response:
    """`{"error": reason}`, in ASCII, so that nothing in `reason` can fail to be encoded."""
    return Response(json.dumps({"error": reason}), status, headers, media_type="application/json")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_access(config: ServeConfig, *, is_insecure: bool) -> None:
    """ConfigError where the service would be open to other machines without a token, or the token is too weak."""
    if config.token and (len(config.token) < MIN_TOKEN or not config.token.isascii() or not config.token.isprintable()):
        raise ConfigError(
            f"the token has {len(config.token)} characters; expected {MIN_TOKEN} or more, printable ASCII, such as the output of "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))'."
        )
    if not config.token and not is_insecure and not is_loopback(config.host):
        raise ConfigError(
            f"--host {config.host} lets other machines use the service. Set a token (--token-file FILE or RECOG_TOKEN), or allow "
            "it for everybody with --insecure."
        )


class Gate:
    """Checks host, token and origin, gives each request an id, logs it, and answers an unhandled exception with 500."""

    def __init__(
        self,
        app: ASGIApp,
        config: ServeConfig,
        on_done: Callable[[str, int, float], None] = lambda route, status, seconds: None,
    ) -> None:
        self._app = app
        self._config = config
        self._token = config.token.encode()
        self._on_done = on_done
        self.is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        status = CLIENT_LEFT

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                found = MutableHeaders(scope=message)
                found["X-Request-ID"] = request_id
                found["X-Content-Type-Options"] = "nosniff"
                if self.is_draining or status == 408:
                    found["Connection"] = "close"
            await send(message)

        refusal = self._refuse(scope, headers)
        try:
            await (refusal or self._app)(scope, receive, send_marked)
        except Exception:  # noqa: BLE001  the last place before the server, which would print it and close the connection
            log.exception("request %s failed", request_id)
            if status == CLIENT_LEFT:
                await error_response(500, "internal error")(scope, receive, send_marked)
        finally:
            self._finish(scope, status, request_id, time.perf_counter() - started)

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that is not allowed."""
        if not self._is_known_host(headers.getlist("host")):
            return error_response(400, "the Host header names another host")
        if scope["path"] not in OPEN_PATHS and self._token and not self._has_token(headers.getlist("authorization")):
            return error_response(
                401,
                "a valid token is needed",
                headers={"WWW-Authenticate": 'Bearer, Basic realm="recog", charset="UTF-8"'},
            )
        origin = headers.get("origin")
        if (
            origin is not None
            and scope["method"] not in ("GET", "HEAD")
            and urlsplit(origin).netloc != headers.get("host")
        ):
            return error_response(403, "requests from pages of other hosts are refused")
        return None

    def _is_known_host(self, values: list[str]) -> bool:
        if len(values) != 1:
            return False
        name = re.sub(r":\d*$", "", values[0].lower())
        allowed = self._config.allowed_hosts
        if not allowed and is_loopback(self._config.host):
            allowed = _LOCAL_NAMES
        return not allowed or name in allowed

    def _has_token(self, values: list[str]) -> bool:
        """Whether the one Authorization header carries the token: as Bearer, or, for browsers, as the password of Basic."""
        scheme, _, value = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        given = value.strip().encode("utf-8", "replace")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given, self._token)

    def _finish(self, scope: Scope, status: int, request_id: str, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._on_done(route, status, seconds)
        if self._config.access_log:
            _log_access(
                {
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    "request_id": request_id,
                    "method": scope["method"],
                    "path": scope["path"][:_MAX_LOGGED_PATH],  # without the query, where a client may have put a token
                    "status": status,
                    "ms": round(1000 * seconds, 2),
                    **scope.get("state", {}).get("logged", {}),
                }
            )


def _log_access(row: dict[str, Any]) -> None:
    """One line of JSON on stderr. A log that cannot be written stops no request."""
    with contextlib.suppress(OSError):
        sys.stderr.write(json.dumps(row) + "\n")
