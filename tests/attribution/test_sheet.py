import base64
import hashlib
import re

import numpy as np
from small_subjects import corner_subject, noise

from recog.attribution.check import MethodCheck, check_methods
from recog.attribution.sheet import Card, Neighbour, Sheet, View, caption, picture_of, render_sheet
from recog.attribution.shortcuts import ShortcutHint

HOSTILE = "<script>alert(1)</script>\u202e"


def sheet(**changes):
    uri = picture_of(noise(16, 16, 3))
    card = Card(
        name=HOSTILE,
        predicted="rose",
        true="daisy",
        picture=uri,
        views=(View(label=HOSTILE, prob=0.9, role="predicted", picture=uri),),
        neighbours=(Neighbour(name="a.jpg", label="rose", similarity=0.5, picture=uri),),
    )
    values = {
        "title": HOSTILE,
        "bundle": "fl",
        "method": "occlusion",
        "why_method": "You chose this method.",
        "cards": (card,),
    }
    return render_sheet(Sheet(**{**values, **changes}))


def test_the_page_is_offline_and_escapes_names():
    text = sheet()
    assert HOSTILE not in text
    assert "\u202e" not in text
    assert "<script" not in text
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'")
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)


def test_an_error_a_shortcut_and_the_checks_are_on_it():
    hint = ShortcutHint(label="rose", place="top edge", share=0.5, area=0.125, num_images=9)
    images = np.full((2, 32, 32, 1), 200, np.uint8)
    events = check_methods(corner_subject(), images, np.array([0, 1]), ["occlusion"])
    checks = tuple(event for event in events if isinstance(event, MethodCheck))
    text = sheet(shortcuts=(hint,), checks=checks)
    assert "wrong:" in text
    assert "lies on the top edge" in text
    assert "Checks of the methods on this model" in text
    assert re.search(r"\d of 4", text)  # the pointing game: two pairs, both labels
    assert "Possible shortcuts" not in sheet()


def test_an_image_without_a_label():
    assert caption([]) == "(no label)"
    assert caption(["a", "b"]) == "a, b"
