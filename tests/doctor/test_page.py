import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

from small_findings import HOSTILE, dataset, findings

from recog.doctor.findings import COLUMNS, Finding, table_rows, write_csv
from recog.doctor.page import MAX_SHOWN, render_findings


def page(found):
    return render_findings(found, dataset(found.names).samples, version="1.0", data="photos")


def payload(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_policy_allows_the_style_and_the_script_of_the_page_and_nothing_else():
    text = page(findings())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)


def test_names_cannot_leave_their_places():
    text = page(findings(names=["a\u202e.png", "<b>.png", '".png', "-2+cmd|x!A1"]))

    class Tags(HTMLParser):
        found: list[str] = []

        def handle_starttag(self, tag, attrs):
            self.found.append(tag)

    Tags().feed(text)
    assert Tags.found.count("script") == 2
    assert "b" not in Tags.found
    assert "\u202e" not in text
    assert HOSTILE not in text
    assert payload(text)["classes"][1] == HOSTILE
    assert payload(text)["rows"][0][0] == "a\u202e.png"


def test_the_rows_of_the_page_are_those_of_the_csv():
    found = findings()
    table = payload(page(found))
    assert table["rows"] == list(table_rows(found))
    assert (table["images"], tuple(table["columns"])) == ([0, 1, 2], COLUMNS)
    lines = write_csv(table_rows(found)).decode().split("\r\n")
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1] == "x/0.png,exclude,,leak,1,error,train,cat,,1,identical files"
    assert len(lines) == 5


def test_a_page_shows_a_bounded_number_of_findings_of_a_kind():
    many = tuple(Finding(kind="dark", reason="dark", images=(i,), score=1.0) for i in range(MAX_SHOWN + 5))
    text = page(findings(len(many), found=many))
    assert text.count("<figure>") == MAX_SHOWN
    assert f"The first {MAX_SHOWN} of {MAX_SHOWN + 5} are shown" in text


def test_nothing_found():
    text = page(replace(findings(), findings=(), shortcuts=(), notes=()))
    assert "Nothing was found." in text
