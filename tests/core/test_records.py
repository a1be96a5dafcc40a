from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest

from recog.core.errors import BundleError, ConfigError, DataError
from recog.core.records import (
    MAX_DEPTH,
    convert_record,
    decode_object,
    decode_record,
    decode_typed,
    object_keys,
    read_bytes,
    read_record,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Record:
    count: int
    inner: Inner
    kind: Literal["a", "b"] = "a"
    by_name: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError(f"count is {self.count}; it must be 0 or more.")
        if self.count == 13:
            raise ValueError("count is 13; that is not supported")


GOOD = {"count": 2, "inner": {"rate": 1, "names": ["x", "y"]}, "kind": "b", "by_name": {"z": 3}, "later": True}


def changed(**changes: object) -> bytes:
    return json.dumps(GOOD | changes).encode()


def test_a_record_is_the_dataclass():
    record = decode_record(changed(), Record, where="r.json")
    assert record == Record(count=2, inner=Inner(rate=1.0, names=("x", "y")), kind="b", by_name={"z": 3})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(count="2"), "r.json: count is text; expected a whole number."),
        (changed(count=True), "r.json: count is true or false; expected a whole number."),
        (changed(count=None), "r.json: count is null; expected a whole number."),
        (changed(count=-1), "r.json: count is -1; it must be 0 or more."),
        (changed(count=13), "r.json: count is 13; that is not supported."),
        (changed(inner=[]), "r.json: inner is a list; expected an object."),
        (changed(inner={"rate": "x"}), "r.json: inner.rate is text; expected a number."),
        (changed(inner={}), "r.json: inner.rate is missing."),
        (changed(inner={"rate": 1, "names": ["x", 3]}), r"r.json: inner.names\[1\] is a whole number; expected text."),
        (changed(kind="c"), "r.json: kind is 'c', which is not one of the known values."),
        (changed(by_name={"z": []}), r"r.json: by_name\[...\] is a list; expected a whole number."),
        (b'{"count": 1}', "r.json: inner is missing."),
        (changed().replace(b'"rate": 1', b'"rate": 1e999'), "r.json: inner.rate is out of the range of numbers."),
        (changed().replace(b'"rate": 1', b'"rate": 1' + b"0" * 30), "r.json: inner.rate is out of the range of whole"),
        (changed().replace(b'"rate": 1', b'"rate": 1' + b"0" * 5000), "r.json is not valid JSON: Exceeds the limit"),
        (changed().replace(b'"rate": 1', b'"rate": NaN'), "r.json is not valid JSON: NaN is not JSON."),
        (b'{"count": 1, "count": 2}', "r.json is not valid JSON: a key occurs twice."),
        (b"[]", "r.json holds no JSON object."),
        (b"{", "r.json is not valid JSON: "),
        (b'{"count": "\xff"}', "r.json is not UTF-8 text."),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", f"nested more than {MAX_DEPTH} levels deep."),
        (b"[" * 100_000, f"r.json is nested more than {MAX_DEPTH} levels deep."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_everything_else_is_one_sentence_that_names_file_and_field(data, words):
    with pytest.raises(DataError, match=words):
        decode_record(data, Record, where="r.json", error=DataError)


def test_unknown_keys_are_refused_where_the_record_is_closed():
    table = {"count": 1, "inner": {"rate": 0.5, "surprise": 1}}
    assert convert_record(table, Record, where="r.json").count == 1
    with pytest.raises(BundleError, match=r"r.json: inner.surprise is not known to this release."):
        convert_record(table, Record, where="r.json", closed=True)


def test_depth_is_counted_in_levels():
    deepest: object = 1
    for _ in range(MAX_DEPTH - 1):
        deepest = [deepest]
    assert decode_object(json.dumps({"a": deepest}), where="r.json") == {"a": deepest}


class TestFiles:
    def test_a_regular_file(self, tmp_path):
        (tmp_path / "r.json").write_bytes(changed())
        assert read_record(tmp_path / "r.json", Record).count == 2

    def test_what_is_absent_or_too_large(self, tmp_path):
        with pytest.raises(BundleError, match="r.json cannot be read: No such file or directory"):
            read_record(tmp_path / "r.json", Record)
        (tmp_path / "r.json").write_bytes(b" " * 11)
        assert len(read_bytes(tmp_path / "r.json", max_bytes=11)) == 11
        with pytest.raises(BundleError, match="has 11 bytes; at most 10 are read"):
            read_bytes(tmp_path / "r.json", max_bytes=10)

    def test_a_file_that_grows_while_it_is_read_is_not_cut_off(self, tmp_path, monkeypatch):
        (tmp_path / "r.json").write_bytes(b"{}")
        fstat = os.fstat

        def grow_after(descriptor):
            found = fstat(descriptor)
            with (tmp_path / "r.json").open("ab") as file:
                file.write(b"  ")
            return found

        monkeypatch.setattr(os, "fstat", grow_after)
        with pytest.raises(BundleError, match=r"r\.json changed while it was read"):
            read_bytes(tmp_path / "r.json")

    @pytest.mark.timeout(10)  # a pipe that is opened to be read would wait for a writer for ever
    def test_pipes_folders_devices_and_links_are_refused(self, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "folder").mkdir()
        (tmp_path / "outside.json").write_bytes(changed())
        (tmp_path / "link").symlink_to(tmp_path / "outside.json")
        for name in ("fifo", "folder"):
            with pytest.raises(BundleError, match=f"{name} is a (named pipe|folder); expected a regular file"):
                read_bytes(tmp_path / name)
        with pytest.raises(BundleError, match="link is a symbolic link; expected a regular file"):
            read_bytes(tmp_path / "link")


@dataclass(frozen=True)
class _Sized:
    name: str
    sizes: tuple[int, ...]


def test_a_typed_document_skips_what_it_does_not_know():
    text = '{"name": "a", "sizes": [1, 2], "more": {"deep": [[[1e999]]]}}'
    assert decode_typed(text, _Sized, where="x") == _Sized("a", (1, 2))
    assert object_keys(text, where="x") == {"name", "sizes", "more"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"name": 3, "sizes": []}', "x: name is a whole number; expected text"),
        ('{"name": "a"}', "x: sizes is missing"),
        ('{"name": "a", "sizes": [1, 2', "x is not valid JSON"),
        ('{"name": "\\ud800", "sizes": []}', "x "),
        ('{"more": ' + "[" * 100_000, "x is "),
    ],
)
def test_a_typed_document_that_is_none(text, says):
    with pytest.raises(DataError, match=says):
        decode_typed(text, _Sized, where="x", error=DataError)
