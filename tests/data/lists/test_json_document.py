import json

import pytest
from containers import digest, labelled_pngs, write_folder, write_named, write_text

from recog.core.errors import DataError
from recog.data.data_layout import DataLayout
from recog.data.lists.label_format import LabelFormat
from recog.data.sources import open_source

IMAGES = labelled_pngs(3)
NUMBERS = {"ant": 0, "bee": 1, "cow": 2}
FORMS = {  # {(class, i): path} -> document
    "path to label": lambda paths: {path: name for (name, _), path in paths.items()},
    "path to number": lambda paths: {path: NUMBERS[name] for (name, _), path in paths.items()},
    "label to paths": lambda paths: {n: [p for (name, _), p in paths.items() if name == n] for n in NUMBERS},
    "path to object": lambda paths: {path: {"label": name, "size": 3} for (name, _), path in paths.items()},
    "objects": lambda paths: [{"image": path, "species": name} for (name, _), path in paths.items()],
    "id to label": lambda paths: {path.removesuffix(".png"): name for (name, _), path in paths.items()},
}


def write_json(path, document):
    return write_text(path, json.dumps(document))


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_data_of_class_folders(tmp_path, form):
    expected = digest(open_source(write_folder(IMAGES, tmp_path / "folders")))
    paths = write_named(IMAGES, tmp_path / "list", "images/{name}/{i}.png")
    write_text(tmp_path / "list/classes.txt", "\n".join(NUMBERS))
    data = open_source(write_json(tmp_path / "list/labels.json", FORMS[form](paths)))
    assert (digest(data), data.task) == (expected, "multiclass")
    assert data.layout.startswith("JSON list of paths" if form == "objects" else "JSON map of ")


def test_several_labels_of_a_path(tmp_path):
    paths = list(write_named(IMAGES, tmp_path).values())
    data = open_source(write_json(tmp_path / "x.json", {paths[0]: ["ant", "bee"], paths[1]: [], paths[2]: ["bee"]}))
    assert (data.task, [s.labels for s in data.samples]) == ("multilabel", [(0, 1), (), (1,)])
    joined = write_json(tmp_path / "y.json", {paths[0]: "ant|bee", paths[1]: "bee"})
    assert [s.labels for s in open_source(joined, labels=LabelFormat(separator="|")).samples] == [(0, 1), (1,)]


BAD = [
    ({}, "lists no images; expected {path: label}"),
    ("text", "lists no images"),
    ([1], "entry 0 is no object"),
    ({"a": ["b"]}, "neither its keys nor its lists' entries are paths"),
    ({"ant0.png": ["ant1.png"]}, "both its keys and the entries of its lists are paths"),
    ({"train": ["ant0.png"], "test": ["ant1.png"]}, "lists paths by train, test, which are splits and no labels"),
    ({"ant": ["ant0.png", 3]}, r"'ant'\[1\] is 3; expected the path of an image"),
    ({"ant0.png": True}, "'ant0.png' has the label True; expected one name or one number"),
    ({"ant0.png": [["a"]]}, "expected one name or one number, or a list of them"),
    ({"../ant0.png": "ant"}, "leads out of the list's folder"),
    ({"/etc/passwd.png": "ant"}, "leads out of the list's folder"),
    ({"gone.png": "ant"}, "lists 1 images, of which none is in"),
    ([{"image": "ant0.png"}], "has no column 'label'"),
]


@pytest.mark.parametrize(("document", "says"), BAD)
def test_what_cannot_be_used_is_said(tmp_path, document, says):
    write_named(IMAGES, tmp_path)
    with pytest.raises(DataError, match=says):
        open_source(write_json(tmp_path / "x.json", document))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"ant0.png": "a", "ant0.png": "b"}', "a key occurs twice"),
        ('{"ant0.png": "a"', "is not valid JSON"),
        ("[" * 100_000, "nested"),
        ('{"ant0.png": NaN}', "not valid JSON|NaN"),
    ],
)
def test_text_that_is_no_document(tmp_path, text, says):
    write_named(IMAGES, tmp_path)
    with pytest.raises(DataError, match=says):
        open_source(write_text(tmp_path / "x.json", text))


@pytest.mark.parametrize(
    ("labels", "layout", "says"),
    [
        (LabelFormat(columns=("a", "b")), DataLayout(), "Leave --label-columns out"),
        (LabelFormat(), DataLayout(path_column="x"), "--path-column is for .* is a JSON map"),
    ],
)
def test_options_without_a_use(tmp_path, labels, layout, says):
    write_named(IMAGES, tmp_path)
    with pytest.raises(DataError, match=says):
        open_source(write_json(tmp_path / "x.json", {"ant0.png": "ant"}), labels=labels, layout=layout)
