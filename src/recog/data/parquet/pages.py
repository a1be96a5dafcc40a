"""Sizes of the pages of a Parquet file, read from their headers before pyarrow allocates them.

A page is decompressed as a whole, and the footer may state any size for it. Parquet format 2.11, parquet.thrift; the headers
are written in Thrift's compact protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from recog.core.errors import DataError

MAX_PAGE_BYTES = (
    256 << 20
)  # as the limit of an image file; a page may have more in the measure of what it takes in the file
MAX_EXPANSION = 4  # images are compressed already; pyarrow writes pages of 1,024 images, however large
MAX_TEXT_PAGE_BYTES = 16 << 20  # 1,024 texts of 200 characters, the longest that a column to slice by has, take less
MAX_PAGES = 100_000  # of one column in one row group: 100 GB in pages of 1 MB, the usual size
_HEADER_BYTES = (256, 1 << 16, 1 << 24)  # tried in turn: statistics may make a header long
_MAX_DEPTH = 8


class Page(NamedTuple):
    num_bytes: int  # decompressed
    packed_bytes: int  # in the file


def holds_long_texts(path: Path, metadata: Any, column: str) -> bool:
    """Whether a page of `column` is so large that its texts are too long to slice by, in the file of this `metadata`."""
    with path.open("rb") as file:
        for group in range(metadata.num_row_groups):
            if metadata.row_group(group).num_rows == 0:
                continue
            for leaf in _leaves(metadata.row_group(group), [column]):
                if any(page.num_bytes > MAX_TEXT_PAGE_BYTES for page in _pages(file, path, leaf)):
                    return True
    return False


def _leaves(row_group: Any, columns: Sequence[str]) -> Iterator[Any]:
    for i in range(row_group.num_columns):
        leaf = row_group.column(i)
        if any(leaf.path_in_schema == name or leaf.path_in_schema.startswith(f"{name}.") for name in columns):
            yield leaf


def largest_pages(path: Path, row_group: Any, columns: Sequence[str]) -> int:
    """The decompressed bytes of the largest page of each column, summed: what a row can take. `row_group` is its metadata.

    Raises DataError where a page is larger than any image, or where the headers are malformed.
    """
    total = 0
    with path.open("rb") as file:
        for leaf in _leaves(row_group, columns):
            largest = 0
            for page in _pages(file, path, leaf):
                if page.num_bytes > max(MAX_PAGE_BYTES, MAX_EXPANSION * page.packed_bytes):
                    raise DataError(
                        f"{path} has a page of {page.num_bytes:,} bytes, packed in {page.packed_bytes:,}, in the column "
                        f"{leaf.path_in_schema}; it may be made to fill the memory. If it is honest, write smaller pages."
                    )
                largest = max(largest, page.num_bytes)
            total += largest
    return total


def _pages(file: BinaryIO, path: Path, column: Any) -> Iterator[Page]:
    start = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    end = start + column.total_compressed_size
    for _ in range(MAX_PAGES):
        if start >= end:
            return
        page, num_bytes = _read_header(file, path, start)
        yield page
        start += num_bytes
    raise DataError(
        f"{path} has more than {MAX_PAGES:,} pages in the column {column.path_in_schema}. Write larger pages."
    )


def _read_header(file: BinaryIO, path: Path, start: int) -> tuple[Page, int]:
    """The page whose header begins at `start`, and the bytes that header and page take in the file."""
    for num_bytes in _HEADER_BYTES:
        file.seek(start)
        reader = _Compact(file.read(num_bytes))
        try:
            fields = reader.read_struct(0)
        except (IndexError, struct.error):
            continue  # longer than what was read, or cut off
        except (ValueError, RecursionError):
            break
        size, packed = fields.get(2), fields.get(3)
        if isinstance(size, int) and isinstance(packed, int) and size >= 0 and packed >= 0:
            return Page(size, packed), reader.at + packed
        break
    raise DataError(f"{path} is damaged or cut off (the header of a page is malformed). Download it again.")


class _Compact:
    """A reader of Thrift's compact protocol: {field: value} of a struct; IndexError at the end of the data."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def read_struct(self, depth: int) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("structs are nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) & 15:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 12:
            return self.read_struct(depth + 1)
        if kind not in (3, 7, 8):  # no page header holds a list or a map
            raise ValueError("an unknown type")
        return self._skip(self._varint() if kind == 8 else 8 if kind == 7 else 1)

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def _skip(self, num_bytes: int) -> None:
        self.at += num_bytes
        if self.at > len(self.data):
            raise IndexError
