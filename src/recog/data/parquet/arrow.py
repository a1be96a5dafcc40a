"""Arrow files as Hugging Face datasets saves them (`save_to_disk`): images stay where they are in the file, which is mapped.

What pyarrow would allocate is bounded before it reads a file: the messages' sizes are compared with the file's, and compressed
ones, which may unpack to any size, are refused. The format is that of Arrow's IPC streams, as arrow.apache.org describes it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recog.core.errors import DataError, missing_extra
from recog.core.files import is_hidden, natural_key, size_of_regular
from recog.core.records import decode_object, read_bytes
from recog.data.archives.members import StoredBytes

ARROW_SUFFIX = ".arrow"
_FILE_MAGIC = b"ARROW1\0\0"  # a file is a stream with this before it and a table of contents behind it
_CONTINUATION = b"\xff\xff\xff\xff"
_MAX_HEADER_BYTES = 16 << 20  # of a message; that of a schema holds the class names
_MAX_MESSAGES = 1_000_000
_DICTIONARY, _BATCH = 2, 3  # kinds of messages; 1 is the schema
_NOT_DATA = ("cache-", "indices-")  # what datasets keeps beside the data


def find_arrow(root: Path) -> list[Path]:
    """The Arrow files of a saved Dataset or DatasetDict, or directly in a folder; none where there is no such file."""
    if (root / "dataset_dict.json").is_file():
        splits = decode_object(
            read_bytes(root / "dataset_dict.json", error=DataError), where=str(root), error=DataError
        )
        names = splits.get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) and _is_plain(name) for name in names):
            raise DataError(f"{root / 'dataset_dict.json'} does not name the splits, as datasets writes it.")
        return [path for name in names for path in _files_in(root / name)]
    return _files_in(root)


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name


def _files_in(folder: Path) -> list[Path]:
    """By state.json, where there is one: an interrupted or newer save may have left other files."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}, although dataset_dict.json names it. Save or download it again.")
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ARROW_SUFFIX and not is_hidden(path.name) and not path.name.startswith(_NOT_DATA)
    ]
    state = folder / "state.json"
    if found and state.is_file():
        table = decode_object(read_bytes(state, error=DataError), where=str(state), error=DataError)
        files = table.get("_data_files")
        named = [entry.get("filename") for entry in files if isinstance(entry, dict)] if isinstance(files, list) else []
        missing = [name for name in named if name not in {path.name for path in found}]
        if missing:
            raise DataError(f"{folder} lacks {missing[0]}, which {state.name} names. Save or download it again.")
        found = [path for path in found if path.name in named]
    return sorted(found, key=lambda path: natural_key(path.name))


class ArrowFile:
    """An Arrow file, mapped: its schema, and its rows a batch at a time."""

    def __init__(self, path: Path) -> None:
        """DataError where the file is damaged, cut off or compressed."""
        try:
            import pyarrow.ipc
        except ModuleNotFoundError as error:
            raise missing_extra(error) or error from None
        self.path = path
        start, self.num_rows = _check_messages(path)
        try:
            self._whole = pyarrow.memory_map(str(path)).read_buffer()
            self._stream = self._whole.slice(start)
            with pyarrow.ipc.open_stream(self._stream) as reader:
                self.schema_arrow = reader.schema
            _read_names(self.schema_arrow)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _damaged(path, str(error).strip().partition("\n")[0]) from None

    def rows(self, columns: Sequence[str], image: str | None = None) -> Iterator[dict[str, Any]]:
        """{column: cell} of each row. Cells of the column `image` are StoredBytes, or 'bytes' and 'path' of structs."""
        import pyarrow.ipc

        with pyarrow.ipc.open_stream(self._stream) as reader:
            for batch in reader:
                chosen = {name: batch.column(batch.schema.get_field_index(name)) for name in columns}
                for array in chosen.values():
                    array.validate(full=True)  # that no offset leads out of the file
                cells = [self._images(array) if name == image else array for name, array in chosen.items()]
                for row in zip(*cells, strict=True):
                    yield dict(zip(chosen, row, strict=True))

    def _images(self, array: Any) -> Iterator[Any]:
        import pyarrow

        if not pyarrow.types.is_struct(array.type):
            yield from self._stored(array)
            return
        names = [field.name for field in array.type]
        paths = array.field("path").to_pylist() if "path" in names else [None] * len(array)
        for is_valid, data, path in zip(array.is_valid(), self._stored(array.field("bytes")), paths, strict=True):
            yield {"bytes": data, "path": path} if is_valid.as_py() else None

    def _stored(self, array: Any) -> Iterator[StoredBytes | bytes | None]:
        """Where the bytes of each cell lie in the file; the bytes themselves of types that do not keep them side by side."""
        import pyarrow

        numbers: dict[Any, np.dtype[Any]] = {pyarrow.binary(): np.dtype("i4"), pyarrow.large_binary(): np.dtype("i8")}
        number = numbers.get(array.type)
        buffers = array.buffers()
        if number is None or not len(array) or buffers[2] is None or not self._holds(buffers[2]):
            yield from (cell.as_py() for cell in array)
            return
        start = buffers[2].address - self._whole.address
        first = array.offset * number.itemsize
        ends = np.frombuffer(buffers[1], dtype=number, count=len(array) + 1, offset=first).tolist()
        for is_valid, begin, end in zip(array.is_valid(), ends[:-1], ends[1:], strict=True):
            stored = StoredBytes(name="", path=self.path, offset=start + begin, size=end - begin)
            yield stored if is_valid.as_py() else None

    def _holds(self, buffer: Any) -> bool:
        offset = buffer.address - self._whole.address
        return bool(0 <= offset <= self._whole.size - buffer.size)


def _read_names(schema: Any) -> None:
    """UnicodeDecodeError where a name is not UTF-8, which is found by reading it."""
    for field in schema:
        _ = field.name, [inner.name for inner in field.type] if hasattr(field.type, "fields") else ()


class _Message(NamedTuple):
    kind: int
    num_rows: int
    is_compressed: bool
    num_body_bytes: int


def _check_messages(path: Path) -> tuple[int, int]:
    """(where the stream begins, number of rows), after a walk over all messages that reads their headers only."""
    num_bytes = size_of_regular(path)
    num_rows = 0
    with path.open("rb") as file:
        start = len(_FILE_MAGIC) if file.read(len(_FILE_MAGIC)) == _FILE_MAGIC else 0
        position = start
        for _ in range(_MAX_MESSAGES):
            file.seek(position)
            prefix = file.read(8)
            if not prefix and position > start or prefix[4:] == bytes(4):
                return start, num_rows
            size = int.from_bytes(prefix[4:], "little", signed=True)
            if prefix[:4] != _CONTINUATION or not 0 < size <= min(_MAX_HEADER_BYTES, num_bytes - position - 8):
                raise _damaged(path, "a message begins wrongly")
            try:
                message = _read_message(file.read(size))
            except (struct.error, IndexError):
                raise _damaged(path, "the header of a message is malformed") from None
            if message.is_compressed:
                raise DataError(f"{path} is compressed, which is not read. Save it without compression, or as Parquet.")
            position += 8 + size + message.num_body_bytes
            if message.num_body_bytes < 0 or position > num_bytes:
                raise _damaged(path, "a message leads behind its end")
            num_rows += message.num_rows
    raise DataError(f"{path} has more than {_MAX_MESSAGES:,} batches of rows. Write larger ones.")


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged, cut off or no Arrow file ({why}). Save or download it again.")


def _read_message(header: bytes) -> _Message:
    """Of a header, which is a Flatbuffers table: Message.fbs of Arrow's format, fields by their numbers there."""
    message = _Table(header, _number_at(header, 0, "I"))
    kind = message.number(1, "B")
    batch = message.table(2) if kind in (_DICTIONARY, _BATCH) else None
    if batch is not None and kind == _DICTIONARY:
        batch = batch.table(1)
    return _Message(
        kind=kind,
        num_rows=batch.number(0, "q") if batch is not None and kind == _BATCH else 0,
        is_compressed=batch is not None and batch.place(3) is not None,
        num_body_bytes=message.number(3, "q"),
    )


class _Table:
    """A table of Flatbuffers: a signed offset back to its vtable, which holds the place of each field, or 0."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._start = data, start
        self._fields = start - _number_at(data, start, "i")
        self._num_bytes = _number_at(data, self._fields, "H")

    def place(self, field: int) -> int | None:
        at = 4 + 2 * field
        offset = _number_at(self._data, self._fields + at, "H") if at + 2 <= self._num_bytes else 0
        return self._start + offset if offset else None

    def number(self, field: int, kind: str) -> int:
        place = self.place(field)
        return 0 if place is None else _number_at(self._data, place, kind)

    def table(self, field: int) -> _Table | None:
        place = self.place(field)
        return None if place is None else _Table(self._data, place + _number_at(self._data, place, "I"))


def _number_at(data: bytes, place: int, kind: str) -> int:
    """The number of struct's `kind` at `place`. struct.error or IndexError where it is not inside `data`."""
    if place < 0:
        raise IndexError(place)
    return int(struct.unpack_from(f"<{kind}", data, place)[0])
