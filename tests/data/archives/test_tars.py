"""Our readers against Python's own zipfile and tarfile as the second method."""

import io
import os
import tarfile

import numpy as np
import pytest
from containers import png

from recog.core.errors import DataError
from recog.data.archives.tars import is_tar, read_tar
from recog.data.archives.zips import is_zip
from recog.data.sources import open_source

FILES = {f"{'deep/' * i}file {i} \N{CAT FACE}.bin": os.urandom(700 * i) for i in range(1, 30)}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_members_are_what_tarfile_reads(tmp_path, form, mode):
    path = tmp_path / "a.tar"
    files = {n: d for n, d in FILES.items() if form != tarfile.USTAR_FORMAT or len(n) < 90}
    with tarfile.open(path, mode, format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5
            archive.addfile(info, io.BytesIO(data))
    content = read_tar(path)
    assert is_tar(path)
    assert content.has_end_mark
    assert {m.name: m.stored.read() for m in content.members} == files


def test_what_is_no_archive(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(png(np.zeros((4, 4), np.uint8)))
    assert not is_tar(path)
    assert not is_zip(path)
    with pytest.raises(DataError, match="is a file; expected"):
        open_source(path)
