"""The page: its files, its policy, and the report of a bundle."""

from __future__ import annotations

import re

from service import serving

from recog.serve.page import CONTENT_SECURITY_POLICY


def test_the_page_and_its_files(service):
    page = service.get("/")
    assert page.headers["content-type"].startswith("text/html")
    text = page.body.decode()
    local = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', text)
    assert {"page/app.css", "page/app.js"} <= set(local)
    assert [link for link in local if ":" in link] == []  # nothing comes from elsewhere
    for link in local:
        reply = service.get(f"/{link}")
        assert reply.status == 200
        assert b"://" not in re.sub(rb"http://www\.w3\.org", b"", reply.body) or link in ("openapi.json", "metrics")
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", text)  # the policy would refuse them


def test_every_file_has_the_policy(service):
    for path in ("/", "/page/app.js", "/page/service.js", "/page/app.css"):
        headers = service.get(path).headers
        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert headers["x-content-type-options"] == "nosniff"
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'self'; ")
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_scripts_write_no_html(service):
    for name in ("app.js", "service.js"):
        script = service.get(f"/page/{name}").body.decode()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)


def test_other_files_are_not_there(service):
    for name in ("index.html", "app.py", "..%2fapp.py", "../app.py", "__init__.py"):
        assert service.get(f"/page/{name}").status == 404


def test_the_models(service):
    (model,) = service.get("/models").json()
    assert (model["name"], model["task"], model["has_report"]) == ("digits", "multiclass", True)
    assert model["class_names"] == [str(i) for i in range(10)]
    assert (model["max_images"], model["max_body_bytes"]) == (16, 20 << 20)


def test_the_report_has_an_origin_of_its_own(service, golden):
    reply = service.get("/report?model=digits")
    assert reply.body == (golden.parent / "report.html").read_bytes()
    assert reply.headers["content-security-policy"].startswith("sandbox ")
    assert "allow-same-origin" not in reply.headers["content-security-policy"]
    assert service.get("/report?model=other").status == 404


def test_a_bundle_alone_has_no_page(golden, tmp_path):
    import shutil

    folder = shutil.copytree(golden, tmp_path / "digits")
    with serving(str(folder), "--quiet") as service:
        assert service.get("/models").json()[0]["has_report"] is False
        assert service.get("/report").status == 404
