"""Our readers against Python's own zipfile and tarfile as the second method."""

import os
import subprocess
import sys
import tempfile
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace

import pytest
from containers import labelled_pngs, write_tar, write_tar_gz, write_zip

from recog.core.errors import DataError
from recog.data.archives.members import ArchiveLimits, Spool, check_totals, clean_name, name_bytes
from recog.data.sources import open_source

FILES = {f"{'deep/' * i}file {i} \N{CAT FACE}.bin": os.urandom(700 * i) for i in range(1, 30)}


def test_members_cross_to_other_processes_without_open_handles(tmp_path):
    for write in (write_zip, write_tar):
        sample = open_source(write(labelled_pngs(1), tmp_path / write.__name__)).samples[0]
        assert ForkingPickler.loads(ForkingPickler.dumps(sample.source)).read() == sample.source.read()


def test_the_spool_of_a_compressed_tar_goes_with_its_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = open_source(write_tar_gz(labelled_pngs(1), tmp_path / "t"))
    assert len(list(tmp_path.glob("recog-spool-*"))) == 1
    assert data.samples[0].source.read().startswith(b"\x89PNG")
    del data
    assert not list(tmp_path.glob("recog-spool-*"))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "C:\\x", "c:/x", "a\0b", "..\\x", "\\\\host\\x"])
def test_names_that_point_out_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="points out of the archive"):
        clean_name(name, tmp_path)


def test_a_name_counts_with_the_folders_above_it():
    assert [name_bytes(name) for name in ("1.png", "cat/1.png", "a/b/c")] == [5, 18, 15]


@pytest.mark.parametrize(
    ("count", "total", "held", "says"),
    [
        (4, 300, 60, None),
        (5, 300, 60, "5 entries; at most 4"),
        (4, 401, 60, "401 bytes unpacked; at most 400"),
        (4, 300, 61, "names of 61 bytes; at most 60"),
        (4, 301, 60, "unpacks to 3 times its size"),  # 3.01
    ],
)
def test_totals_at_and_above_each_limit(tmp_path, count, total, held, says):
    limits = ArchiveLimits(max_entries=4, max_total_bytes=400, max_name_bytes=60, max_ratio=3, free_bytes=200)

    def check():
        check_totals(tmp_path, count=count, total=total, held=held, packed_bytes=100, limits=limits)

    if says is None:
        check()
    else:
        with pytest.raises(DataError, match=says):
            check()


def test_the_spool_stops_before_the_temporary_folder_is_full(tmp_path, monkeypatch):
    """The disk's figures are made up, as no test fills a disk: of 1,000 bytes a twentieth, 50, is left to others."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def disk_usage(folder):
        return SimpleNamespace(total=1000, free=1000 - sum(path.stat().st_size for path in Path(folder).iterdir()))

    monkeypatch.setattr("shutil.disk_usage", disk_usage)
    spool = Spool("unpacking pets.tar.gz", 950)
    assert spool.add("a", [bytes(950)]).size == 950
    spool.close()
    with pytest.raises(DataError, match=r"unpacking pets.tar.gz needs .* GB or more in the temporary folder"):
        Spool("unpacking pets.tar.gz", 1)
    del spool
    with pytest.raises(DataError, match="Free some or set TMPDIR"):
        Spool("unpacking pets.tar.gz").add("a", [bytes(951)])
    assert not list(tmp_path.iterdir())


HOLDER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from recog.data.archives.members import Spool
spool = Spool("a test")
spool.add("a", [bytes(1000)])
spool.close()
print(spool.path, flush=True)
sys.stdin.read()
"""


def test_the_spool_of_a_killed_process_goes_with_the_next_and_that_of_a_living_one_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "recog-spool-of-something-else").write_bytes(b"x")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    killed, alive = (Path(process.stdout.readline().strip()) for process in processes)
    processes[0].kill()
    processes[0].wait()
    assert killed.exists()
    spool = Spool("the next")
    assert not killed.exists()
    assert alive.stat().st_size == 1000
    processes[1].communicate("")
    assert not alive.exists()
    assert {path.name for path in tmp_path.iterdir()} == {spool.path.name, "recog-spool-of-something-else"}
