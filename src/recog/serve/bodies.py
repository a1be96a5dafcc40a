"""Bodies of HTTP requests: read within their limits, and taken apart into images. Nothing is written to disk."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from recog.core.images.formats import PREFIX_BYTES, is_image_content
from recog.core.text import visible
from recog.serve.config import ServeLimits
from recog.serve.inference import Unavailable
from recog.serve.messages import Image

_MAX_NAME = 255  # characters of a client's file name that are repeated in the answer
_MAX_PART_HEADERS = 16
_AS_SENT_BY_HABIT = ("", "application/x-www-form-urlencoded")  # the second by curl --data-binary, whatever the file
TIMEOUT_HEADER = "x-request-timeout"


class RequestError(Exception):
    """What is wrong with a request, for its sender."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Admission:
    """Counts the requests that are read or answered, and the bytes of their bodies."""

    def __init__(self, limits: ServeLimits) -> None:
        self._limits = limits
        self.num_open = 0
        self.num_bytes = 0

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """While entered, a request is open. Unavailable where there are too many."""
        if self.num_open >= self._limits.max_open:
            raise Unavailable("too many requests are open")
        self.num_open += 1
        try:
            yield
        finally:
            self.num_open -= 1

    @contextlib.asynccontextmanager
    async def body(self, request: Request, *, timeout_s: float) -> AsyncIterator[bytes]:
        """The whole body, counted while entered.

        RequestError where it is too large or too slow, Unavailable where memory is short, ClientDisconnect where its sender left.
        """
        check_length(request.headers.get("content-length"), self._limits)
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding not in ("", "identity"):
            raise RequestError(415, f"the body is encoded as {visible(encoding)[:40]!r}; send it as it is")
        chunks: list[bytes] = []
        held = 0
        try:
            async with asyncio.timeout(timeout_s):
                async for chunk in request.stream():
                    held += len(chunk)
                    self.num_bytes += len(chunk)
                    if held > self._limits.max_body_bytes:
                        raise RequestError(413, _too_large(self._limits))
                    if self.num_bytes > self._limits.max_open_bytes:
                        raise Unavailable("the bodies of other requests fill the memory")
                    chunks.append(chunk)
            yield b"".join(chunks)
        except TimeoutError:
            raise RequestError(408, "the body did not arrive before the deadline of the request") from None
        finally:
            self.num_bytes -= held


def check_length(value: str | None, limits: ServeLimits) -> None:
    """RequestError where the Content-Length `value` is above the limit."""
    if value is not None and (
        len(value) > 18 or not (value.isascii() and value.isdecimal()) or int(value) > limits.max_body_bytes
    ):
        raise RequestError(413, _too_large(limits))


def _too_large(limits: ServeLimits) -> str:
    return f"the body is larger than {limits.max_body_bytes} bytes"


def deadline_of(request: Request, limits: ServeLimits) -> float:
    """time.monotonic() by which the request must be answered; its header may shorten it."""
    text = request.headers.get(TIMEOUT_HEADER)
    seconds = limits.deadline_s
    if text is not None:
        try:
            asked = float(text)
        except ValueError:
            asked = 0.0
        if not 0 < asked < float("inf"):
            raise RequestError(400, "X-Request-Timeout must be a number of seconds above 0")
        seconds = min(seconds, asked)
    return time.monotonic() + seconds


def uploaded_images(body: bytes, content_type: str, limits: ServeLimits) -> list[Image]:
    """The images of POST /predict: the body itself, or each part of a multipart body."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        images = list(_parts(body, content_type, limits))
        if not images:
            raise RequestError(400, "the multipart body has no part; send each image as one")
    elif (
        kind.startswith("image/")
        or kind == "application/octet-stream"
        or (kind in _AS_SENT_BY_HABIT and is_image_content(body[:PREFIX_BYTES]))
    ):
        images = [Image(body, "image")]
    elif kind in _AS_SENT_BY_HABIT:
        raise RequestError(
            415,
            "the body is not an image that recog can read. If it is one, name its type, such as Content-Type: image/jpeg",
        )
    else:
        raise RequestError(
            415,
            "the header Content-Type must be image/*, application/octet-stream or multipart/form-data with an image per part, "
            f"such as Content-Type: image/jpeg; it is {visible(kind)[:80]!r}",
        )
    check_num_images(len(images), limits)
    if any(not image.data for image in images) and len(images) == 1:
        raise RequestError(400, "the image has no bytes")
    return images


def check_num_images(count: int, limits: ServeLimits) -> None:
    if not 1 <= count <= limits.max_images:
        raise RequestError(400, f"the request has {count} images; 1 to {limits.max_images} are allowed")


@dataclass
class _Part:
    data: bytearray
    disposition: bytes = b""
    header_bytes: int = 0


def _parts(body: bytes, content_type: str, limits: ServeLimits) -> Iterator[Image]:
    boundary = parse_options_header(content_type.encode("latin-1", "replace"))[1].get(b"boundary")
    if not boundary:
        raise RequestError(400, "the multipart Content-Type has no boundary")
    collector = _Collector(limits)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": collector.begin,
                "on_header_field": collector.header_name,
                "on_header_value": collector.header_value,
                "on_header_end": collector.header_end,
                "on_part_data": collector.data,
                "on_end": collector.end,
            },
            max_header_count=_MAX_PART_HEADERS,
            max_header_size=limits.max_part_header_bytes,
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise RequestError(400, "the multipart body is not valid") from error
    if not collector.is_complete:
        raise RequestError(400, "the multipart body ends before its last boundary")
    for place, part in enumerate(collector.parts):
        name = parse_options_header(part.disposition)[1].get(b"filename", b"").decode("utf-8", "replace")
        yield Image(bytes(part.data), visible(name)[:_MAX_NAME] or f"image {place}")


class _Collector:
    """Callbacks of the multipart parser."""

    def __init__(self, limits: ServeLimits) -> None:
        self.parts: list[_Part] = []
        self.is_complete = False
        self._limits = limits
        self._name = b""
        self._value = b""

    def begin(self) -> None:
        if len(self.parts) == self._limits.max_parts:
            raise RequestError(400, f"the multipart body has more than {self._limits.max_parts} parts")
        self.parts.append(_Part(bytearray()))

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self._value += data[start:end]

    def _count(self, num_bytes: int) -> None:
        self.parts[-1].header_bytes += num_bytes
        if self.parts[-1].header_bytes > self._limits.max_part_header_bytes:
            raise RequestError(400, f"the header of a part is larger than {self._limits.max_part_header_bytes} bytes")

    def header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self.parts[-1].disposition = self._value
        self._name = self._value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def end(self) -> None:
        self.is_complete = True
