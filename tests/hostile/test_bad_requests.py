"""Kinds 59 to 74: a bad request is answered with a 4xx and a reason, soon, and the service goes on as before."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections import Counter
from pathlib import Path

import bad_requests
import ledger
import pytest
from bad_requests import KINDS, LIMIT, TOKEN, Case, all_cases, form, png, predict
from service import serving

GOLDEN = Path(__file__).parents[1] / "golden" / "digits-format-1-trust"
MAX_SECONDS = 10.0  # of a shared machine; a request that hung would wait for the deadline of 30
MAX_GROWTH_MIB = 32
INTERNALS = re.compile(
    r"Traceback|File \"|site-packages|/recog/|\.py\b|0x[0-9a-f]{8}|worker|numpy|pydantic|starlette", re.I
)


@pytest.fixture(scope="module")
def service():
    limits = ["--limit", f"max_body_bytes={LIMIT}", "--limit", "header_s=1"]
    with serving(f"digits={GOLDEN}", "--quiet", *limits, env={"RECOG_TOKEN": TOKEN}) as running:
        yield running


def attempt(service, case: Case) -> str:
    """'refused', 'answered' or 'closed', once all that is promised was checked."""
    begun = time.monotonic()
    answer = service.raw(case.data, leave=0 in case.statuses)
    assert time.monotonic() - begun < MAX_SECONDS, case.name
    status = int(answer[9:12]) if answer else 0
    assert status in case.statuses, (case.name, answer[:300])
    if not answer:
        return "closed"
    head, _, body = answer.partition(b"\r\n\r\n")
    assert not INTERNALS.search(body.decode("utf-8", "replace")), (case.name, body[:500])
    if status == 200:
        return "answered"
    length = re.search(rb"content-length: (\d+)", head, re.I)
    table = json.loads(body[: int(length[1])])
    assert list(table) == ["error"], case.name
    assert table["error"], case.name
    return "refused"


CASES = list(all_cases())


@pytest.mark.parametrize("kind", KINDS)
def test_kind(service, kind):
    cases = [case for case in CASES if case.kind == kind]
    assert cases
    for case in cases:
        attempt(service, case)
    good = service.raw(predict(png()))
    assert good.startswith(b"HTTP/1.1 200"), good[:300]


def test_fifteen_answers_and_one_error(service):
    (case,) = [case for case in CASES if case.name == "15 good and 1 bad"]
    body = service.raw(case.data).partition(b"\r\n\r\n")[2]
    answers = json.loads(body)["predictions"]
    assert ["error" in answer for answer in answers] == [False] * 15 + [True]


def test_slow_headers_and_bodies_are_given_up(service):
    for begun, wanted in (
        (b"POST /predict HTTP/1.1\r\nHost: loc", b""),
        (predict(png(), headers=("X-Request-Timeout: 0.5",))[:-10], b"HTTP/1.1 408"),
    ):
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
            connection.sendall(begun)
            assert connection.recv(1000).startswith(wanted)


def memory_mib(pids: list[int]) -> float:
    """Resident memory of the processes together."""
    return sum(
        int(line.split()[1]) / 1024
        for pid in pids
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    )


@pytest.mark.slow
def test_bad_requests_leave_no_memory_behind(service):
    pids = [service.process.pid, *service.workers()]
    for case in CASES:
        attempt(service, case)
    before, files = memory_mib(pids), len(os.listdir(f"/proc/{pids[0]}/fd"))
    for _ in range(10):
        for case in CASES:
            attempt(service, case)
    assert memory_mib(pids) - before <= MAX_GROWTH_MIB
    assert len(os.listdir(f"/proc/{pids[0]}/fd")) <= files + 2
    assert service.workers() == pids[1:]  # not one inference process was lost


TRAVERSALS = [
    prefix + path
    for prefix in ("/page/", "/", "/report?model=", "/v2/models/")
    for path in (
        "../app.py", "..%2fapp.py", "%2e%2e/app.py", "%2e%2e%2fapp.py", "%252e%252e%252fapp.py", "..%5capp.py", "..\\app.py",
        "....//app.py", "app.js%00.png", "/etc/passwd", "%2fetc%2fpasswd", "\\\\host\\share", "C:%5cwindows", "file:///etc/passwd",
    )
]  # fmt: skip


def test_no_path_of_a_client_is_opened(service):
    assert len(TRAVERSALS) >= 40
    for target in TRAVERSALS:
        answer = service.raw(bad_requests.request(target, method="GET", kind=""))
        assert int(answer[9:12]) in (400, 404, 405), (target, answer[:200])
        assert b"root:" not in answer
        assert b"import" not in answer


def test_names_of_files_are_repeated_and_nothing_more(service):
    body = service.raw(form([("../../x", png())])).partition(b"\r\n\r\n")[2]
    assert json.loads(body)["predictions"][0]["name"] == "../../x"


def test_ledger(service, capsys):
    """`make ledger` prints it."""
    verdicts: dict[int, Counter[str]] = {}
    for case in CASES:
        verdicts.setdefault(case.kind, Counter())[attempt(service, case)] += 1
    assert sorted(verdicts) == list(KINDS)
    total = sum(verdicts.values(), Counter())
    with capsys.disabled():
        print("", *ledger.lines(verdicts), sep="\n")
        print(
            f"bad requests: {len(verdicts)} kinds, {len(CASES)} cases: {total['refused']} refused with a reason, "
            f"{total['answered']} "
            f"answered as they are allowed, {total['closed']} closed; 0 crashed, hung or wrong"
        )
