import pytest
from answers.examples import answer, bad, prediction, predictor

from recog.answers.columns import check_ids, default_columns, parse_columns
from recog.core.errors import ConfigError, DataError

SURE = answer("photos/a.b.png", prediction([0.7, 0.1, 0.2], in_set=[1, 0, 1]))


def cells(columns, item):
    return {column.header: column.value(item) for column in columns}


def test_the_default_columns_of_one_label_per_image():
    columns = default_columns(predictor(), top=2, sets=True)
    assert cells(columns, SURE) == {
        "file": "photos/a.b.png",
        "label": "cat",
        "confidence": 0.7,
        "label_2": "eel",
        "confidence_2": 0.2,
        "label_set": ["cat", "eel"],
        "error": None,
    }
    assert cells(columns, bad("x")) == {**dict.fromkeys(cells(columns, SURE)), "file": "x", "error": "truncated"}


def test_there_are_no_more_ranks_than_classes():
    columns = default_columns(predictor(), top=4, sets=False)
    ranks = ("label", "confidence", "label_2", "confidence_2", "label_3", "confidence_3")
    assert tuple(cells(columns, SURE)) == ("file", *ranks, "error")


def test_an_unknown_image_has_no_probability_and_an_unsure_one_keeps_it():
    columns = default_columns(predictor(), top=2, sets=False)
    unknown = cells(columns, answer("x", prediction([0.7, 0.1, 0.2], is_unknown=True)))
    assert (unknown["label"], unknown["confidence"], unknown["label_2"]) == ("unknown", None, None)
    unsure = cells(columns, answer("x", prediction([0.7, 0.1, 0.2]), labels=("unsure",)))
    assert (unsure["label"], unsure["confidence"], unsure["label_2"]) == ("unsure", 0.7, "eel")


def test_the_default_columns_of_several_labels_per_image():
    columns = default_columns(predictor("multilabel"), top=1, sets=False)
    item = answer("x", prediction([0.7, 0.1, 0.6], preds=[1, 0, 1], task="multilabel"))
    assert cells(columns, item) == {
        "file": "x",
        "labels": ["cat", "eel"],
        "prob_cat": 0.7,
        "prob_=dog": 0.1,
        "prob_eel": 0.6,
        "error": None,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,label", {"id": "a.b", "label": "cat"}),
        ("image_id=name, Category=label", {"image_id": "a.b.png", "Category": "cat"}),
        ("file,confidence", {"file": "photos/a.b.png", "confidence": 0.7}),
        ("id,probs", {"id": "a.b", "cat": 0.7, "=dog": 0.1, "eel": 0.2}),
        ("prob:=dog,p=prob:eel", {"prob:=dog": 0.1, "p": 0.2}),
        ("label_set,error", {"label_set": ["cat", "eel"], "error": None}),
        ("unknown_score", {"unknown_score": None}),
    ],
)
def test_columns_by_name(text, expected):
    assert cells(parse_columns(text, predictor(), sets=True, reject=True), SURE) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,lable", r"names 'lable', which is no column. Did you mean 'label'\?.* Columns: id, name, file, label"),
        ("id,", "names '', which is no column"),
        ("label_set", "which is no column"),  # without sets
        ("unknown_score", "which is no column"),
        ("id,id", "has 'id' twice"),
        ("id,label=id,label", "has 'label' twice"),
        ("labels", "which is no column"),
    ],
)
def test_columns_that_cannot_be_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_columns(text, predictor(), sets=False, reject=False)


def test_ids_are_unique_or_refused():
    ids = parse_columns("image=id", predictor(), sets=False, reject=False)
    check_ids(ids, ["a.png", "b.png", "c/d.png"])
    with pytest.raises(DataError, match=r"a.png and a.jpg have the same id, 'a'. Use the file name, id=name"):
        check_ids(ids, ["a.png", "a.jpg"])
    check_ids(parse_columns("id=file", predictor(), sets=False, reject=False), ["a.png", "a.jpg"])
