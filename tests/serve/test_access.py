"""Who may use the service: hosts, tokens, origins, and what the log holds of it."""

from __future__ import annotations

import base64

import pytest
from service import serving
from starlette.testclient import TestClient

from recog.core.errors import ConfigError
from recog.serve.access import Gate, check_access, error_response, is_loopback
from recog.serve.app import Service, build_app
from recog.serve.config import ServeConfig

TOKEN = "a-token-of-24-characters"
OPEN = {"/v2/health/live", "/v2/health/ready"}


async def answering(scope, receive, send):
    await error_response(418, "reached")(scope, receive, send)


def client(**settings):
    return TestClient(Gate(answering, ServeConfig(access_log=False, **settings)))


def test_error_bodies_are_ascii_whatever_they_quote():
    assert error_response(400, "name \ud800 ☃").body == b'{"error": "name \\ud800 \\u2603"}'


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True)]
    + [("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.org", False), ("", False)],
)
def test_loopback(host, expected):
    assert is_loopback(host) is expected


def test_other_hosts_need_a_token():
    check_access(ServeConfig(), is_insecure=False)
    check_access(ServeConfig(host="0.0.0.0", token=TOKEN), is_insecure=False)
    check_access(ServeConfig(host="0.0.0.0"), is_insecure=True)
    with pytest.raises(ConfigError, match="--token-file"):
        check_access(ServeConfig(host="0.0.0.0"), is_insecure=False)
    for weak in ("short", "x" * 15, "ä" * 20, "a b\n" * 9):
        with pytest.raises(ConfigError, match="16 or more"):
            check_access(ServeConfig(token=weak), is_insecure=False)
    assert TOKEN not in repr(ServeConfig(token=TOKEN))


@pytest.mark.parametrize(
    "header",
    [f"Bearer {TOKEN}", f"bearer  {TOKEN}", "Basic " + base64.b64encode(f"any:{TOKEN}".encode()).decode()],
)
def test_the_token_as_bearer_or_basic(header):
    assert client(token=TOKEN).get("/x", headers={"Authorization": header}).status_code == 418


@pytest.mark.parametrize(
    "header",
    ["", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", f"Token {TOKEN}", "Basic %%%", "Basic "]
    + ["Bearer " + "x" * 1_000_000, "Basic " + base64.b64encode(TOKEN.encode()).decode()],
)
def test_other_tokens_are_refused(header):
    reply = client(token=TOKEN).get("/x", headers={"Authorization": header})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_two_tokens_or_one_in_the_query_are_refused():
    asking = client(token=TOKEN)
    twice = [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")]
    assert asking.get("/x", headers=twice).status_code == 401
    assert asking.get(f"/x?token={TOKEN}&access_token={TOKEN}").status_code == 401


def test_every_route_but_the_probes_needs_the_token(golden):
    config = ServeConfig(token=TOKEN, access_log=False)
    gate = build_app(Service({"digits": str(golden)}, config))
    asking = TestClient(gate, raise_server_exceptions=False)
    routes = [route for route in gate._app.routes if hasattr(route, "methods")]
    assert len(routes) > 10
    for route in routes:
        path = route.path.format(model="digits", version="1", file="app.js")
        for method in route.methods:
            status = asking.request(method, path).status_code
            assert (status != 401) if path in OPEN else (status == 401), path


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "LOCALHOST", "[::1]:80"])
def test_names_of_this_machine(host):
    assert client().get("/", headers={"Host": host}).status_code == 418


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil", "", "localhost@evil", "10.0.0.1"]
)
def test_other_names_are_refused_on_loopback(host):
    assert client().get("/", headers={"Host": host}).status_code == 400


def test_names_that_are_allowed():
    asking = client(host="0.0.0.0", allowed_hosts=("photos.example",))
    assert asking.get("/", headers={"Host": "photos.example:443"}).status_code == 418
    assert asking.get("/", headers={"Host": "localhost"}).status_code == 400
    assert client(host="0.0.0.0").get("/", headers={"Host": "any.example"}).status_code == 418


def test_pages_of_other_hosts_cannot_post():
    headers = {"Host": "localhost:8000"}
    assert client().post("/", headers={**headers, "Origin": "http://localhost:8000"}).status_code == 418
    for origin in ("http://evil.example", "null", "http://localhost:9000", "http://localhost"):
        assert client().post("/", headers={**headers, "Origin": origin}).status_code == 403
        assert client().get("/", headers={**headers, "Origin": origin}).status_code == 418


def test_no_answer_allows_other_origins():
    reply = client().get("/", headers={"Origin": "http://evil.example"})
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_the_log_has_neither_tokens_nor_queries(golden, digits):
    with serving(f"digits={golden}", env={"RECOG_TOKEN": TOKEN}) as service:
        assert service.predict(digits[0]).status == 401
        reply = service.predict(digits[0], f"?model=digits&token={TOKEN}", Authorization=f"Bearer {TOKEN}")
        assert reply.status == 200
        assert service.get("/v2/health/ready").status == 200
        assert [row["status"] for row in service.logged(2, "/predict")] == [401, 200]
        assert TOKEN not in service.log.read_text()
