import numpy as np
import pytest

from recog.core.errors import ConfigError, DataError
from recog.data.data_layout import DataLayout
from recog.data.dataset import Dataset, Sample
from recog.data.decisions import relabelled, without_decided
from recog.data.names import is_decisions_file


def dataset(task="multiclass", names=("a/1.png", "a/2.png", "b/=1.png", "b/2.png")):
    labels = [(0,), (0,), (1,), (1,)]
    blank = np.zeros((2, 2), np.uint8)
    samples = tuple(Sample(name=n, source=blank, labels=k) for n, k in zip(names, labels, strict=True))
    return Dataset(name="d", layout="folders", class_names=("a", "b"), samples=samples, task=task)


def write(tmp_path, text, name="findings.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)


def names(data):
    return [sample.name for sample in data.samples]


def test_rows_with_the_action_exclude_are_left_out(tmp_path):
    path = write(tmp_path, "image,action,new_label\na/1.png,exclude,\na/2.png,keep,\nb/2.png,relabel,a\n")
    found = without_decided(dataset(), [path])
    assert names(found) == ["a/2.png", "b/=1.png", "b/2.png"]
    assert [(e.name, e.reason) for e in found.exclusions] == [("a/1.png", "--exclude findings.csv")]
    assert found.notes == (f"left out by --exclude {path}: 1 image",)


def test_a_list_without_actions_excludes_every_row(tmp_path):
    assert names(without_decided(dataset(), [write(tmp_path, "image\na/1.png\nb/2.png\n")])) == ["a/2.png", "b/=1.png"]


def test_rows_with_the_action_relabel_get_the_new_label(tmp_path):
    path = write(tmp_path, "image,action,new_label\na/1.png,exclude,\nb/2.png,relabel,a\n")
    found = relabelled(dataset(), path)
    assert [sample.labels for sample in found.samples] == [(0,), (0,), (1,), (0,)]
    assert found.notes == (f"relabelled by --relabel {path}: 1 image",)


def test_one_file_excludes_and_relabels_an_image_that_is_named_in_several_rows(tmp_path):
    rows = "a/1.png,exclude,\na/1.png,exclude,\nb/2.png,relabel,a\nb/2.png,relabel,a\n"
    path = write(tmp_path, "\ufeffimage,action,new_label\n" + rows)
    found = relabelled(without_decided(dataset(), [path]), path)
    assert [(s.name, s.labels) for s in found.samples] == [("a/2.png", (0,)), ("b/=1.png", (1,)), ("b/2.png", (0,))]


def test_an_image_that_was_excluded_by_the_same_file_may_have_a_new_label(tmp_path):
    path = write(tmp_path, "image,new_label\na/1.png,b\na/2.png,b\n")
    kept = without_decided(dataset(), [write(tmp_path, "image\na/1.png\n", "out.csv")])
    assert [sample.labels for sample in relabelled(kept, path).samples] == [(1,), (1,), (1,)]


def test_names_that_were_quoted_for_spreadsheets_are_found(tmp_path):
    data = dataset(names=("=1.png", "a.png", "'+x.png", "b.png"))
    assert names(without_decided(data, [write(tmp_path, "image\n'=1.png\n'+x.png\n")])) == ["a.png", "b.png"]


def test_several_new_labels_of_multilabel_data(tmp_path):
    path = write(tmp_path, "image,new_label\na/1.png,a|b\na/2.png,\n")
    assert [sample.labels for sample in relabelled(dataset("multilabel"), path).samples[:2]] == [(0, 1), ()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,action\na/1.png,exclude\n", "has no column 'image'; its columns are file, action"),
        (
            "image,action\na/1.png,remove\n",
            "line 2: the action is 'remove'; expected keep, exclude, relabel or nothing",
        ),
        ("image,action\na/1.png,keep\n", "no row .* has the action 'exclude'"),
        ("image\nz.png\n", "names 1 image that d does not have: z.png \\(line 2\\)"),
        ("", "has no column 'image'"),
        ("image\na/1.png\na/2.png\nb/=1.png\nb/2.png\n", "leaves no image of d"),
        ('image\n"a/1.png\n', "is no CSV file"),
    ],
)
def test_what_cannot_be_excluded(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        without_decided(dataset(), [write(tmp_path, text)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na/1.png,b\n", "has no column 'new_label'"),
        ("image,new_label\na/1.png,bb\n", "line 2: 'bb' is no class of d; expected one of a, b"),
        ("image,new_label\na/1.png,\n", "new_label of a/1.png is empty"),
        ("image,new_label\na/1.png,a\na/1.png,b\n", "line 3: a/1.png has two new labels"),
        ("image,action,new_label\na/1.png,keep,\n", "no row .* has the action 'relabel'"),
    ],
)
def test_what_cannot_be_relabelled(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        relabelled(dataset(), write(tmp_path, text))


def test_a_missing_file_and_one_that_is_no_text(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        without_decided(dataset(), [str(tmp_path / "none.csv")])
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00image")
    with pytest.raises(DataError, match="no UTF-8 text"):
        without_decided(dataset(), [str(tmp_path / "binary.csv")])


def test_one_file_for_both_may_hold_marks_of_one_kind(tmp_path):
    """The page of findings writes one file, and its command names it for both options."""
    only_labels = write(tmp_path, "image,action,new_label\na/1.png,relabel,b\n", "labels.csv")
    kept = without_decided(dataset(), [only_labels], relabel=only_labels)
    assert names(kept) == names(dataset())
    only_out = write(tmp_path, "image,action,new_label\na/1.png,exclude,\n", "out.csv")
    left = without_decided(dataset(), [only_out], relabel=only_out)
    assert relabelled(left, only_out, exclude=[only_out]).samples == left.samples
    with pytest.raises(DataError, match="no row of .*labels.csv has the action 'exclude'"):
        without_decided(dataset(), [only_labels])
    with pytest.raises(DataError, match="no row of .*out.csv has the action 'relabel'"):
        relabelled(dataset(), only_out)


def test_patterns_and_files_are_told_apart(tmp_path, monkeypatch):
    """A CSV file that is absent is a pattern: of a list among the data, or of nothing, which is an error then."""
    monkeypatch.chdir(tmp_path)
    for name in ("findings.csv", "B.CSV"):
        (tmp_path / name).write_text("image\n")
    layout = DataLayout(exclude=("*_mask.png", "findings.csv", "*.csv", "more.csv"))
    assert (layout.exclude_patterns, layout.exclude_files) == (("*_mask.png", "*.csv", "more.csv"), ("findings.csv",))
    assert is_decisions_file("B.CSV")
    with pytest.raises(ConfigError, match="pattern of files to exclude"):
        DataLayout(exclude=("*",))
