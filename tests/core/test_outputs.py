import os

import pytest

from recog.core.errors import ConfigError, DataError, DiskError, RecogError
from recog.core.outputs import (
    MAX_NAME_BYTES,
    check_name,
    check_new_path,
    check_output_folder,
    check_preview,
    derive_name,
)

GOOD = ("flowers-1", "a b", "ü", "日本", "x.y", "v1.0", "CONSOLE", "x" * MAX_NAME_BYTES)
BAD = (
    *("", ".", "..", "...", " ", "a/b", "../up", "/abs", "a\\b", "C:", "a:b", "a*", "a?", '"', "<", "|"),
    *("a\nb", "a\0b", "\x1b[31m", "a\u202eb", "\udcff", "-x", ".hidden", " a", "a ", "a."),
    *("CON", "nul", "com1.txt", "x" * (MAX_NAME_BYTES + 1), "é" * MAX_NAME_BYTES),
)


@pytest.mark.parametrize("name", GOOD)
def test_one_portable_component_is_a_name(name, tmp_path):
    assert check_name(name, "--name") == name
    assert derive_name(name) == name
    (tmp_path / name).mkdir()


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_refused_and_has_a_valid_name_near_it(name, tmp_path):
    with pytest.raises(ConfigError, match="--name is '"):
        check_name(name, "--name")
    near = derive_name(name)
    assert check_name(near, "--name") == near
    assert derive_name(near) == near


def test_derived_names_keep_what_they_can():
    assert derive_name("da\x1bta/x") == "da-ta-x"
    assert derive_name("") == "data"
    assert derive_name("nul") == "data-nul"


def test_a_new_path_may_need_new_folders_and_creates_nothing(tmp_path):
    check_new_path(tmp_path / "a/b/c", "--out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        ("", ConfigError, "names no new file"),
        (".", ConfigError, "names no new file"),
        ("folder", DataError, "exists already"),
        ("file", DataError, "exists already"),
        ("broken", DataError, "exists already"),
        ("loop", DataError, "exists already"),
        ("file/x", DiskError, "file is not a folder"),
        ("file/x/y", DiskError, "file is not a folder"),
        ("loop/x", ConfigError, "Too many levels of symbolic links"),
        ("x" * 300, ConfigError, "more than 200 bytes"),
        (f"{'x' * 300}/y", ConfigError, "File name too long"),
        ("y/" * 3000 + "z", ConfigError, "File name too long"),
    ],
)
def test_a_path_that_cannot_be_created_is_refused(path, kind, reason, tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_text("x")
    Path("broken").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    with pytest.raises(kind, match=reason):
        check_new_path(Path(path), "--out")


def test_a_folder_without_the_right_to_write_is_refused(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(
        os, "access", lambda path, mode: str(path) != str(tmp_path / "locked")
    )  # root may write everywhere
    with pytest.raises(DiskError, match="no right to write"):
        check_new_path(tmp_path / "locked/x", "--out")


def test_a_preview_replaces_previews_and_no_other_file(tmp_path):
    import io

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from recog.core.outputs import PREVIEW_SOFTWARE

    mark = PngInfo()
    mark.add_text("Software", PREVIEW_SOFTWARE)
    ours, theirs = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (4, 4)).save(ours, "PNG", pnginfo=mark)
    Image.new("RGB", (4, 4)).save(theirs, "PNG")
    path = tmp_path / "x.png"
    check_preview(path)
    path.write_bytes(ours.getvalue())
    check_preview(path)
    path.write_bytes(theirs.getvalue())
    with pytest.raises(DataError, match="exists already"):
        check_preview(path)
    with pytest.raises(RecogError, match=r"end with \.png"):
        check_preview(tmp_path / "x.jpg")


def test_a_folder_to_write_into_is_a_folder_or_nothing_yet(tmp_path):
    check_output_folder(tmp_path / "new" / "sorted", "--save")
    check_output_folder(tmp_path, "--save")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(DataError, match=f"--save is .*{name}, which is not a folder"):
            check_output_folder(tmp_path / name, "--save")
    with pytest.raises(DiskError, match="is not a folder"):
        check_output_folder(tmp_path / "file" / "sorted", "--save")
