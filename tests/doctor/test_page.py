import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from recog.data.dataset import Dataset, Sample
from recog.doctor.findings import COLUMNS, KINDS, Finding, Findings, Shortcut, excluded_copies, table_rows, write_csv
from recog.doctor.page import MAX_SHOWN, render_findings

HOSTILE = "</script><script>alert(1)</script>"


def dataset(names):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    splits = ["train", "test"]
    samples = tuple(
        Sample(name=name, source=image, labels=(i % 2,), split=splits[i % 2]) for i, name in enumerate(names)
    )
    return Dataset(name="d", layout="folders", class_names=("cat", HOSTILE), samples=samples)


def findings(num_images=4, *, found=None, names=None):
    names = names or [f"x/{i}.png" for i in range(num_images)]
    found = found or (
        Finding(kind="leak", reason="identical files", images=(0, 1), score=1.0, actions={0: "exclude"}),
        Finding(kind="label_error", reason="looks like", images=(2,), score=0.9, suggested_label=HOSTILE),
        Finding(kind="small_class", reason="'cat' has 2 images"),
    )
    shortcut = Shortcut(fact="file size", auroc=0.7, worst_auroc=0.9, worst_class=HOSTILE)
    samples = dataset(names).samples
    return Findings(
        data="d",
        task="multiclass",
        class_names=("cat", HOSTILE),
        names=tuple(names),
        labels=tuple(("cat", HOSTILE)[sample.label] for sample in samples),
        splits=tuple(sample.split for sample in samples),
        findings=found,
        shortcuts=(shortcut,),
        notes=("dark: 3 of 4 images",),
    )


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


def test_names_that_a_spreadsheet_would_run_are_quoted_in_the_csv():
    found = findings(names=["=1.png", "b", "c", "d"])
    assert next(table_rows(found))[0] == "'=1.png"


def test_counts_and_json():
    found = findings()
    assert found.counts == {"leak": 1, "label_error": 1, "small_class": 1}
    table = json.loads(json.dumps(found.to_dict()))
    assert table["findings"][0]["images"] == ["x/0.png", "x/1.png"]
    assert table["findings"][0]["actions"] == {"x/0.png": "exclude"}
    assert table["shortcuts"][0]["worst_auroc"] == 0.9


def test_of_copies_those_outside_the_last_split_are_excluded():
    data = dataset("abcd")  # train, test, train, test
    assert excluded_copies(data, [0, 1, 2]) == {0: "exclude", 2: "exclude"}
    assert excluded_copies(data, [0, 2]) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_advice_that_ends_as_a_sentence(kind):
    assert KINDS[kind].advice.endswith(".")
