import pytest

from recog.core.errors import DataError
from recog.data.lists.rows import cells_of, find_columns, split_of_cell


def test_numbers_and_short_texts_are_cells_to_slice_by():
    row = {"camera": "a", "iso": 100, "gain": 0.5, "night": True, "lens": None, "boxes": [1], "caption": "x" * 201}
    assert cells_of(row) == (("camera", "a"), ("iso", "100"), ("gain", "0.5"), ("night", "True"), ("lens", ""))
    assert cells_of({"caption": "x" * 200}) == (("caption", "x" * 200),)


def test_columns_by_their_place():
    assert find_columns(["path", "split", "label"], "x.csv", "path", label_column="label") == {
        "path": 0, "split": 1, "label": 2,
    }  # fmt: skip
    assert find_columns(["path", "cat"], "x.csv", "path", label_column=None) == {"path": 0, "cat": 1}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ([], "x.csv is empty; expected a header with the columns path and label"),
        (["paht", "label"], "no column 'path'; it has: paht, label.*Did you mean 'paht'.*Rename"),
        (["path", "cat"], "no column 'label'.*or give columns of 0 and 1"),
        (["path", "label", "group", "group"], "the column 'group' twice"),
    ],
)
def test_columns_that_are_missing_or_stand_twice(columns, says):
    with pytest.raises(DataError, match=says):
        find_columns(columns, "x.csv", "path", label_column="label")


def test_the_split_of_a_cell():
    assert [split_of_cell(cell, "line 2") for cell in ("Train", "validation", "test")] == ["train", "val", "test"]
    with pytest.raises(DataError, match="line 2 has the split 'trian'; it must be train, val or test"):
        split_of_cell("trian", "line 2")
