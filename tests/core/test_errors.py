import ast
import re
from pathlib import Path

import pytest

import recog
from recog import cli
from recog.cli import guard
from recog.core import errors
from recog.core.errors import (
    BadImage,
    BundleError,
    CheckpointError,
    ConfigError,
    DataError,
    DiskError,
    MissingExtraError,
    RecogError,
    TrainingError,
    TrainingStopped,
)

FAMILIES = (
    ConfigError,
    DataError,
    BundleError,
    TrainingError,
    MissingExtraError,
    CheckpointError,
    DiskError,
    TrainingStopped,
)


def documented_codes():
    return {int(number) for number in re.findall(r"\b(\d+) [a-z]", cli._EPILOG)}


def test_each_family_has_its_own_exit_code():
    codes = [family.exit_code for family in FAMILIES]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
    assert RecogError.exit_code not in codes  # 1 is what Python itself ends with on an error of ours


def test_every_error_of_the_tree_belongs_to_a_family():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind is not RecogError]
    assert kinds
    for kind in kinds:
        assert issubclass(kind, FAMILIES), kind
        assert kind.exit_code in {family.exit_code for family in kind.__mro__ if family in FAMILIES}


def test_the_help_page_documents_every_exit_code_and_no_other():
    codes = {family.exit_code for family in FAMILIES}
    codes |= {0, guard.EXIT_FAULT, guard.EXIT_DISK, guard.EXIT_INTERRUPTED, guard.EXIT_TERMINATED}
    assert (DiskError.exit_code, TrainingStopped.exit_code) == (guard.EXIT_DISK, guard.EXIT_INTERRUPTED)
    assert documented_codes() == codes


def test_nothing_raises_the_bare_base_whose_code_is_not_documented():
    for path in Path(recog.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                assert getattr(node.exc.func, "id", "") != "RecogError", f"{path}:{node.lineno}"


def test_a_bad_image_says_which_why_and_what_to_do():
    error = BadImage("cat/1.jpg", "the file is empty", "Replace it or remove it.")
    assert str(error) == "cat/1.jpg: the file is empty. Replace it or remove it."
    assert (error.name, error.reason, error.remedy) == ("cat/1.jpg", "the file is empty", "Replace it or remove it.")
    with pytest.raises(DataError):
        raise error
