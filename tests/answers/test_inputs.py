import io
import os
import sys
from types import SimpleNamespace

import pytest
from answers.examples import write_images

from recog.answers.inputs import gather, parse_shard
from recog.answers.stream import Unusable
from recog.core.errors import ConfigError


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos", ["2.png", "10.png", "deep/1.png"])
    (tmp_path / "photos" / "notes.txt").write_text("a note")
    return tmp_path


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", ""])
def test_shards_are_counted_from_one(text):
    with pytest.raises(ConfigError, match="from 1 to N"):
        parse_shard(text)
    assert parse_shard("2/3") == (2, 3)


def test_a_folder_is_read_in_natural_order_and_what_is_left_out_is_noted(photos):
    inputs = gather(["photos"])
    assert inputs.names == inputs.sources == ["photos/2.png", "photos/10.png", "photos/deep/1.png"]
    assert inputs.notes == ("photos: left out 1 file (hidden or not an image): notes.txt",)
    assert inputs.name == "photos"


@pytest.mark.parametrize("again", ["photos/2.png", "./photos/2.png", "photos/../photos/2.png"])
def test_an_image_that_is_named_twice_is_answered_once(photos, again):
    inputs = gather([again, "photos"])
    assert inputs.names == [again, "photos/10.png", "photos/deep/1.png"]
    assert inputs.notes[-1] == "1 image named more than once, answered once: photos/2.png"


def test_a_pattern_that_no_shell_has_replaced(photos):
    assert gather(["photos/*.png"]).names == ["photos/2.png", "photos/10.png"]
    assert gather(["photos/**/*.png"]).names[-1] == "photos/deep/1.png"
    (error,) = gather(["photos/*.jpg"]).sources
    assert "nothing matches the pattern photos/*.jpg" in error.error.reason
    write_images(photos, ["odd[1].png"])
    assert gather(["odd[1].png"]).names == ["odd[1].png"]  # a file of that very name


def test_addresses(photos):
    assert gather([f"file://{photos}/photos/2.png"]).names == [f"{photos}/photos/2.png"]
    (error,) = gather(["https://example.com/a.png"]).sources
    assert "Download it, as by: curl -LO" in error.error.reason


def test_a_folder_without_images_keeps_its_place(photos):
    (photos / "empty").mkdir()
    inputs = gather(["empty", "photos/2.png"])
    assert inputs.names == ["empty", "photos/2.png"]
    assert isinstance(inputs.sources[0], Unusable)


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_one_image_from_standard_input(monkeypatch, name):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"image"), isatty=lambda: False))
    inputs = gather([name])
    assert (inputs.names, inputs.sources) == (["stdin"], [b"image"])


@pytest.mark.parametrize(
    ("images", "list_file", "message"),
    [
        (["-", "-"], None, "given twice"),
        (["-"], "-", "given twice"),
        ([""], None, "is empty"),
        ([], None, "no image is named"),
        (["-"], None, "which is a terminal"),
    ],
)
def test_what_cannot_be_meant_is_refused(monkeypatch, images, list_file, message):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(ConfigError, match=message):
        gather(images, list_file=list_file)


def test_a_removed_working_folder_leaves_absolute_paths(tmp_path, monkeypatch):
    (image,) = write_images(tmp_path, ["a.png"])

    def gone():
        raise FileNotFoundError(2, "gone")

    monkeypatch.setattr(os, "getcwd", gone)
    assert gather([str(image), str(image)]).names == [str(image)]


def test_a_missing_file_is_answered_with_the_nearest_name(photos):
    near, far = (gather([name]).sources[0].error for name in ("photos/2.pgn", "elsewhere/x.png"))
    assert (near.reason, near.remedy) == ("there is no such file", "Check the path. Did you mean '2.png'?")
    assert far.remedy == "Check the path."
