import errno
import hashlib
import json
import os
import shutil

import pytest

import recog
from recog.bundle.manifest import (
    FORMAT_VERSION,
    Manifest,
    TrainingData,
    read_manifest,
    write_manifest,
)
from recog.core.errors import BundleError
from recog.core.preprocess import Preprocess
from recog.core.records import MAX_BYTES


def manifest_of(**changes):
    fields = {
        "task": "multiclass",
        "architecture": "resnet8",
        "class_names": ("cat", "Löwe", "犬"),
        "preprocess": Preprocess(image_size=(8, 12), channels=1, crop_pct=0.875, interpolation="bilinear"),
        "data": TrainingData(name="pets", fingerprint="sha256:12", num_images={"train": 7, "val": 2}),
        "seed": 3,
        "files": {"model.onnx": "ab", "config.json": "cd"},
    }
    return Manifest(**fields | changes)


def write_table(folder, table):
    (folder / "recog.json").write_text(json.dumps(table), encoding="utf-8")


def test_a_manifest_comes_back_as_written(tmp_path):
    write_manifest(tmp_path, manifest_of())
    assert read_manifest(tmp_path) == manifest_of()


def test_it_states_what_the_contract_lists(tmp_path):
    """design.md, section 4: the row of recog.json."""
    write_manifest(tmp_path, manifest_of())
    table = json.loads((tmp_path / "recog.json").read_text(encoding="utf-8"))
    assert set(table) == {
        "format_version", "recog_version", "task", "architecture", "class_names", "preprocess", "data", "seed", "files",
        "digest",
    }  # fmt: skip
    assert (table["format_version"], table["recog_version"]) == (FORMAT_VERSION, recog.__version__)
    assert table["class_names"] == ["cat", "Löwe", "犬"]
    assert "犬" in (tmp_path / "recog.json").read_text(encoding="utf-8")  # readable for people


def test_the_digest_is_sha256_over_canonical_json(tmp_path):
    write_manifest(tmp_path, manifest_of())
    table = json.loads((tmp_path / "recog.json").read_bytes())
    digest = table.pop("digest")
    canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert digest == hashlib.sha256(canonical).hexdigest()


def test_white_space_and_order_of_keys_do_not_matter(tmp_path):
    table = manifest_of().to_dict()
    write_table(tmp_path, dict(reversed(table.items())))
    assert read_manifest(tmp_path) == manifest_of()


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_no_flipped_byte_changes_what_is_read(bundle, flip):
    """Every byte of recog.json: refused, or white space whose change changes nothing."""
    sealed = (bundle / "recog.json").read_bytes()
    manifest = read_manifest(bundle)
    num_refused = 0
    for position in range(len(sealed)):
        harmed = bytearray(sealed)
        harmed[position] ^= flip
        (bundle / "recog.json").write_bytes(harmed)
        try:
            found = read_manifest(bundle)
        except BundleError:
            num_refused += 1
            continue
        assert found == manifest
        assert chr(sealed[position]).isspace()
    assert num_refused > 0.8 * len(sealed)


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_truncated_manifest_is_refused(bundle, size):
    data = (bundle / "recog.json").read_bytes()
    (bundle / "recog.json").write_bytes(data[:size] if size >= 0 else data[: len(data) - 3])
    with pytest.raises(BundleError, match=r"recog\.json is not valid JSON"):
        read_manifest(bundle)


def test_a_newer_format_names_the_version_to_install(bundle, reseal):
    reseal(bundle, format_version=FORMAT_VERSION + 1, recog_version="7.1.0")
    with pytest.raises(BundleError, match=r"format_version 2; this release reads up to 1.*recog 7\.1\.0: install"):
        read_manifest(bundle)


@pytest.mark.parametrize("version", [0, -1, 1.0, "1", None, True, [1]])
def test_a_format_version_that_is_no_number_from_1_is_refused(bundle, reseal, version):
    reseal(bundle, format_version=version)
    with pytest.raises(BundleError, match=r"recog\.json has format_version .*; expected a whole number from 1"):
        read_manifest(bundle)


def test_a_changed_field_is_refused(bundle):
    table = json.loads((bundle / "recog.json").read_bytes())
    for change in ({"seed": 1}, {"class_names": table["class_names"][::-1]}, {"extra": 0}, {"digest": None}):
        write_table(bundle, table | change)
        with pytest.raises(BundleError, match=r"recog\.json was changed after it was sealed"):
            read_manifest(bundle)
    del table["seed"]
    write_table(bundle, table)
    with pytest.raises(BundleError, match="changed after it was sealed"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": ["a"]},
        {"class_names": ["a", "a"]},
        {"class_names": ["a", 1]},
        {"class_names": "ab"},
        {"class_names": None},
        {"class_names": {"a": 0, "b": 1}},
        {"preprocess": None},
        {"preprocess": []},
        {"preprocess": {"image_size": [8, 8], "surprise": 1}},
        {"preprocess": {"image_size": [0, 8]}},
        {"preprocess": {"image_size": 8}},
        {"data": None},
        {"data": {"name": "x"}},
        {"data": {"name": "x", "fingerprint": "y", "num_images": "abc"}},
        {"files": "abc"},
        {"files": ["model.onnx"]},
        {"files": None},
        {"task": "detection"},
        {"task": None},
    ],
)
def test_a_forged_field_is_refused_although_the_digest_fits(bundle, reseal, changes):
    reseal(bundle, **changes)
    with pytest.raises(BundleError):
        read_manifest(bundle)


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/b", "..\\x", "C:\\x", "..", ".", "", "x" * 256, "é" * 128],
)
def test_a_file_name_that_leads_out_of_the_folder_is_refused(bundle, reseal, name):
    files = json.loads((bundle / "recog.json").read_bytes())["files"]
    reseal(bundle, files={**files, name: "0" * 64})
    with pytest.raises(BundleError, match="is not a file in the bundle"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"recog"',
        "{",
        "\x00",
        "[" * 1_000_000,
        '{"a":' * 1_000_000,
        '{"format_version": NaN}',
        '{"format_version": 1, "seed": Infinity}',
        '{"format_version": 1, "seed": 1e999}',
        '{"format_version": 1, "seed": ' + "9" * 5000 + "}",
        '{"format_version": 1, "task": "\\ud800"}',
        '{"format_version": 1, "seed": 0, "seed": 1}',
        '{"format_version": 1, "deep": ' + "[" * 900 + "]" * 900 + "}",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_hostile_json_is_a_bundle_error(tmp_path, text):
    (tmp_path / "recog.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError):
        read_manifest(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "recog.json").write_bytes(b'{"a": "\xff\xfe\x00"}')
    with pytest.raises(BundleError, match=r"recog\.json is not UTF-8 text"):
        read_manifest(tmp_path)


def test_the_same_key_twice_is_refused(tmp_path):
    """Of two equal keys one reader takes the first and another the last; so one file could say two things."""
    sealed = json.dumps(manifest_of().to_dict())
    (tmp_path / "recog.json").write_text('{"seed": 99, ' + sealed[1:])
    with pytest.raises(BundleError, match="not valid JSON"):
        read_manifest(tmp_path)


def test_size_is_capped_before_reading(tmp_path):
    with (tmp_path / "recog.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no disk
    with pytest.raises(BundleError, match=rf"{MAX_BYTES + 1:,} bytes; at most {MAX_BYTES:,} are read"):
        read_manifest(tmp_path)


def test_a_missing_or_unreadable_manifest(tmp_path, bundle):
    with pytest.raises(BundleError, match=r"is not a bundle: it holds no recog\.json"):
        read_manifest(tmp_path)
    (bundle / "recog.json").unlink()
    (bundle / "recog.json").mkdir()
    with pytest.raises(BundleError, match=r"recog\.json is a folder; expected a regular file"):
        read_manifest(bundle)
    with pytest.raises(BundleError, match="is not a bundle|cannot be read"):
        read_manifest(bundle / "config.json")


def test_no_permission_is_a_bundle_error(bundle, monkeypatch):
    def refuse(path, flags, mode):
        raise PermissionError(errno.EACCES, "Permission denied")  # by hand, as root may read everything

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(BundleError, match=r"recog\.json cannot be read: Permission denied"):
        read_manifest(bundle)


def test_a_bundle_may_be_moved_and_copied(bundle, tmp_path):
    moved = shutil.move(bundle, tmp_path / "elsewhere ü")
    assert read_manifest(moved).architecture == "resnet8"
