"""Our readers against Python's own zipfile and tarfile as the second method."""

import os
from multiprocessing.reduction import ForkingPickler

import pytest
from containers import labelled_pngs, write_tar, write_tar_gz, write_zip

from recog.core.errors import DataError
from recog.data.members import clean_name
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
