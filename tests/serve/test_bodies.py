"""Bodies taken apart, and each limit at, above and far above its value."""

from __future__ import annotations

import socket

import pytest
from service import multipart

from recog.serve.bodies import Admission, RequestError, check_length, check_num_images, uploaded_images
from recog.serve.config import ServeLimits
from recog.serve.inference import Unavailable

LIMITS = ServeLimits(max_images=3, max_parts=4, max_part_header_bytes=200, max_open=2)


def form(files, limits=LIMITS):
    body, headers = multipart(files)
    return uploaded_images(body, headers["Content-Type"], limits)


def test_each_part_is_an_image_under_its_own_name():
    images = form([("a.png", b"one"), ("../../b.png", b"two\r\n--frontie"), ("c\0d", b"")])
    assert [image.data for image in images] == [b"one", b"two\r\n--frontie", b""]
    assert [image.name for image in images] == ["a.png", "../../b.png", r"c\x00d"]  # names are repeated, never opened


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg; q=1", "IMAGE/X-ANYTHING", "application/octet-stream"])
def test_the_body_is_the_image(kind):
    (image,) = uploaded_images(b"data", kind, LIMITS)
    assert image.data == b"data"


@pytest.mark.parametrize(
    "kind", ["", "application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=x"]
)
def test_curl_sends_an_image_as_a_form(kind):
    """curl --data-binary without -H, and clients that send no type: the first bytes tell."""
    (image,) = uploaded_images(b"\x89PNG\r\n\x1a\n and more", kind, LIMITS)
    assert image.data.endswith(b"and more")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        *((kind, "Content-Type must be") for kind in ("text/plain", "application/json", "multipart/mixed")),
        *((kind, "the body is not an image that recog") for kind in ("", "application/x-www-form-urlencoded")),
    ],
)
def test_other_types_are_refused(kind, reason):
    with pytest.raises(RequestError, match=reason) as error:
        uploaded_images(b"data", kind, LIMITS)
    assert error.value.status == 415


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"", "image/png", "no bytes"),
        (b"x", "multipart/form-data", "no boundary"),
        (b"x", "multipart/form-data; boundary=b", "not valid|ends before"),
        (b"--b\r\n", "multipart/form-data; boundary=b", "ends before"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", "no part"),
        (
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nhalf',
            "multipart/form-data; boundary=b",
            "ends before",
        ),
        (b"x", f"multipart/form-data; boundary={'b' * 1000}", "not valid|ends before"),
    ],
)
def test_what_is_refused(body, kind, reason):
    with pytest.raises(RequestError, match=reason) as error:
        uploaded_images(body, kind, LIMITS)
    assert error.value.status == 400


@pytest.mark.parametrize(
    ("count", "reason"), [(3, None), (4, "has 4 images"), (5, "more than 4 parts"), (400, "more than 4 parts")]
)
def test_number_of_parts(count, reason):
    files = [("a", b"x")] * count
    if reason is None:
        assert len(form(files)) == count
        return
    with pytest.raises(RequestError, match=reason):
        form(files)


@pytest.mark.parametrize(("extra", "fits"), [(0, True), (1, False), (10_000, False)])
def test_header_of_a_part(extra, fits):
    name = b"X" * (200 + extra - len(b"Content-Dispositionform-data"))
    body = b"--b\r\nContent-Disposition: form-data\r\n" + name + b":\r\n\r\nimage\r\n--b--\r\n"
    if fits:
        assert uploaded_images(body, "multipart/form-data; boundary=b", LIMITS)[0].data == b"image"
    else:
        with pytest.raises(RequestError, match="header of a part|not valid"):
            uploaded_images(body, "multipart/form-data; boundary=b", LIMITS)


def test_number_of_images():
    check_num_images(1, LIMITS)
    check_num_images(3, LIMITS)
    for count in (0, 4, 300):
        with pytest.raises(RequestError, match=f"has {count} images"):
            check_num_images(count, LIMITS)


def test_declared_length():
    limits = ServeLimits(max_body_bytes=10)
    for text in (None, "0", "10"):
        check_length(text, limits)
    for text in ("11", "1000", "9" * 40, "-1", "1e3", "٣"):
        with pytest.raises(RequestError) as error:
            check_length(text, limits)
        assert error.value.status == 413


def test_open_requests_are_counted():
    admission = Admission(LIMITS)
    with admission.admit(), admission.admit():
        with pytest.raises(Unavailable, match="too many requests"), admission.admit():
            pass
        assert admission.num_open == 2
    assert admission.num_open == 0


def test_body_size_over_http(service, digits):
    limit = ServeLimits().max_body_bytes
    padded = digits[0] + b"\0" * (limit - len(digits[0]))  # junk behind the end of a PNG is not read
    assert service.predict(padded).status == 200
    assert (
        service.predict(padded + b"\0").status == 413
    )  # read to its end, or the client would see a reset in its place
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    declared = service.raw(head + b"Content-Length: %d\r\n\r\n" % (100 * limit))
    assert declared.startswith(b"HTTP/1.1 413")
    chunk = b"100000\r\n" + b"\0" * 0x100000 + b"\r\n"
    chunked = service.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 21 + b"0\r\n\r\n")
    assert b" 413 " in chunked[:20] or chunked == b""  # it may close while the client still sends
    assert service.metric("recog_open_requests") == 0


def test_encoded_bodies_and_deadlines_over_http(service, digits):
    assert service.predict(digits[0], **{"Content-Encoding": "gzip"}).status == 415
    assert service.predict(digits[0], **{"X-Request-Timeout": "10"}).status == 200
    for text in ("0", "-1", "nan", "inf", "soon"):
        assert service.predict(digits[0], **{"X-Request-Timeout": text}).status == 400
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    head += b"X-Request-Timeout: 0.2\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(head + b"half")  # and nothing more
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
