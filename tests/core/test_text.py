import json
import tomllib

import pytest
import tomli_w

from recog.core.text import escape_json, escape_toml, visible


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("daisy", "daisy"),
        ("a\nb\tc\x1b[31m", r"a\nb\tc\x1b[31m"),
        ("invoice\u202egnp.exe", r"invoice\u202egnp.exe"),  # would read invoiceexe.png
        ("a\u2028b\u200bc\ufeff", r"a\u2028b\u200bc\ufeff"),
        ("\udcff.jpg", r"\udcff.jpg"),  # how Python reads a file name that is not UTF-8
        ("שלום 日本語 é", "שלום 日本語 é"),
        ("👩\u200d🔬", "👩\u200d🔬"),
    ],
)
def test_visible(name, shown):
    assert visible(name) == shown
    visible(name).encode("utf-8")  # can be written to any file


def test_every_control_and_format_character_is_escaped_unless_it_is_drawn():
    controls = (*range(0x20), *range(0x7F, 0xA0))
    formats = (0x200B, *range(0x202A, 0x202F), *range(0x2060, 0x2065), *range(0x2066, 0x2070), 0xFEFF)
    for number in (*controls, *formats):
        assert visible(f"a{chr(number)}b").isascii(), hex(number)
    assert visible("\u0600\u06dd") == "\u0600\u06dd"  # Arabic number signs
    assert visible("\U000e0041") == r"\U000e0041"  # tags, which hide text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("pay\u200dpal", r"pay\u200dpal"),  # Latin needs no joiner
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),  # Persian
        ("\u200dx", r"\u200dx"),
    ],
)
def test_joiners_stay_where_a_script_needs_them(name, shown):
    assert visible(name) == shown


def test_newlines_are_kept_on_request_only():
    assert visible("a\nb\r\n") == r"a\nb\r\n"
    assert visible("a\nb\r\n", keep_newlines=True) == "a\nb\\r\n"


EVIL = 'a\x1b[31m\x9b\u202e\u2028\u200b\U000e0041\x7f\n\t"\\ü'


def test_an_escaped_json_document_is_the_same_value():
    text = escape_json(json.dumps({EVIL: [EVIL, "\udcff"]}, indent=2, ensure_ascii=False))
    assert json.loads(text) == {EVIL: [EVIL, "\udcff"]}
    assert all(c == "\n" or c.isprintable() for c in text)
    assert "ü" in text


def test_an_escaped_toml_document_is_the_same_value():
    text = escape_toml(tomli_w.dumps({"source": EVIL, "list": [EVIL]}))
    assert tomllib.loads(text) == {"source": EVIL, "list": [EVIL]}
    assert all(c == "\n" or c.isprintable() for c in text)
