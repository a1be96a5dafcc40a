"""Addresses of the hub that are refused; downloads from and uploads to a server on this machine that answers as the hub does."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

import recog
from recog.bundle.hub import fetch_bundle, push
from recog.core.errors import BundleError

pytest.importorskip("huggingface_hub")


@pytest.fixture(autouse=True)
def _nobody_listens(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://anna", "expected OWNER/NAME"),
        ("hf://../../etc/passwd", "expected OWNER/NAME"),
        ("hf://anna/digits@../x", "expected a branch, a tag or a commit"),
        ("hf://anna/none", "no connection to 127.0.0.1: .* offline, name the folder of a bundle"),
    ],
)
def test_what_is_no_bundle_of_the_hub(address, message):
    with pytest.raises(BundleError, match=message):
        fetch_bundle(address)


pytest.importorskip("huggingface_hub")


def commit_of(files):
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()  # noqa: S324  a name, as git's


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's HTTP interface that an upload and a download use."""

    def log_message(self, *_):
        pass

    def answer(self, table, status=200):
        body = json.dumps(table).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        state = self.server.state
        state.requests.append((self.path, self.headers.get("Authorization")))
        if self.path == "/api/repos/create":
            state.created = json.loads(body)
            self.answer({"url": f"http://{self.headers['Host']}/anna/digits", "name": "anna/digits"})
        elif self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif "/commit/main" in self.path:
            for line in body.splitlines():
                operation = json.loads(line)
                if operation["key"] == "file":
                    value = operation["value"]
                    state.files[value["path"]] = base64.b64decode(value["content"])
            oid = commit_of(state.files)
            self.answer(
                {
                    "success": True,
                    "commitOid": oid,
                    "commitUrl": f"http://{self.headers['Host']}/anna/digits/commit/{oid}",
                }
            )
        else:
            self.answer({"errors": [], "warnings": []})  # the check of the model card

    def do_GET(self):  # noqa: N802
        state = self.server.state
        state.requests.append((self.path, self.headers.get("Authorization")))
        if found := re.fullmatch(r"/anna/digits/resolve/([^/]+)/(.+)", self.path):
            self.send_file(state.files.get(found[2]))
        elif self.path.startswith("/api/models/anna/digits"):
            siblings = [{"rfilename": name} for name in state.files]
            self.answer(
                {
                    "id": "anna/digits",
                    "modelId": "anna/digits",
                    "sha": commit_of(state.files),
                    "siblings": siblings,
                    "private": not state.is_public,
                }
            )
        else:
            self.answer({"error": "Repository not found"}, 404)

    do_HEAD = do_GET  # noqa: N815

    def send_file(self, data):
        if data is None:
            self.answer({"error": "Entry not found"}, 404)
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit_of(self.server.state.files))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.state = SimpleNamespace(files={}, requests=[], created={}, is_public=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield server.state
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_dry_run_sends_nothing_and_names_what_is_private(digits_run, hub):
    plan = push(digits_run.folder, "anna/digits")
    assert hub.requests == []
    assert plan.address is None
    assert dict(plan.files)["model.onnx"] == (digits_run.bundle / "model.onnx").stat().st_size
    assert plan.num_reference_images == 16


def test_what_is_pushed_is_loaded_and_predicts_alike(digits_run, hub, monkeypatch):
    done = push(digits_run.folder, "anna/digits", yes=True, private=True)
    assert hub.files.keys() == {path.name for path in digits_run.bundle.iterdir()}
    assert all((digits_run.bundle / name).read_bytes() == data for name, data in hub.files.items())
    assert hub.created.get("visibility") == "private" or hub.created.get("private") is True
    assert {token for path, token in hub.requests if "commit" in path} == {"Bearer hf_secret"}
    assert done.address == f"hf://anna/digits@{commit_of(hub.files)}"
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    expected = recog.load(digits_run.bundle).predict_proba(list(images))
    assert (recog.load("hf://anna/digits").predict_proba(list(images)) == expected).all()
    # a commit that is in the cache needs no hub
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert (recog.load(done.address).predict_proba(list(images)) == expected).all()
    assert recog.verify(done.address).num_reference_images == 16


def test_a_private_push_to_a_public_repository_uploads_nothing(digits_run, hub):
    hub.is_public = True
    with pytest.raises(BundleError, match="is public, and --private makes new repositories private only; nothing was"):
        push(digits_run.bundle, "anna/digits", yes=True, private=True)
    assert hub.files == {}


def test_a_changed_file_is_refused_and_nothing_stays(digits_run, hub, tmp_path):
    push(digits_run.folder, "anna/digits", yes=True)
    hub.files["model.onnx"] = hub.files["model.onnx"][:-1] + b"x"
    with pytest.raises(BundleError, match=r"model.onnx is not the file that was sealed"):
        recog.load("hf://anna/digits")
    assert not list((tmp_path / "cache").rglob("model.onnx"))
