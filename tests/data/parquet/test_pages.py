"""Sizes of pages, against what was written: plain values of known lengths, one page or several, in every codec."""

import contextlib

import pytest

from recog.core.errors import DataError
from recog.data.parquet.pages import MAX_PAGE_BYTES, holds_long_texts, largest_pages

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

LENGTH = 3000


def row_group(path):
    return pq.ParquetFile(path).metadata.row_group(0)


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_page_of_plain_values(tmp_path, compression, version):
    """A value takes its length in 4 bytes and itself; the levels of five rows, all there, take less than 16 bytes."""
    table = pa.table({"image": [b"x" * LENGTH] * 5, "other": [b"x" * 9999] * 5})
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, compression=compression, data_page_version=version, use_dictionary=False)
    values = 5 * (4 + LENGTH)
    assert values <= largest_pages(path, row_group(path), ["image"]) < values + 16


def test_a_dictionary_counts_as_a_page(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": [b"x" * LENGTH] * 1000}), path)
    assert largest_pages(path, row_group(path), ["image"]) == 4 + LENGTH


def test_the_largest_of_several_pages_and_of_several_columns(tmp_path):
    texts = ["x" * 100] * 400 + ["y" * LENGTH] * 400
    table = pa.table({"a": texts, "image": [{"bytes": b"z" * 50}] * 800})
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, data_page_size=1000, write_batch_size=1, use_dictionary=False)
    group = row_group(path)
    one, both = (largest_pages(path, group, names) for names in (["a"], ["a", "image.bytes"]))
    assert 4 + LENGTH <= one < 4 + LENGTH + 16
    assert 1000 - 54 < both - one < 1000 + 54 + 16  # a page is closed by the value that fills its 1,000 bytes


def test_a_page_that_unpacks_to_far_more_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": ["x" * (MAX_PAGE_BYTES + 1)]}), path, use_dictionary=False, compression="zstd")
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"a page of 268,435,46\d bytes, packed in [\d,]+, in the column image"):
        largest_pages(path, row_group(path), ["image"])


@pytest.mark.parametrize(("length", "expected"), [(200, False), (20_000, True)])
def test_long_texts(tmp_path, length, expected):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"caption": ["x" * length] * 1024}), path, use_dictionary=False)
    assert holds_long_texts(path, pq.ParquetFile(path).metadata, "caption") is expected


@pytest.mark.parametrize("byte", range(0, 24))
def test_damage_is_refused_or_changes_nothing_else(tmp_path, byte):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": [b"x" * LENGTH] * 5}), path, use_dictionary=False)
    group = row_group(path)
    data = bytearray(path.read_bytes())
    for value in (0, 0x0C, 0x1C, 0x7F, 0x80, 0xFF):
        data[4 + byte] = value
        path.write_bytes(data)
        with contextlib.suppress(DataError):
            assert largest_pages(path, group, ["image"]) >= 0
