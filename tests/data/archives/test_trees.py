"""Our readers against Python's own zipfile and tarfile as the second method."""

import os
import struct
import zipfile

import pytest
from containers import labelled_pngs, write_tar, write_tar_gz, write_zip

from recog.core.errors import BadImage, DataError
from recog.data.archives.members import ArchiveLimits, RefusedMember, ZipMember
from recog.data.archives.tars import read_tar
from recog.data.archives.trees import tar_tree, zip_tree
from recog.data.archives.zips import read_zip
from recog.data.sources import open_source

FILES = {f"{'deep/' * i}file {i} \N{CAT FACE}.bin": os.urandom(700 * i) for i in range(1, 30)}


def reasons_of(tree):
    """Why members that are images by their names are not read."""
    return {member.reason for member in tree.files.values() if isinstance(member, RefusedMember)}


def test_an_archive_without_its_end_mark_is_read_with_a_note(tmp_path):
    path = write_tar(labelled_pngs(2), tmp_path / "t")
    size = max(m.stored.offset + m.stored.size for m in read_tar(path).members)
    path.write_bytes(path.read_bytes()[: -(-size // 512) * 512])
    assert "no end mark" in open_source(path).notes[0]


def test_limits_at_and_above(tmp_path):
    path = write_zip(labelled_pngs(2), tmp_path / "z")  # 6 members
    assert len(read_zip(path, ArchiveLimits(max_entries=6))) == 6
    with pytest.raises(DataError, match="6 entries"):
        read_zip(path, ArchiveLimits(max_entries=5))
    total = sum(e.member.size for e in read_zip(path))
    read_zip(path, ArchiveLimits(max_total_bytes=total))
    with pytest.raises(DataError, match="bytes unpacked; at most"):
        read_zip(path, ArchiveLimits(max_total_bytes=total - 1))
    tree = zip_tree(path, ArchiveLimits(max_member_bytes=10))
    assert reasons_of(tree) == {"it is too large for an image"}
    largest = max(max(e.member.size, e.member.packed_size) for e in read_zip(path))
    assert not reasons_of(zip_tree(path, ArchiveLimits(max_member_bytes=largest)))
    path = write_tar(labelled_pngs(2), tmp_path / "t")
    read_tar(path, ArchiveLimits(max_entries=6))
    with pytest.raises(DataError, match="6 entries; at most 5"):
        read_tar(path, ArchiveLimits(max_entries=5))
    tree = tar_tree(path, read_tar(path, ArchiveLimits(max_member_bytes=10)))
    assert reasons_of(tree) == {"it is too large for an image"}


@pytest.mark.parametrize("write", [write_zip, write_tar, write_tar_gz])
def test_any_damaged_byte_is_an_error_or_harmless(tmp_path, write):
    """Flipped bytes end in DataError or BadImage, or change nothing that is read; never in another exception."""
    images = labelled_pngs(1, size=4)
    path = write(images, tmp_path / "x")
    data = path.read_bytes()
    for position in range(0, len(data), max(1, len(data) // 400)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        try:
            for sample in open_source(path).samples:
                sample.source.read()
        except (DataError, BadImage):
            pass


def test_a_member_packed_in_more_than_an_image_may_have_is_not_read(tmp_path):
    """Its size may claim what it likes: all that it is packed in would be read first."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/1.png", os.urandom(1000))
    data = bytearray(path.read_bytes())
    struct.pack_into("<L", data, data.rfind(b"PK\x01\x02") + 24, 10)
    path.write_bytes(data)
    tree = zip_tree(path, ArchiveLimits(max_member_bytes=999))
    assert reasons_of(tree) == {"it is too large for an image"}
    assert isinstance(zip_tree(path, ArchiveLimits(max_member_bytes=1000)).files["cat/1.png"], ZipMember)


def test_members_that_are_not_read_are_bad_images_by_their_suffix_and_left_out_otherwise(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("cat/1.png", b"x")
        archive.writestr("cat/notes.txt", b"x")
    tree, reason = zip_tree(path), "it is packed by method 14 (LZMA); only stored and deflated members are read"
    assert [(e.name, e.reason) for e in tree.exclusions] == [("cat/notes.txt", reason)]
    assert reasons_of(tree) == {reason}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_first_bytes_of_a_member_tell_an_image_without_reading_it_whole(tmp_path, method, monkeypatch):
    from recog.data.archives import members

    image, sizes = os.urandom(10) + b"x" * 500_000, []
    image = b"\xff\xd8\xff" + image
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("cat/1", image)
        archive.writestr("cat/2", b"a note of a few words")
    read_range = members.read_range
    monkeypatch.setattr(members, "read_range", lambda p, o, n, **kw: sizes.append(n) or read_range(p, o, n, **kw))
    tree = zip_tree(tmp_path / "a.zip", ArchiveLimits(max_ratio=1e9))
    assert [name for name in tree.files if tree.is_image(name)] == ["cat/1"]
    assert tree.files["cat/1"].read_prefix() == image[: len(tree.files["cat/1"].read_prefix())]
    assert max(sizes) <= 2048
