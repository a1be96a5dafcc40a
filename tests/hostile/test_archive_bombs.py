"""Kind 42: an archive that unpacks to far more than it is, or than there is room for, is refused within little memory."""

import subprocess
import sys
import tracemalloc

import archive_bombs
import pytest
from archive_bombs import MIB, REFUSED

from recog.core.errors import BadImage, DataError
from recog.data.sources import open_source

MAX_PEAK_MIB = 32  # half of the 64 MiB that the bombs unpack to, and of the 4 GiB that some claim, next to nothing


def peak_mib(call):
    """What `call` held at most at one time, of Python's own objects and of what zlib and liblzma took through it."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("build", "says"), REFUSED, ids=lambda part: getattr(part, "__name__", ""))
def test_it_is_refused_by_a_sentence_within_little_memory(tmp_path, build, says):
    path = build(tmp_path)
    assert path.stat().st_size < 2 * MIB

    def read():
        with pytest.raises(DataError, match=says):
            open_source(path)

    assert peak_mib(read) < MAX_PEAK_MIB


def test_a_member_that_claims_less_than_it_is_is_a_bad_image_and_the_others_are_read(tmp_path):
    path = archive_bombs.zip_that_claims_less(tmp_path)
    bad = []

    def read():
        for sample in open_source(path).samples:
            try:
                assert sample.source.read().startswith(b"\x89PNG")
            except BadImage as error:
                bad.append(str(error))

    assert peak_mib(read) < 2  # the packed 64 KiB and the claimed 1,000 bytes
    assert len(bad) == 1
    assert "cat/bomb.png: the member of pets.zip is damaged (its checksum or size is wrong)" in bad[0]


def test_a_dictionary_as_xz_9_takes_it_is_read(tmp_path):
    assert [s.name for s in open_source(archive_bombs.tar_xz_with_dictionary(tmp_path, 28)).samples] == ["cat/1.png"]


@pytest.mark.parametrize("build", [archive_bombs.zip_of_zeros, archive_bombs.tar_gz_of_zeros])
def test_the_command_ends_with_the_code_for_bad_data(tmp_path, build):
    command = [sys.executable, "-m", "recog", "scan", str(build(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == DataError.exit_code == 3
    assert "taken for an archive bomb" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
