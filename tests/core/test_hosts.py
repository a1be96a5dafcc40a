"""Hosts that answer, refuse, hang or do not exist, without any network but this machine's own."""

import contextlib
import http.server
import socket
import threading

import pytest

from recog.core import hosts
from recog.core.hosts import why_unreachable


@pytest.fixture
def no_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server():
    """Answers /: its status is set by the test."""

    class Handler(http.server.BaseHTTPRequestHandler):
        status = 200

        def do_HEAD(self):  # noqa: N802  http.server's name
            self.send_response(Handler.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield Handler, f"http://127.0.0.1:{running.server_port}/a/file"
        running.shutdown()


@pytest.mark.parametrize("status", [200, 401, 403, 404, 405])
def test_a_host_that_answers_is_reachable(server, no_proxy, status):
    handler, url = server
    handler.status = status
    assert why_unreachable(url) is None


@pytest.mark.parametrize("status", [407, 502, 503])
def test_a_host_or_proxy_that_fails_is_not(server, no_proxy, status):
    handler, url = server
    handler.status = status
    assert why_unreachable(url) == f"no connection to 127.0.0.1: HTTP status {status}"


def test_a_closed_port_and_a_proxy_that_does_not_exist(no_proxy, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}"
    assert why_unreachable(closed) == "no connection to 127.0.0.1: Connection refused"
    monkeypatch.setenv("HTTPS_PROXY", closed)
    assert why_unreachable("https://example.org") == "no connection to example.org: Connection refused"


@pytest.mark.parametrize("accepts", [True, False])
def test_a_silent_host_is_asked_once_within_the_deadline(accepts, no_proxy, monkeypatch):
    """One that accepts the connection and sends nothing, and one that leaves the connection open."""
    monkeypatch.setattr(hosts, "DEADLINE_S", 0.2)
    with contextlib.ExitStack() as opened:
        silent = opened.enter_context(socket.socket())
        silent.bind(("127.0.0.1", 0))
        silent.listen(4 if accepts else 0)
        if not accepts:  # a full queue: further connections get no answer
            opened.enter_context(socket.create_connection(silent.getsockname()))
        reason = why_unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}")
        silent.settimeout(1)
        connections = [opened.enter_context(silent.accept()[0])]
        silent.settimeout(0)
        with pytest.raises(BlockingIOError):
            connections.append(silent.accept()[0])
    assert reason in ("no connection to 127.0.0.1: no answer within 0.2 s", "no connection to 127.0.0.1: timed out")


def test_the_deadline_leaves_half_of_four_seconds_for_the_command():
    assert hosts.DEADLINE_S == 2  # of "a missing hub within 4 s", interpreter and imports included
