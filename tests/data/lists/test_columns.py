"""Which column is taken for what: one table of headers, and the errors where none or several may be meant."""

import pytest

from recog.core.errors import DataError
from recog.data.data_layout import DETECTED, DataLayout
from recog.data.lists.columns import NAMES, find_columns, missing_label, split_of_cell


def found(header, *rows, layout=DETECTED, **options):
    return find_columns(header, lambda place: (row[place] for row in rows), "x.csv", layout, **options)


@pytest.mark.parametrize(("role", "name"), [(role, name) for role, names in NAMES.items() for name in names])
def test_every_usual_name_is_taken_and_said(role, name):
    cells = {"path": "1.png", "label": "cat", "split": "train", "group": "g1"}
    header = [
        name if key == role else key for key in ("path", "label", role) if key != role or key in ("path", "label")
    ]
    header = list(dict.fromkeys([*header, name]))
    rows = [[cells.get(column, cells[role]) for column in header] for _ in range(2)]
    rows[1] = [
        "g2" if role == "group" and column == name else cell for column, cell in zip(header, rows[1], strict=True)
    ]
    if name == "is_valid":
        rows = [[cell if column != name else "True" for column, cell in zip(header, row, strict=True)] for row in rows]
    columns = found(header, *rows)
    assert columns.names[role] == name
    is_own = name in ("path", "file_name", "label", "split", "group")
    assert bool(columns.notes) != is_own
    assert is_own or f"{role} from {name}" in columns.notes[0]


@pytest.mark.parametrize("name", ["Image ID", "IMAGE_ID", "imageId", "image-id", " image_id "])
def test_case_spaces_and_underscores_do_not_matter(name):
    assert found([name, "Label"]).at == {"path": 0, "label": 1}


def test_of_several_columns_of_paths_the_one_that_names_images_is_taken():
    header, rows = ["id", "name", "label"], [["1", "a.jpg", "cat"], ["2", "b.jpg", "dog"]]
    columns = found(header, *rows, holds={"a.jpg", "b.jpg"}.__contains__)
    assert columns.names["path"] == "name"
    assert "paths from the column name, as id names no image here" in columns.notes
    with pytest.raises(DataError, match=r"several columns .*: name, id; it has: id, name, label\..*--path-column name"):
        found(header, *rows)
    with pytest.raises(DataError, match="several columns"):
        found(header, *rows, holds=lambda path: True)


def test_own_names_go_before_others():
    columns = found(["name", "class", "path", "label", "group", "source"], ["n", "c", "p", "l", "g", "s"])
    assert columns.names == {"path": "path", "label": "label", "group": "group"}
    assert found(["path", "file_name", "label"], first="file_name").names["path"] == "file_name"
    assert columns.notes == ()


@pytest.mark.parametrize(
    ("header", "layout", "says"),
    [
        ([], {}, "x.csv is empty; expected a header with the columns path and label"),
        (["paht", "label"], {}, "no column 'path'.*it has: paht, label. Did you mean 'paht'. Name it: --path-column COLUMN"),
        (["id", "image", "label"], {}, "several columns .* path of an image: id, image; it has: id, image, label.*--path-column"),
        (["path", "breed", "species"], {}, "several columns that may be its label: breed, species;.*--label-column breed"),
        (["path", "label", "label"], {}, "the column 'label' twice"),
        (["path", "label", "group", "group"], {}, "the column 'group' twice"),
        (["path", "dx_type"], {"label_column": "dxtyp"}, "no column 'dxtyp', which --label-column names;.* mean 'dx_type'"),
        (["path", "label"], {"path_column": "none"}, "no column 'none', which --path-column names"),
    ],
)  # fmt: skip
def test_none_or_several_is_an_error_that_lists_the_columns(header, layout, says):
    with pytest.raises(DataError, match=says):
        found(header, layout=DataLayout(**layout))


def test_several_splits_or_groups_may_be_none():
    header = ["path", "label", "patient", "clip", "set", "phase"]
    row, other = ["1", "a", "p", "c", "train", "val"], ["2", "b", "q", "d", "val", "val"]
    with pytest.raises(
        DataError, match="several columns that may be its split: set, phase.*--split-column set, or none"
    ):
        found(header, row, other)
    columns = found(header, row, other, layout=DataLayout(split_column="phase", group_column="none"))
    assert columns.names == {"path": "path", "label": "label", "split": "phase"}


def test_a_label_that_is_missing_points_to_the_options_for_labels():
    error = missing_label(found(["path", "dx"]), "x.csv")
    assert "no column 'label'" in str(error)
    assert "it has: path, dx" in str(error)
    assert "--label-column COLUMN" in str(error)
    assert "columns of 0 and 1 (--label-columns)" in str(error)


def test_the_user_names_columns_in_whatever_case():
    layout = DataLayout(path_column="Photo", label_column="DX type", split_column="part", group_column="Lesion")
    header = ["photo", "dx_type", "part", "Lesion", "path", "label"]
    assert found(header, layout=layout).at == {"path": 0, "label": 1, "split": 2, "group": 3}


def test_folds_that_are_numbers_are_no_split_and_a_group_of_one_is_none():
    columns = found(["path", "label", "fold", "source"], ["1", "a", "0", "web"], ["2", "b", "1", "web"])
    assert columns.at == {"path": 0, "label": 1}
    assert columns.notes == (
        "the column fold is not used as a split: it holds '0'",
        "the column source is not used as groups: all its cells are 'web'",
    )


def test_a_group_that_the_user_states_leaves_columns_alone():
    header, rows = ["path", "label", "patient", "clip"], (["1", "a", "p", "c"], ["2", "a", "q", "d"])
    assert found(header, *rows, layout=DataLayout(group="clip")).at == {"path": 0, "label": 1}


def test_a_column_of_split_words_that_is_not_used_is_named():
    rows = ["1.png", "a", "Train"], ["2.png", "b", "test"]
    columns = found(["path", "label", "part"], *rows)
    assert "the column part holds only Train, test and is not used; --split-column part uses it" in columns.notes
    assert found(["path", "label", "part"], *rows, layout=DataLayout(split_column="part")).notes == (
        "columns: split from part",
    )
    assert found(["path", "label", "part"], *rows, layout=DataLayout(split_column="none")).notes == ()


def test_the_split_of_a_cell():
    assert [split_of_cell(cell, "line 2") for cell in ("Train", "validation", "test")] == ["train", "val", "test"]
    assert [split_of_cell(cell, "line 2", "Is Valid") for cell in ("True", "0", "1.0")] == ["val", "train", "val"]
    with pytest.raises(DataError, match="line 2 has the split 'trian'; it must be train, val or test"):
        split_of_cell("trian", "line 2")
    with pytest.raises(DataError, match="the split 'True'"):
        split_of_cell("True", "line 2")
