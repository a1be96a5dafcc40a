"""The process: start, signals, slow clients."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from service import GOLDEN, serving

from recog.core.errors import ConfigError
from recog.serve.server import open_socket


def test_a_port_in_use_is_an_error():
    with open_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1, port {port}"):
            open_socket("127.0.0.1", port)
    with pytest.raises(ConfigError, match="cannot listen on no.such.host.invalid"):
        open_socket("no.such.host.invalid", 0)


def test_live_before_the_model_is_loaded(golden):
    with serving(f"digits={golden}", wait=False) as service:
        while True:
            try:
                assert service.get("/v2/health/live").json() == {"live": True}
                break
            except OSError:
                time.sleep(0.01)
        service.wait_ready()
        assert "predictions checked on 16 images of the bundle" in service.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_with_all_answered(golden, digits, number):
    with serving(f"digits={golden}", "--quiet", "--limit", "drain_s=1") as service:
        (worker,) = service.workers()
        os.kill(worker, signal.SIGSTOP)
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(service.predict(digits[1]))) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        service.process.send_signal(number)
        if number == signal.SIGTERM:
            service.wait_ready(wanted=False, limit_s=0.9)
            late = threading.Thread(target=lambda: replies.append(service.predict(digits[1])))
            late.start()
            threads.append(late)
            time.sleep(0.3)
        os.kill(worker, signal.SIGCONT)
        for thread in threads:
            thread.join(30)
        assert service.process.wait(30) == 0
        assert [reply.status for reply in replies] == [200] * len(threads)
        assert not os.path.exists(f"/proc/{worker}")


def test_sighup_loads_the_bundle_anew(golden, digits, tmp_path):
    folder = shutil.copytree(golden, tmp_path / "digits")
    with serving(f"digits={folder}", "--quiet") as service:
        before = service.predict(digits[0]).json()["version"]
        (folder / "recog.json").write_text("{}")
        service.process.send_signal(signal.SIGHUP)
        while "earlier version stays" not in service.log.read_text():
            time.sleep(0.02)
        assert service.predict(digits[0]).json()["version"] == before
        shutil.rmtree(folder)
        shutil.copytree(GOLDEN.parent / "digits-format-1", folder)
        service.process.send_signal(signal.SIGHUP)
        while f"replaces {before}" not in service.log.read_text():
            time.sleep(0.02)
        assert service.predict(digits[0]).json()["version"] != before


def test_the_inference_process_ends_with_the_service(golden):
    with serving(f"digits={golden}", "--quiet") as service:
        (worker,) = service.workers()
        service.process.kill()
        service.process.wait()
        for _ in range(500):
            if not os.path.exists(f"/proc/{worker}"):
                break
            time.sleep(0.01)
        assert not os.path.exists(f"/proc/{worker}")


def test_no_process_of_the_service_loads_what_trains(service):
    for pid in (service.process.pid, *service.workers()):
        loaded = Path(f"/proc/{pid}/maps").read_text()
        assert "onnxruntime" in loaded or pid == service.process.pid
        assert not [name for name in ("/torch/", "/sklearn/", "/pandas/", "/matplotlib/") if name in loaded]


def test_a_header_that_never_ends_is_given_up(golden):
    with serving(f"digits={golden}", "--quiet", "--limit", "header_s=0.5") as service:
        for first in (b"", b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
                connection.sendall(first)
                if first:
                    assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
                connection.sendall(b"GET / HTT")
                while connection.recv(65_536):
                    pass  # until the service closes
        assert service.get("/v2").status == 200


def test_what_is_no_http_is_an_error_in_json(service):
    answer = service.raw(b"\0\0\0 nonsense\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.endswith(b'{"error": "Invalid HTTP request received"}')
    assert service.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000).startswith(b"HTTP/1.1 400")


def test_answers_on_a_kept_connection_are_sent_at_once():
    """Without TCP_NODELAY each waits for the acknowledgement of the one before, which a client delays by about 40 ms."""

    async def nodelay_of_a_connection():
        found = asyncio.get_running_loop().create_future()

        async def answer(_, writer):
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with open_socket("127.0.0.1", 0) as listener:
            server = await asyncio.start_server(answer, sock=listener)
            async with server:
                _, writer = await asyncio.open_connection(*listener.getsockname())
                writer.close()
                return await asyncio.wait_for(found, 10)

    assert asyncio.run(nodelay_of_a_connection()) != 0
