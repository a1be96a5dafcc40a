"""Errors and notes call options as the caller knows them."""

import pytest
from typer.testing import CliRunner

import recog
from recog.cli import COMMANDS, build_app
from recog.core.errors import BadImage, ConfigError, DataError
from recog.verbs.python.wording import as_typed, in_python, reworded

TRAIN = ("label_column", "exclude", "task", "split", "epochs", "settings", "parent", "find_lr", "split_folders")
SCAN = ("labels", "layout", "task")


@pytest.mark.parametrize(
    ("text", "keywords", "expected"),
    [
        ("Name it: --label-column COLUMN.", TRAIN, "Name it: label_column=COLUMN."),
        ("Name it: --label-column COLUMN.", SCAN, "Name it: layout=recog.DataLayout(label_column=COLUMN)."),
        ("which --label-column names; it has", TRAIN, "which label_column names; it has"),
        ("leave them out (--exclude '*_mask.png')", TRAIN, "leave them out (exclude=('*_mask.png',))"),
        ("--label-separator '|'", SCAN, "labels=recog.LabelFormat(separator='|')"),
        ("If several: --task multilabel.", SCAN, "If several: task='multilabel'."),
        ("cross-validation: --split none", TRAIN, "cross-validation: split='none'"),
        ("--set optim.lr=0.05.", TRAIN, "settings={'optim.lr': 0.05}."),
        ("--set model.crop_mode=squash or border", TRAIN, "settings={'model.crop_mode': 'squash'} or border"),
        ("--from RUN", TRAIN, "parent=RUN"),
        ("use --find-lr.", TRAIN, "use find_lr=True."),
        (
            "--split-folders train=a,test=b.",
            SCAN,
            "layout=recog.DataLayout(split_folders=('train=a,test=b',)).",
        ),
        ("torchrun --max-restarts N", TRAIN, "torchrun --max-restarts N"),
    ],
)
def test_options_become_keywords(text, keywords, expected):
    assert in_python(text, keywords) == expected


def test_settings_are_called_as_the_options_that_gave_them():
    text = "optim.lr is 0; remove optim.lr, or --set optim.lr=0.1"
    assert as_typed(text, ["lr"]) == "--lr is 0; remove --lr, or --set optim.lr=0.1"
    assert as_typed(text, ["epochs"]) == text
    assert as_typed("seed is -1; the seed matters", ["seed"]) == "--seed is -1; the seed matters"


def test_a_bad_image_is_reworded_with_its_remedy():
    with pytest.raises(BadImage) as caught, reworded(lambda text: text.replace("--images DIR", "images=DIR")):
        raise BadImage("a.jpg", "it is not there", "Correct it: --images DIR.")
    assert str(caught.value) == "a.jpg: it is not there. Correct it: images=DIR."
    assert caught.value.remedy == "Correct it: images=DIR."


def test_python_is_answered_in_its_terms(tmp_path):
    (tmp_path / "list.csv").write_text("path,what,label_x\na.jpg,cat,1\n")
    with pytest.raises(DataError, match=r"layout=recog\.DataLayout\(label_column=COLUMN\)"):
        recog.scan(tmp_path / "list.csv")
    with pytest.raises(DataError, match=r"Name it: label_column=COLUMN"):
        recog.train(tmp_path / "list.csv", verbose=False)
    with pytest.raises(ConfigError, match=r"^epochs is -1"):
        recog.train("digits", epochs=-1)
    with pytest.raises(ConfigError, match=r"^optim\.epochs is -1"):
        recog.train("digits", settings={"optim.epochs": -1})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--lr", "0"], "error: --lr is 0.0; it must be above 0"),
        (["--bad-images", "foo"], "error: --bad-images is 'foo'; it must be one of"),
        (["--recipe", "head", "--epochs", "3"], "recipe head does not use --epochs. Remove --epochs, or use"),
        (["--set", "optim.lr=0"], "error: optim.lr is 0.0; it must be above 0"),
    ],
)
def test_the_command_line_names_what_was_typed(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(build_app(COMMANDS), ["train", "digits", *arguments])
    assert result.exit_code == 2
    assert expected in result.stderr
