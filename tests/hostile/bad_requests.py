"""The 16 kinds of bad requests, as bytes on the wire: kinds 59 to 74 of the ledger, numbered in the order of the plan."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

KINDS = range(59, 75)
MODEL = "digits"
TOKEN = "a-token-of-24-characters"
LIMIT = 1 << 20  # of a body, as the service under test is started
MAX_IMAGES, MAX_PARTS, MAX_PART_HEADER = 16, 32, 8 << 10
PIXELS = {"name": "pixels", "shape": [1, 8, 8, 1], "datatype": "UINT8", "data": [0] * 64}
FILES = {"name": "image", "shape": [1], "datatype": "BYTES"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is sent, and the statuses of its answer. 0: none, as the client leaves when it has sent this."""

    kind: int
    name: str
    data: bytes
    statuses: tuple[int, ...] = (400,)


def png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), 90).save(file, "PNG")
    return file.getvalue()


def request(
    target: str,
    body: bytes = b"",
    *,
    kind: str = "application/json",
    method: str = "POST",
    headers: tuple[str, ...] = (),
    token: str | None = f"Bearer {TOKEN}",
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"Authorization: {token}"] if token is not None else []
    return "\r\n".join([*lines, "Connection: close", *headers, "", ""]).encode("latin-1") + body


def predict(body: bytes, kind: str = "image/png", **more: object) -> bytes:
    return request("/predict", body, kind=kind, **more)  # type: ignore[arg-type]


def infer(table: object, target: str = f"/v2/models/{MODEL}/infer") -> bytes:
    return request(target, table if isinstance(table, bytes) else json.dumps(table).encode())


def binary(header: str, table: object, tail: bytes) -> bytes:
    body = json.dumps(table).encode() + tail
    return request(
        f"/v2/models/{MODEL}/infer",
        body,
        kind="application/octet-stream",
        headers=(f"Inference-Header-Content-Length: {header}",),
    )


def chunked(chunks: Iterator[bytes] | list[bytes], *, end: bytes = b"0\r\n\r\n") -> bytes:
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nAuthorization: Bearer {TOKEN}\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head.encode() + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + body + end


def form(parts: list[tuple[str, bytes]], *, header: str = "", end: str = "--b--\r\n") -> bytes:
    body = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n{header}\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in parts
    )
    return predict(body + end.encode(), "multipart/form-data; boundary=b")


def all_cases() -> Iterator[Case]:
    for number, generate in enumerate(GENERATORS):
        for name, data, *rest in generate():
            statuses = rest[0] if rest else (400,)
            yield Case(kind=KINDS[number], name=name, data=data, statuses=statuses)


def no_body():
    yield "predict", predict(b"")
    yield "predict without a length", request("/predict", kind="image/png").replace(b"Content-Length: 0\r\n", b"")
    yield "infer", infer(b"")
    yield "multipart", predict(b"", "multipart/form-data; boundary=b")


def wrong_types():
    for kind in ("", "application/x-www-form-urlencoded"):  # as curl --data-binary sends; the body's first bytes decide
        yield f"an image as '{kind}'", predict(png(), kind), (200,)
        yield f"text as '{kind}'", predict(b"a=1&b=2", kind), (415,)
    for kind in (
        "text/html",
        "application/json",
        "video/mp4",
        "multipart/mixed; boundary=b",
    ):
        yield f"predict as {kind}", predict(png(), kind), (415,)
    yield "junk in the type", predict(png(), "\xff\xfe;;;=,"), (415,)
    yield "compressed", predict(png(), headers=("Content-Encoding: gzip",)), (415,)
    yield (
        "compressed tensors",
        request(f"/v2/models/{MODEL}/infer", b"{}", headers=("Content-Encoding: deflate",)),
        (415,),
    )


def bodies_above_the_limit():
    junk = png()
    yield "at the limit", predict(junk + bytes(LIMIT - len(junk))), (200,)
    yield "one byte more", predict(junk + bytes(LIMIT + 1 - len(junk))), (413,)
    yield "a length 100 times as large", predict(junk).replace(
        b"Content-Length: %d" % len(junk), b"Content-Length: %d" % (100 * LIMIT)
    ), (413,)  # fmt: skip
    yield (
        "a length of 30 digits",
        predict(junk).replace(b"Content-Length: %d" % len(junk), b"Content-Length: " + b"9" * 30),
        (400, 413),
    )
    yield "a negative length", predict(junk).replace(b"Content-Length: %d" % len(junk), b"Content-Length: -1")
    yield "two lengths", predict(junk, headers=("Content-Length: 5",))
    yield "a length and chunks", predict(junk, headers=("Transfer-Encoding: chunked",)), (400,)
    yield "chunks", chunked([bytes(1 << 16)] * 17), (413, 0)
    yield "a length that is too short", predict(junk).replace(b"Content-Length: %d" % len(junk), b"Content-Length: 10")
    yield (
        "a length that is too long",
        predict(junk).replace(b"Content-Length: %d" % len(junk), b"Content-Length: 500"),
        (0, 400, 408),
    )


def many_chunks():
    data = png()
    yield "65,537 chunks", chunked([data, *([b"\0"] * 65_537)]), (200,)
    yield "an endless size of a chunk", chunked([], end=b"f" * 100_000)
    yield "a negative size of a chunk", chunked([], end=b"-5\r\nabc\r\n")
    yield "a huge size of a chunk", chunked([], end=b"ffffffffffffffffffff\r\nabc"), (400, 408, 413, 0)


def slow_clients():
    """Tested with connections that stay open in test_bad_requests.py; here: what ends in the middle."""
    yield "half a header", b"POST /predict HTTP/1.1\r\nHost: loc", (0, 400)
    yield "half a body", predict(png())[:-20], (0, 400, 408)


def deep_json():
    yield "depth 101", infer(b"[" * 101 + b"]" * 101)
    yield "depth 1e6", infer(b"[" * 1_000_000)
    yield "objects", infer(b'{"a":' * 100_000)
    yield "deep data", infer({"inputs": [{**PIXELS, "data": json.loads("[" * 90 + "0" + "]" * 90)}]})


def bad_json():
    for name, text in {
        "invalid UTF-8": b'{"inputs": "\xff\xfe"}',
        "a key twice": b'{"inputs": [], "inputs": []}',
        "NaN": b'{"inputs": NaN}',
        "Infinity": b'{"inputs": -Infinity}',
        "1e400": b'{"inputs": 1e400}',
        "half a surrogate pair": b'{"inputs": [{"name": "\\ud800", "shape": [1], "datatype": "BYTES"}]}',
        "a number of a million digits": b'{"inputs": ' + b"9" * 500_000 + b"}",
        "cut": b'{"inputs": [{"name": "pix',
        "byte order mark of UTF-16": '{"inputs": []}'.encode("utf-16"),
        "text behind": b'{"inputs": []} x',
    }.items():
        yield name, infer(text)


def bad_shapes():
    for name, shape in {
        "negative": [-1, 8, 8, 1],
        "zero": [0, 8, 8, 1],
        "overflowing product": [2**31, 2**31, 2**31, 1],
        "above 64 bits": [2**64, 8, 8, 1],
        "fractions": [1.5, 8, 8, 1],
        "text": ["1", 8, 8, 1],
        "none": [],
        "other length than the data": [2, 8, 8, 1],
        "more images than allowed": [MAX_IMAGES + 1, 8, 8, 1],
        "a hundred times as many": [100 * MAX_IMAGES, 8, 8, 1],
    }.items():
        yield name, infer({"inputs": [{**PIXELS, "shape": shape}]})
    yield "no list", infer({"inputs": [{**PIXELS, "shape": 1}]})


def bad_datatypes():
    for datatype in ("FP16", "BF16", "FP32", "BYTES", "UINT9", "", "uint8", "INT8"):
        yield f"{datatype or 'none'} for pixels", infer({"inputs": [{**PIXELS, "datatype": datatype}]})
    yield "UINT8 for files", infer({"inputs": [{**FILES, "datatype": "UINT8", "data": [1]}]})
    yield "a number", infer({"inputs": [{**PIXELS, "datatype": 8}]})


def unknown_names():
    good = {"inputs": [PIXELS]}
    for model in ("other", "..", "%2e%2e", "digits%00", "digits ", "DIGITS", "a" * 5000):
        yield f"model {model[:10]}", infer(good, f"/v2/models/{model.replace(' ', '%20')}/infer"), (400, 404)
    for version in ("1", "0" * 12, "..", "%2e%2e%2f"):
        yield f"version {version}", infer(good, f"/v2/models/{MODEL}/versions/{version}/infer"), (404, 405)
    yield "input", infer({"inputs": [{**PIXELS, "name": "x"}]})
    yield "no input", infer({"inputs": []})
    yield "two inputs", infer({"inputs": [PIXELS, {**FILES, "data": ["aGk="]}]})
    yield "output", infer({**good, "outputs": [{"name": "x"}]})
    yield "output twice", infer({**good, "outputs": [{"name": "label"}, {"name": "label"}]})
    yield "predict", request("/predict?model=other", png(), kind="image/png"), (404,)


def addresses_and_base64():
    for text in (
        "%%%",
        "a",
        "aGk=\n",
        "data:image/png;base64,aGk=",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "//x/y",
        "",
        "aGk",
    ):
        yield f"{text[:20]!r}", infer({"inputs": [{**FILES, "data": [text]}]})
    yield "no list", infer({"inputs": [{**FILES, "data": "aGk="}]})
    yield "numbers", infer({"inputs": [{**FILES, "data": [1]}]})
    yield "content_type url", infer({"inputs": [{**FILES, "data": ["aGk="], "parameters": {"content_type": "url"}}]})
    yield (
        "an SVG that fetches",
        predict(b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://169.254.169.254/"/></svg>'),
    )


def multipart():
    data = png()
    yield "no boundary", predict(b"--b\r\n", "multipart/form-data")
    yield "other boundary", predict(b"--c\r\n\r\nx\r\n--c--\r\n", "multipart/form-data; boundary=b")
    yield "no end", form([("a", data)], end="")
    yield "as many images as allowed", form([("a", data)] * MAX_IMAGES), (200,)
    yield "one more", form([("a", data)] * (MAX_IMAGES + 1))
    yield "one part more than allowed", form([("a", b"x")] * (MAX_PARTS + 1))
    yield "10,000 parts", form([("a", b"x")] * 10_000)
    yield "a part with a header above its limit", form([("a", data)], header=f"X: {'x' * MAX_PART_HEADER}\r\n")
    yield "a part with 1,000 headers", form([("a", data)], header="X: x\r\n" * 1000)
    for name in ("../../x", "/etc/passwd", "a\\0b", "..\\..\\x", "C:\\x", "x" * 5000, "<script>", "\u202egnp.exe"):
        yield f"file name {name[:12]!r}", form([(name, data)]), (200,)
    yield "a zero byte in a name", form([("a\0b", data)]), (200, 400)
    yield "parts within parts", predict(
        b"--b\r\nContent-Disposition: form-data; name=x\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n--b--\r\n",
        "multipart/form-data; boundary=b",
    )  # fmt: skip


def binary_headers():
    tensor = {"inputs": [{**FILES, "parameters": {"binary_data_size": 6}}]}
    size = len(json.dumps(tensor).encode())
    for header in ("-1", str(size + 100), "9" * 40, "1e3", "0x10", "", " ", str(size - 1), "0"):
        yield f"header {header[:10]!r}", binary(header, tensor, b"\x02\0\0\0hi")
    for data_size in (-1, 7, 2**63, 1.5, "6", True):
        table = {"inputs": [{**FILES, "parameters": {"binary_data_size": data_size}}]}
        yield f"size {data_size}", binary(str(len(json.dumps(table).encode())), table, b"\x02\0\0\0hi")
    yield "an element longer than all", binary(str(size), tensor, b"\xff\xff\xff\xffhi")
    yield "bytes that belong to nothing", binary(str(size), tensor, b"\x02\0\0\0hi and more")
    yield "two headers", binary(str(size), tensor, b"\x02\0\0\0hi").replace(
        b"\r\nInference", b"\r\nInference-Header-Content-Length: 1\r\nInference"
    )  # fmt: skip


def tokens():
    data = png()
    secret = base64.b64encode(f"u:{TOKEN}x".encode()).decode()
    for name, token in {
        "none": None, "empty": "", "wrong": "Bearer wrong-token-of-24-chars.", "prefix": f"Bearer {TOKEN[:-1]}",
        "longer": f"Bearer {TOKEN}{TOKEN}", "no scheme": TOKEN, "other scheme": f"Digest {TOKEN}", "basic": f"Basic {secret}",
        "no base64": "Basic %%%", "not ASCII": "Bearer \xff\xfe",
    }.items():  # fmt: skip
        yield name, predict(data, token=token), (401,)
    yield "twice", predict(data, headers=(f"Authorization: Bearer {TOKEN}",)), (401,)
    yield "in the query", request(f"/predict?token={TOKEN}", data, kind="image/png", token=None), (401,)
    yield "of 60 KB", predict(data, token="Bearer " + "x" * 60_000), (400, 401)
    yield "of 1 MB", predict(data, token="Bearer " + "x" * 1_000_000), (400, 0)
    yield "other host", predict(data).replace(b"Host: localhost", b"Host: evil.example")
    yield "two hosts", predict(data, headers=("Host: localhost",))
    yield "no host", predict(data).replace(b"Host: localhost\r\n", b"")
    yield "page of another host", predict(data, headers=("Origin: http://evil.example",)), (403,)


def clients_that_leave():
    """Tested in tests/serve/test_inference.py too; here: gone before the answer."""
    yield "in the header", b"POST /pre", (0, 400)
    yield "in the body", predict(png())[:-1], (0, 400)
    yield "pipelined behind an error", predict(b"") * 3
    yield "an upgrade", predict(png(), headers=("Upgrade: websocket", "Connection: upgrade")), (200, 400)


def one_bad_image_among_good():
    data = png()
    yield "15 good and 1 bad", form([("good", data)] * 15 + [("bad", b"<html>")]), (200,)
    yield "all bad", form([("bad", b"x"), ("worse", b"")]), (200,)
    yield "in tensors", infer({"inputs": [{**FILES, "shape": [2], "data": [base64.b64encode(data).decode(), "aGk="]}]})
    yield "a bomb", predict(bomb())


def bomb() -> bytes:
    """A PNG that claims 50,000 x 50,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(6251 * 1000), 9)
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


GENERATORS = (
    *(no_body, wrong_types, bodies_above_the_limit, many_chunks, slow_clients, deep_json, bad_json, bad_shapes),
    *(bad_datatypes, unknown_names, addresses_and_base64, multipart, binary_headers, tokens, clients_that_leave),
    one_bad_image_among_good,
)
