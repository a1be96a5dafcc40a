"""Addresses and patterns in place of a path: what is read, and what is refused with the way to fetch it."""

import os
import zipfile

import pytest
from containers import labelled_pngs, write_folder, write_tar, write_text, write_zip

from recog.core.errors import DataError
from recog.data.inspection import fingerprint, hash_samples
from recog.data.places import is_address, is_pattern, local_path
from recog.data.sources import is_path, open_source


def content_of(dataset):
    names = [sample.name for sample in dataset.samples]
    return fingerprint(dataset, dict(zip(names, hash_samples(dataset.samples), strict=True)))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (
            "https://example.org/pets.zip",
            r"an address; recog reads local files. Download it, .* -LO https://example.org",
        ),
        ("https:/example.org/pets.zip", "curl -LO https://example.org/pets.zip"),  # as a Path writes it
        ("s3://bucket/pets", "aws s3 sync s3://bucket/pets FOLDER"),
        ("gs://bucket/pets", "gcloud storage rsync --recursive gs://bucket/pets FOLDER"),
        ("abfss://c@account.net/pets", "azcopy"),
        ("strange+scheme://x", "Copy it to a folder first"),
        ("https://huggingface.co/datasets/someone/pets/tree/main", "Name the data set: hf://datasets/someone/pets"),
        ("file://server/share/pets", "a file of the machine server"),
    ],
)
def test_addresses_of_other_machines_are_refused_with_the_way_to_fetch_them(address, says):
    assert is_address(address)
    assert not is_path(address)
    with pytest.raises(DataError, match=says):
        open_source(address)


def test_what_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [is_address(name) for name in ("C:/pets", "C:\\pets", "pets", "./a:b", "user@host:/pets")] == [False] * 5
    (tmp_path / "s3:" / "pets").mkdir(parents=True)
    assert local_path("s3:/pets") == "s3:/pets"  # an existing path comes before an address


def test_a_file_address_is_its_path(tmp_path):
    folder = write_folder(labelled_pngs(2), tmp_path / "my pets")
    assert local_path("file:///a/b%20c") == "/a/b c"
    assert len(open_source(folder.as_uri()).samples) == 6
    assert len(open_source(folder.as_uri().replace("file://", "file://localhost")).samples) == 6


def test_a_pattern_names_images_or_folders_of_them(tmp_path):
    folder = write_folder(labelled_pngs(3), tmp_path / "pets")
    write_text(folder / "ant" / "notes.txt", "notes")
    whole = content_of(open_source(folder))
    for pattern in ("pets/*/*.png", "pets/*", "pets/**/*.png", "p*/*/*.png"):
        dataset = open_source(str(tmp_path / pattern))
        assert content_of(dataset) == whole, pattern
    assert dataset.notes[0] == f"{tmp_path}/p*/*/*.png names 9 of 10 files in {tmp_path}"
    some = open_source(f"{folder}/[ab]*/00[12].png")
    assert [sample.name for sample in some.samples] == ["ant/001.png", "ant/002.png", "bee/001.png", "bee/002.png"]


def test_a_pattern_of_one_path_is_that_path(tmp_path):
    path = write_zip(labelled_pngs(2), tmp_path)
    assert open_source(f"{tmp_path}/*.zip").name == open_source(path).name == "pets"


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("*.jpg", r"nothing matches the pattern .*\*\.jpg; its folder is"),
        ("*.[zt]*", r"names 2 paths, among them .*pets.*; expected folders, images, shards or Parquet files"),
    ],
)
def test_a_pattern_without_data(tmp_path, pattern, says):
    write_zip(labelled_pngs(2), tmp_path)
    write_tar(labelled_pngs(2), tmp_path)
    with pytest.raises(DataError, match=says):
        open_source(f"{tmp_path}/{pattern}")


def test_a_name_with_brackets_is_no_pattern(tmp_path):
    folder = write_folder(labelled_pngs(2), tmp_path / "pets [old]")
    assert not is_pattern(str(folder))
    assert len(open_source(folder).samples) == 6


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("pets.rar", b"Rar!\x1a\x07\x01\x00", "a RAR archive, which recog does not read. .*: unrar x "),
        ("pets.7z", b"7z\xbc\xaf\x27\x1c", "a 7z archive.*: 7z x "),
        ("pets.tar.zst", b"\x28\xb5\x2f\xfd", "packed with Zstandard.*: tar --zstd -xf "),
        ("pets", b"Rar!\x1a\x07\x00", "a RAR archive"),
    ],
)
def test_archives_that_are_not_read_name_the_command_that_unpacks_them(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=says):
        open_source(tmp_path / name)


def test_a_path_of_a_config_file_is_what_is_neither_a_name_nor_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["pets", "pets/*.png", "digits", "file:///pets", "s3://pets", ""]
    assert [is_path(name) for name in names] == [True, True, False, False, False, False]
    os.mkdir("digits")
    assert is_path("digits")


def test_archives_within_an_archive_or_a_folder_are_named(tmp_path):
    write_zip(labelled_pngs(2), tmp_path)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as outer:
        outer.write(tmp_path / "pets.zip", "pets.zip")
    with pytest.raises(DataError, match=r"It holds 1 archive, such as pets.zip: unpack what is packed"):
        open_source(tmp_path / "outer.zip")
