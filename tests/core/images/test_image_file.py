"""Files before they are decoded: what is not a regular file, what the first bytes tell, and the limits."""

from __future__ import annotations

import os
import socket
import time

import pytest
from PIL import Image

from recog.core.errors import BadImage, ConfigError
from recog.core.images.image_file import (
    DEFAULT_LIMITS,
    MAX_LIMITS,
    ImageLimits,
    MeteredFile,
    allow,
    check_num_bytes,
    open_encoded,
)


def refusal(source, limits=DEFAULT_LIMITS):
    """The BadImage of opening `source`, which must come at once: a pipe without a writer would wait for ever."""
    start = time.perf_counter()
    with pytest.raises(BadImage) as caught, open_encoded(source, "it", limits):
        pass
    assert time.perf_counter() - start < 1
    assert caught.value.name == "it"
    return caught.value


def test_a_file_and_bytes_give_the_same_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    for source in (path, str(path), b"abc"):
        with open_encoded(source, "it", DEFAULT_LIMITS) as file:
            assert file.read() == b"abc"


def test_missing_file_and_dangling_link(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.jpg").reason
    link = tmp_path / "link.jpg"
    link.symlink_to(tmp_path / "none.jpg")
    assert "a link to a missing file" in refusal(link).reason


def test_link_to_itself(tmp_path):
    link = tmp_path / "loop.jpg"
    link.symlink_to(link)
    assert "leads back to itself" in refusal(link).reason


def test_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with open_encoded(tmp_path / "link", "it", DEFAULT_LIMITS) as file:
        assert file.read() == b"abc"


def test_folder(tmp_path):
    assert "a folder" in refusal(tmp_path).reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipe_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "a named pipe" in refusal(tmp_path / "pipe.jpg").reason


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no sockets in the file system")
def test_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most some 100 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        assert "a socket" in refusal("s.jpg").reason


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="this system has no /dev/zero")
def test_device_is_never_opened(monkeypatch):
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("a device was opened"))
    assert "a device" in refusal("/dev/zero").reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_file_that_becomes_a_pipe_before_it_is_opened(tmp_path, monkeypatch):
    pipe, plain = tmp_path / "pipe", tmp_path / "plain"
    os.mkfifo(pipe)
    plain.write_bytes(b"abc")
    before = os.stat(plain)
    monkeypatch.setattr(os, "stat", lambda *_, **__: before)
    assert "a named pipe" in refusal(pipe).reason


def test_no_permission(tmp_path, monkeypatch):
    """Raised by hand, as the tests may run as root, who may read everything."""
    (tmp_path / "a.jpg").write_bytes(b"abc")

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", deny)
    assert "permission denied" in refusal(tmp_path / "a.jpg").reason


@pytest.mark.parametrize("path", ["a\0b", "a" * 5000, "\udce4\ud800", ""])
def test_impossible_paths(path):
    assert refusal(path).remedy.startswith("Check the path")


def test_num_bytes_at_the_limit_above_it_and_far_above_it(tmp_path):
    limits = ImageLimits(max_bytes=1000)
    check_num_bytes(1000, "it", limits)
    for num_bytes in (1001, 100_000):
        path = tmp_path / str(num_bytes)
        path.write_bytes(bytes(num_bytes))
        for source in (path, bytes(num_bytes)):
            assert f"{num_bytes:,} bytes, above the limit of 1,000" in refusal(source, limits).reason


def test_empty():
    assert "empty" in refusal(b"").reason


@pytest.mark.parametrize("field", ["max_pixels", "max_side", "max_bytes"])
def test_limits_are_above_0_and_have_a_highest_value(field):
    assert getattr(ImageLimits(**{field: MAX_LIMITS[field]}), field) == MAX_LIMITS[field]
    for value in (0, MAX_LIMITS[field] + 1):
        with pytest.raises(ConfigError, match=rf"limits.{field} is {value}; it must be from 1 to {MAX_LIMITS[field]}"):
            ImageLimits(**{field: value})


def test_as_many_pixels_can_be_allowed_as_pillow_opens():
    """Pillow warns above MAX_IMAGE_PIXELS and refuses above twice that."""
    assert MAX_LIMITS["max_pixels"] == 2 * Image.MAX_IMAGE_PIXELS


def test_a_refusal_tells_how_to_allow_the_image_where_that_is_possible():
    assert allow("max_pixels", 60_000_000) == ", or allow it when training: --set limits.max_pixels=60000000."
    assert allow("max_pixels", 200_000_000) == "."


def test_a_metered_file_reads_as_its_file_until_the_header_is_too_long(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    with path.open("rb") as plain:
        file = MeteredFile(plain, "it")
        assert file.read(3) == b"\0\1\2"
        assert file.tell() == 3
        assert file.seek(-1, os.SEEK_END) == 99
        assert file.read() == b"\x63"
        file.max_bytes = 10
        file.seek(0)
        assert len(file.read(6)) == 6  # 3 + 1 + 6 are 10
        with pytest.raises(BadImage, match=r"^it: its header is longer"):
            file.read(1)
