import re

import numpy as np
import pytest

from recog.data.sources import look_alike_notes, open_source

WIDTH = "full-width or other forms of the same characters"
INVISIBLE = "invisible characters or spaces"
CASES = [  # UTS 39, confusables.txt; UAX 15, NFKC
    (["cat", "Cat", "dog"], "'cat' and 'Cat' differ by case only and are taken as 2 classes"),
    (["straße", "STRASSE"], "differ by case only"),
    (["ABC", "ＡＢＣ"], f"differ by {WIDTH} only"),
    (["ｱｲ", "アイ"], f"differ by {WIDTH} only"),
    (["x²", "x2"], f"differ by {WIDTH} only"),
    (["cat", "cat\u200b"], f"differ by {INVISIBLE} only"),
    (["cat", "c\u00adat"], f"differ by {INVISIBLE} only"),
    (["cat", "cat "], f"differ by {INVISIBLE} only"),
    (["hot dog", "hot\u00a0dog"], f"differ by {WIDTH} only"),  # NFKC makes a no-break space a space
    (["hot dog", "hot  dog"], f"differ by {INVISIBLE} only"),
    (["cat", "\u202ecat"], f"differ by {INVISIBLE} only"),
    (["cat", "с\u0061t"], r"differ by characters that look alike \(cyrillic small letter es U\+0441\) only"),
    (["OXO", "ΟΧΟ"], r"look alike \(greek capital letter omicron U\+039F, greek capital letter chi U\+03A7\) only"),
    (["t-shirt", "t–shirt"], r"look alike \(en dash U\+2013\) only"),
    (["cat", "Сat ", "CAT"], "'cat' and 'Сat ' and 'CAT' differ by characters that look alike"),
]


@pytest.mark.parametrize(("names", "message"), CASES)
def test_names_that_look_alike_are_told(names, message):
    (note,) = look_alike_notes([*names, "bird"])
    assert re.search(message, note), note


@pytest.mark.parametrize(
    "names",
    [["cat", "cut"], ["a", "b"], ["o", "0"], ["l", "1"], ["café", "cafe"], ["кот", "кит"], ["ли", "лй"], ["é", "è"]],
)
def test_names_that_are_told_apart_are_not_named(names):
    assert not list(look_alike_notes(names))


def test_data_of_every_form_are_looked_at():
    """A Dataset from Python goes another way than folders and lists do."""
    items = [(np.full((4, 4), level, np.uint8), level % 2) for level in range(4)]
    dataset = open_source(items, class_names=["cat", "cat\u200b"])
    assert [note for note in dataset.notes if INVISIBLE in note]
