import errno
import hashlib
import json
import os
import pwd
import random
import re
import subprocess
import sys
import tempfile
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recog.core import files
from recog.core.errors import BundleError, DataError
from recog.core.files import (
    cache_folder,
    canonical_json,
    claim_folder,
    claimed,
    is_hidden,
    natural_key,
    open_regular,
    pretty_json,
    printable_name,
    sha256_bytes,
    sha256_file,
    staged_folder,
    write_bytes_atomic,
)

NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def touch(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names_below(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


class TestNaturalOrder:
    @pytest.mark.parametrize(
        "ordered",
        [
            ["class1", "class2", "class10"],
            ["2", "10", "cat"],  # numbers before words
            ["a", "a1", "a1b", "a2", "b"],
            ["img1_2", "img1_10", "img2_1"],
            ["Ant", "bee", "Cat"],  # whatever the case
            ["7", "007x", "07y"],  # 7 < 7x < 7y: leading zeros do not count
            ["v1.9", "v1.10"],
            ["٣", "5", "１０"],  # Arabic 3 and full-width 10 are numbers too
        ],
    )
    def test_by_hand(self, ordered):
        backwards = ordered[::-1]
        assert sorted(backwards, key=natural_key) == ordered

    def test_more_digits_than_a_number_may_have(self):
        """Python's int() refuses more than 4,300; a member of an archive, or a label, may have such a name."""
        names = ["1" * 4000 + "2" * 2000, "1" * 4000 + "3" * 2000, "2" * 4000 + "1"]
        assert sorted([names[2], names[1], names[0]], key=natural_key) == names

    def test_names_that_look_alike_still_have_one_order(self):
        twins = ["cafe\u0301", "caf\u00e9", "CAFÉ", "img01", "img1", "img001"]
        once = sorted(twins, key=natural_key)
        assert all(sorted(random.Random(i).sample(twins, 6), key=natural_key) == once for i in range(20))

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.text("a1٣02 é", max_size=8), max_size=12, unique=True))
    def test_numbers_are_compared_as_numbers_and_texts_as_texts(self, names):
        """Against tuples of the parts, which need several times the memory."""

        def parts(name):
            found = re.split(r"(\d+)", unicodedata.normalize("NFC", name).casefold())
            return [*((1, int(part), "") if i % 2 else (0, 0, part) for i, part in enumerate(found)), (-1, 0, name)]

        assert sorted(names, key=natural_key) == sorted(names, key=parts)

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.text(max_size=8), max_size=12), st.randoms())
    def test_any_names_sort_the_same_from_any_order(self, names, rng):
        shuffled = rng.sample(names, len(names))
        assert sorted(shuffled, key=natural_key) == sorted(names, key=natural_key)


FOLDERS = ["lost+found", "System Volume Information", "$RECYCLE.BIN", "@eaDir", ".thumbnails", ".Trash-1000"]


class TestLitter:
    @pytest.mark.parametrize(
        "name", [".git", "._cat.jpg", "__MACOSX", "Thumbs.db", "thumbs.db", "__pycache__", *FOLDERS]
    )
    def test_litter_is_hidden(self, name):
        assert is_hidden(name)

    @pytest.mark.parametrize(
        "name", ["cat", "_cat", "__init__", "Thumbs", "cat.", "macosx", "runs", "lost", "tmp", "recycle"]
    )
    def test_data_is_not_hidden(self, name):
        assert not is_hidden(name)


class TestHashesAndJson:
    def test_known_digest(self, tmp_path):
        """FIPS 180-2, appendix B.1: 'abc'."""
        known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert sha256_bytes(b"abc") == known
        assert sha256_file(touch(tmp_path / "abc", b"abc")) == known

    def test_files_larger_than_a_chunk(self, tmp_path):
        data = bytes(range(256)) * 5000  # 1.28 MB, over the chunk of 1 MiB
        assert sha256_file(touch(tmp_path / "large", data)) == hashlib.sha256(data).hexdigest()

    def test_canonical_json_has_one_form(self):
        assert canonical_json({"b": [1, 2.5], "a": "é"}) == canonical_json({"a": "é", "b": [1, 2.5]})
        assert canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'.encode()

    def test_pretty_json_reads_back_and_ends_its_line(self):
        value = {"names": ["猫", "dog"], "n": 1}
        assert json.loads(pretty_json(value)) == value
        assert pretty_json(value).endswith(b"}\n")
        assert "猫".encode() in pretty_json(value)

    @pytest.mark.parametrize("write", [canonical_json, pretty_json])
    @pytest.mark.parametrize("number", [float("nan"), float("inf")])
    def test_numbers_that_json_lacks_are_refused(self, write, number):
        with pytest.raises(ValueError, match="JSON compliant"):
            write({"loss": number})

    def test_printable_names_can_be_written_and_stay_apart(self):
        latin1 = os.fsdecode(b"caf\xe9.jpg")  # a name that is not UTF-8, as old archives leave them
        assert printable_name(latin1) == r"caf\xe9.jpg"
        assert printable_name("猫 2.jpg") == "猫 2.jpg"
        assert json.loads(pretty_json(printable_name(latin1))) == r"caf\xe9.jpg"


class TestWriteBytesAtomic:
    def test_writes_and_replaces(self, tmp_path):
        path = tmp_path / "run.toml"
        write_bytes_atomic(path, b"old")
        write_bytes_atomic(path, b"new")
        assert path.read_bytes() == b"new"
        assert names_below(tmp_path) == ["run.toml"]

    @pytest.mark.parametrize("old", [b"old", None], ids=["a file before", "none before"])
    @pytest.mark.parametrize("failure", [NO_SPACE, KeyboardInterrupt(), SystemExit(143)], ids=repr)
    @pytest.mark.parametrize("step", ["fsync", "rename"])
    def test_a_failing_write_leaves_what_was_there(self, tmp_path, monkeypatch, old, failure, step):
        path = tmp_path / "run.toml"
        if old is not None:
            path.write_bytes(old)

        def fail(*_):
            raise failure

        monkeypatch.setattr(*{"fsync": (os, "fsync", fail), "rename": (Path, "replace", fail)}[step])
        with pytest.raises(type(failure)):
            write_bytes_atomic(path, b"new")
        assert names_below(tmp_path) == ([] if old is None else ["run.toml"])
        assert old is None or path.read_bytes() == old

    def test_data_that_cannot_be_written_leaves_what_was_there(self, tmp_path):
        path = touch(tmp_path / "run.toml", b"old")
        with pytest.raises(TypeError):
            write_bytes_atomic(path, "text")
        assert (path.read_bytes(), names_below(tmp_path)) == (b"old", ["run.toml"])

    def test_death_before_the_rename_leaves_the_old_file(self, tmp_path):
        path = touch(tmp_path / "run.toml", b"old")
        code = (
            "import os, pathlib, sys; from recog.core.files import write_bytes_atomic\n"
            "pathlib.Path.replace = lambda *_: os._exit(137)\n"
            "write_bytes_atomic(pathlib.Path(sys.argv[1]), b'new')"
        )
        assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 137
        assert path.read_bytes() == b"old"
        write_bytes_atomic(path, b"new")  # what the dead process left is not in the way
        assert path.read_bytes() == b"new"

    def test_the_file_is_on_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        """The order that survives a power cut: data flushed, renamed, folder flushed."""
        events, fsync, replace = [], os.fsync, Path.replace
        monkeypatch.setattr(os, "fsync", lambda fd: events.append("fsync") or fsync(fd))
        monkeypatch.setattr(Path, "replace", lambda a, b: events.append("rename") or replace(a, b))
        write_bytes_atomic(tmp_path / "run.toml", b"new")
        assert events == ["fsync", "rename", "fsync"]


def fail_inside(target, failure):
    with staged_folder(target) as staging:
        touch(staging / "sub" / "model.onnx", b"half")
        raise failure


class TestStagedFolder:
    def test_success_is_whole(self, tmp_path):
        target = tmp_path / "runs" / "a" / "bundle"  # parents are made
        with staged_folder(target) as staging:
            assert staging.parent == target.parent  # one file system, so the rename is one act
            touch(staging / "model.onnx", b"weights")
            touch(staging / "sub" / "x.json", b"{}")
            assert not target.exists()
        assert names_below(target) == ["model.onnx", "sub", "sub/x.json"]
        assert (target / "model.onnx").read_bytes() == b"weights"
        assert names_below(target.parent) == ["bundle", "bundle/model.onnx", "bundle/sub", "bundle/sub/x.json"]

    @pytest.mark.parametrize("failure", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(143), NO_SPACE], ids=repr)
    def test_a_failing_block_leaves_nothing(self, tmp_path, failure):
        with pytest.raises(type(failure)):
            fail_inside(tmp_path / "bundle", failure)
        assert names_below(tmp_path) == []

    @pytest.mark.parametrize("step", ["fsync", "rename"])
    def test_a_failing_end_leaves_nothing(self, tmp_path, monkeypatch, step):
        def fail(*_):
            raise NO_SPACE

        monkeypatch.setattr(*{"fsync": (os, "fsync", fail), "rename": (Path, "rename", fail)}[step])
        with pytest.raises(OSError, match="No space left"), staged_folder(tmp_path / "bundle") as staging:
            touch(staging / "model.onnx", b"weights")
        assert names_below(tmp_path) == []

    def test_death_inside_the_block_leaves_no_target(self, tmp_path):
        code = (
            "import os, pathlib, sys; from recog.core.files import staged_folder\n"
            "with staged_folder(pathlib.Path(sys.argv[1])) as staging:\n"
            "    (staging / 'model.onnx').write_bytes(b'half'); os._exit(137)"
        )
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "bundle")]).returncode == 137
        assert not (tmp_path / "bundle").exists()

    @pytest.mark.parametrize("make", [touch, Path.mkdir], ids=["file", "folder"])
    def test_what_exists_is_refused_and_left_alone(self, tmp_path, make):
        make(tmp_path / "bundle")
        with pytest.raises(DataError, match="exists already; nothing was written"), staged_folder(tmp_path / "bundle"):
            pytest.fail("the block must not run")
        assert names_below(tmp_path) == ["bundle"]

    def test_a_dead_process_of_the_same_number_is_not_in_the_way(self, tmp_path, monkeypatch):
        """In a container the process is number 1 each time; what a killed one left behind must not stop the next."""
        monkeypatch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(RuntimeError):
            fail_inside(tmp_path / "bundle", RuntimeError())
        assert len(names_below(tmp_path)) == 3  # the left-over folder, its sub-folder and its file
        with staged_folder(tmp_path / "bundle") as staging:
            touch(staging / "model.onnx")
        assert names_below(tmp_path / "bundle") == ["model.onnx"]

    def test_others_may_read_the_result_as_the_umask_says(self, tmp_path):
        before = os.umask(0o022)
        try:
            with staged_folder(tmp_path / "bundle"):
                pass
        finally:
            os.umask(before)
        assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o755


class TestClaims:
    def test_claims_at_once_have_different_names(self, tmp_path):
        with ThreadPoolExecutor(8) as pool:
            folders = list(pool.map(lambda _: claim_folder(tmp_path / "evaluations", "digits"), range(40)))
        assert {folder.name for folder in folders} == {f"digits-{n}" for n in range(1, 41)}

    def test_a_claimed_folder_is_replaced_by_the_staged_one(self, tmp_path):
        folder = claim_folder(tmp_path, "a")
        with staged_folder(folder, is_claimed=True) as staging:
            touch(staging / "report.json")
            assert names_below(folder) == []
        assert names_below(folder) == ["report.json"]
        assert names_below(tmp_path) == ["a-1", "a-1/report.json"]

    def test_a_claim_ends_with_a_failure(self, tmp_path):
        folder = claim_folder(tmp_path, "a")
        with pytest.raises(NotADirectoryError), staged_folder(folder, is_claimed=True) as staging:
            (touch(staging / "report.json") / "below").mkdir()
        assert names_below(tmp_path) == []
        with pytest.raises(RuntimeError), claimed(tmp_path / "out"):
            raise RuntimeError
        assert names_below(tmp_path) == []

    def test_a_name_is_claimed_before_the_work(self, tmp_path):
        with (
            claimed(tmp_path / "out"),
            pytest.raises(DataError, match="out exists already; nothing was written"),
            claimed(tmp_path / "out"),
        ):
            pass
        assert names_below(tmp_path) == ["out"]

    def test_a_folder_that_appears_meanwhile_is_not_lost(self, tmp_path):
        with pytest.raises(DataError, match="out exists already"), staged_folder(tmp_path / "out") as staging:
            touch(touch(tmp_path / "out" / "theirs") and staging / "mine")
        assert names_below(tmp_path) == ["out", "out/theirs"]

    def test_a_temporary_name_that_somebody_put_there_is_not_followed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0")
        outside = touch(tmp_path / "outside", b"theirs")
        (tmp_path / f"run.toml.tmp-{os.getpid()}-0").symlink_to(outside)
        with pytest.raises(FileExistsError):
            write_bytes_atomic(tmp_path / "run.toml", b"mine")
        assert outside.read_bytes() == b"theirs"


class TestOpenRegular:
    @pytest.mark.timeout(10)  # a pipe that is opened would wait for the other end for ever
    @pytest.mark.parametrize("mode", ["rb", "r+b", "ab", "a+b"])
    @pytest.mark.parametrize(
        ("make", "what"),
        [
            (os.mkfifo, "is a named pipe"),
            (os.mkdir, "is a folder"),
            (lambda path: path.symlink_to(touch(path.parent / "other")), "is a symbolic link"),
            (lambda path: path.symlink_to(path.parent / "absent"), "is a symbolic link"),
        ],
    )
    def test_only_regular_files(self, tmp_path, make, mode, what):
        make(tmp_path / "x")
        with pytest.raises(BundleError, match=rf"x {what}; expected a regular file\."):
            open_regular(tmp_path / "x", mode, error=BundleError)
        assert not (tmp_path / "absent").exists()

    def test_absent_files_are_made_to_append_only(self, tmp_path):
        for mode in ("rb", "r+b"):
            with pytest.raises(DataError, match="x cannot be (read|written): No such file or directory"):
                open_regular(tmp_path / "x", mode)
        for mode in ("ab", "a+b"):
            with open_regular(tmp_path / "x", mode) as file:
                file.write(b"ab")
        with open_regular(tmp_path / "x") as file:
            assert file.read() == b"abab"


class TestCacheFolder:
    def test_xdg_cache_home_wins(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        folder = cache_folder("weights")
        assert folder == tmp_path / "xdg" / "recog" / "weights"
        assert folder.is_dir()
        assert cache_folder("weights") == folder  # a second time too

    @pytest.mark.parametrize("xdg", [None, "", "relative/cache"])  # the XDG specification: a relative one is ignored
    def test_else_the_home_folder(self, tmp_path, monkeypatch, xdg):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        if xdg is not None:
            monkeypatch.setenv("XDG_CACHE_HOME", xdg)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_folder("weights") == tmp_path / "home" / ".cache" / "recog" / "weights"

    def test_without_a_home_the_users_own_temporary_folder(self, tmp_path, monkeypatch):
        """No HOME and a user whom the system does not know, as in many containers."""

        def unknown(_):
            raise KeyError

        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(pwd, "getpwuid", unknown)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
        (tmp_path / "tmp").mkdir(mode=0o700)
        assert cache_folder("weights") == tmp_path / "tmp" / "recog" / "weights"
        assert names_below(tmp_path) == ["tmp", "tmp/recog", "tmp/recog/weights"]  # and no folder named '~'
        (tmp_path / "tmp").chmod(0o1777)  # as /tmp is: others may have put files there for us to read
        with pytest.raises(DataError, match="no folder for its cache.* Set XDG_CACHE_HOME"):
            cache_folder("images")

    def test_it_is_closed_to_others(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        (tmp_path / "recog").mkdir()
        (tmp_path / "recog").chmod(0o777)
        assert cache_folder("weights").parent.stat().st_mode & 0o777 == 0o700

    def test_another_users_folder_is_passed_over(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        theirs = cache_folder("weights").parent
        stat = Path.stat

        def stat_of(path, **options):
            found = stat(path, **options)
            return os.stat_result((*found[:4], found.st_uid + 1, *found[5:])) if path == theirs else found

        monkeypatch.setattr(Path, "stat", stat_of)
        assert cache_folder("weights") == tmp_path / "home" / ".cache" / "recog" / "weights"
        monkeypatch.setenv("HOME", str(touch(tmp_path / "file")))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        with pytest.raises(DataError, match=rf"it belongs to the user {os.getuid() + 1}, and you are {os.getuid()}"):
            cache_folder("weights")

    def test_a_place_that_cannot_be_written_is_passed_over(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(touch(tmp_path / "file") / "below"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_folder("weights") == tmp_path / "home" / ".cache" / "recog" / "weights"

    def test_nowhere_is_an_error_with_its_remedy(self, tmp_path, monkeypatch):
        blocked = str(touch(tmp_path / "file") / "below")
        monkeypatch.setenv("XDG_CACHE_HOME", blocked)
        monkeypatch.setenv("HOME", blocked)
        monkeypatch.setattr(tempfile, "tempdir", blocked)
        with pytest.raises(DataError, match="Set XDG_CACHE_HOME"):
            cache_folder("weights")
