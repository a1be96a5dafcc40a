"""Reading .xz within a limit of memory: its header may ask for a dictionary of up to 4 GB, and Python's own reader gives it."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

from recog.core.errors import DataError

MAX_MEMORY_BYTES = 256 << 20  # xz -9 needs 65 MiB to unpack (xz's manual page)
_CHUNK_BYTES = 1 << 20


class XzReader(io.RawIOBase):
    """The unpacked bytes of all streams of a file, from front to back.

    Raises DataError where unpacking needs more memory than `max_memory_bytes`, LZMAError where the file is damaged, and
    EOFError where it is cut off.
    """

    def __init__(self, path: Path, max_memory_bytes: int = MAX_MEMORY_BYTES) -> None:
        super().__init__()
        self._path, self._max_memory_bytes = path, max_memory_bytes
        self._file = path.open("rb")
        self._packed = b""
        self._stream = self._new_stream()

    def _new_stream(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=self._max_memory_bytes)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` in part; 0 at the end."""
        data = b""
        while not data:
            if self._stream.eof and not self._begin_next():
                return 0
            if self._stream.needs_input and not self._packed:
                self._packed = self._file.read(_CHUNK_BYTES)
                if not self._packed:
                    raise EOFError("it ends within a stream")
            data = self._unpack(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _begin_next(self) -> bool:
        """Whether another stream follows, as in files that were joined; zeros between streams are padding."""
        packed = self._stream.unused_data.lstrip(b"\0")
        while not packed and (chunk := self._file.read(_CHUNK_BYTES)):
            packed = chunk.lstrip(b"\0")
        self._packed, self._stream = packed, self._new_stream()
        return bool(packed)

    def _unpack(self, max_bytes: int) -> bytes:
        packed, self._packed = self._packed, b""
        try:
            return self._stream.decompress(packed, max_bytes)
        except lzma.LZMAError as error:
            if "emory usage limit" not in str(error):
                raise
            raise DataError(
                f"{self._path} needs more than {self._max_memory_bytes >> 20} MiB of memory to be unpacked, as its xz "
                "dictionary is so large; it may be made to attack. If it is honest, pack it again with xz -9 or less."
            ) from None
