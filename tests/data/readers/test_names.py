"""Class names: one Unicode form, and none that a later step could not write."""

import json

import numpy as np
import pytest
from containers import labelled_pngs, write_csv, write_folder

from recog.core.errors import DataError
from recog.data.readers.names import class_name_of
from recog.data.sources import open_source


def test_names_that_look_the_same_are_the_same():
    assert class_name_of("cafe\u0301") == "caf\u00e9"


@pytest.mark.parametrize("name", ["x" * 200, "\N{CAT FACE}" * 200, "a\tb"])
def test_names_that_are_kept(name):
    assert class_name_of(name) == name


BAD = [
    ("x" * 201, "a class has a name of 201 characters, 'x{40}' and so on; at most 200 are read"),
    ("a\0b", r"a class has the name 'a\\x00b', with a NUL character"),
    ("a\ud800b", r"a class has the name 'a\\ud800b', with .* half of a surrogate pair"),
]


@pytest.mark.parametrize(("name", "says"), BAD)
def test_names_that_are_refused(name, says):
    with pytest.raises(DataError, match=says):
        class_name_of(name)


@pytest.mark.parametrize(("name", "says"), BAD)
def test_they_are_refused_by_every_list(tmp_path, name, says):
    images = labelled_pngs(2)
    lists = [tmp_path / "json"]
    write_folder(images, tmp_path / "json")
    rows = [json.dumps({"file_name": f"{n}/{i:03d}.png", "label": name if n == "ant" else n}) for n, i in images]
    (tmp_path / "json/metadata.jsonl").write_text("\n".join(rows))
    if "\ud800" not in name:  # no text file can have it but by an escape
        path = write_csv(images, tmp_path / "csv")
        path.write_text(path.read_text().replace("ant,", f"{name},"))
        lists.append(path)
    for path in lists:
        with pytest.raises(DataError, match=says):
            open_source(path)
    with pytest.raises(DataError, match=says):
        open_source([(np.zeros((1, 1), np.uint8), 0)], class_names=[name, "b"])
