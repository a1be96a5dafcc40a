import dataclasses
import json
import sys
from pathlib import Path

import pytest

import recog
from recog.bundle.manifest import read_manifest
from recog.bundle.seal import REQUIRED_FILES, check_all_files, check_facts, check_files, read_network_config, seal
from recog.core.errors import BundleError

ALL_FILES = sorted(REQUIRED_FILES)


def seal_again(folder):
    """Seal what stands in `folder` with the facts of its former manifest, which is removed first."""
    old = read_manifest(folder)
    (folder / "recog.json").unlink()
    return seal(folder, dataclasses.replace(old, files={}))


def test_a_bundle_has_the_files_of_the_contract(bundle):
    """design.md, section 4: the table of files."""
    assert {path.name for path in bundle.iterdir()} == {
        "config.json", "model.safetensors", "model.onnx", "calibration.json", "reference.safetensors", "report.json",
        "run.toml", "README.md", "recog.json", "features.safetensors",
    }  # fmt: skip
    assert set(read_manifest(bundle).files) == REQUIRED_FILES | {"features.safetensors"}


@pytest.mark.parametrize("name", [*ALL_FILES, "recog.json"])
def test_no_file_names_a_folder_of_this_machine(digits_run, name):
    data = (digits_run.bundle / name).read_bytes()
    for folder in (digits_run.folder, Path.cwd(), Path(recog.__file__).parent, Path.home(), Path(sys.prefix)):
        assert f"{folder}/".encode() not in data


def test_a_fresh_bundle_passes(bundle):
    check_all_files(bundle, read_manifest(bundle))


@pytest.mark.parametrize("name", ALL_FILES)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_flipped_byte_is_found_and_named(bundle, name, place):
    data = bytearray((bundle / name).read_bytes())
    position = {"first": 0, "middle": len(data) // 2, "last": len(data) - 1}[place]
    data[position] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{name} is not the file that was sealed"):
        check_all_files(bundle, read_manifest(bundle))


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_file_that_is_longer_shorter_or_empty_is_found(bundle, name):
    sealed = (bundle / name).read_bytes()
    for harmed in (sealed + b"\n", sealed[:-1], b""):
        (bundle / name).write_bytes(harmed)
        with pytest.raises(BundleError, match=rf"{name} is not the file that was sealed"):
            check_all_files(bundle, read_manifest(bundle))


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"lacks {name}, which its manifest lists"):
        check_all_files(bundle, read_manifest(bundle))


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_part_that_the_manifest_was_made_to_forget_is_named(bundle, reseal, name):
    (bundle / name).unlink()
    reseal(bundle)
    with pytest.raises(BundleError, match=rf"recog\.json does not list {name}"):
        check_all_files(bundle, read_manifest(bundle))


@pytest.mark.parametrize("name", ["weights.pkl", ".hidden", "model.onnx.data", "pytorch_model.bin"])
def test_a_file_too_many_is_named(bundle, name):
    (bundle / name).write_bytes(b"x")
    with pytest.raises(BundleError, match=rf"holds files that were not sealed: {name}"):
        check_all_files(bundle, read_manifest(bundle))


def test_a_folder_within_is_named(bundle):
    (bundle / "sub").mkdir()
    with pytest.raises(BundleError, match="not sealed: sub"):
        check_all_files(bundle, read_manifest(bundle))


def test_a_folder_in_place_of_a_file_is_refused(bundle):
    (bundle / "README.md").unlink()
    (bundle / "README.md").mkdir()
    with pytest.raises(BundleError, match=r"README\.md is a folder; expected a regular file"):
        check_all_files(bundle, read_manifest(bundle))


def test_a_file_that_is_not_listed_cannot_be_checked(bundle):
    (bundle / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"does not list notes\.txt"):
        check_files(bundle, read_manifest(bundle), ["notes.txt"])


@pytest.mark.parametrize("digest", ["0" * 64, "", None, 5, ["a"]])
def test_a_wrong_digest_in_the_manifest_is_refused(bundle, reseal, digest):
    files = json.loads((bundle / "recog.json").read_bytes())["files"]
    reseal(bundle, files={**files, "model.onnx": digest})
    with pytest.raises(BundleError, match=r"model\.onnx|recog\.json: files.* expected text"):
        check_all_files(bundle, read_manifest(bundle))


def test_only_what_is_asked_for_is_hashed(bundle):
    (bundle / "report.json").write_text("changed")
    check_files(bundle, read_manifest(bundle), ["model.onnx", "config.json"])


# sealing


def test_sealing_twice_gives_the_same_manifest(bundle):
    before = (bundle / "recog.json").read_bytes()
    seal_again(bundle)
    assert (bundle / "recog.json").read_bytes() == before


def test_a_sealed_bundle_cannot_be_sealed_again(bundle):
    manifest = read_manifest(bundle)
    with pytest.raises(BundleError, match=r"not part of it \['recog\.json'\]"):
        seal(bundle, manifest)


@pytest.mark.parametrize("name", ALL_FILES)
def test_an_incomplete_folder_is_not_sealed(bundle, name):
    (bundle / "optional").mkdir()  # and something too many
    manifest = read_manifest(bundle)
    (bundle / name).unlink()
    (bundle / "recog.json").unlink()
    with pytest.raises(BundleError, match=rf"missing \['{name}'\], not part of it \['optional'\]"):
        seal(bundle, manifest)
    assert not (bundle / "recog.json").exists()


def test_an_optional_file_is_sealed_where_it_is_there(bundle):
    assert "features.safetensors" in seal_again(bundle).files
    check_all_files(bundle, read_manifest(bundle))
    (bundle / "features.safetensors").unlink()
    assert "features.safetensors" not in seal_again(bundle).files
    check_all_files(bundle, read_manifest(bundle))


# facts that stand twice


def change_config(bundle, path, value):
    config = json.loads((bundle / "config.json").read_bytes())
    *outer, key = path
    table = config
    for name in outer:
        table = table[name]
    table[key] = value
    (bundle / "config.json").write_text(json.dumps(config))
    return config


@pytest.mark.parametrize(
    ("path", "value", "fact"),
    [
        (["architecture"], "resnet20", "architecture"),
        (["label_names"], [*"1023456789"], "class names"),  # two classes swapped: every answer would be wrong
        (["label_names"], [*"012345678"], "class names"),
        (["num_classes"], 11, "num_classes"),
        (["pretrained_cfg", "input_size"], [1, 8, 9], "input size"),
        (["pretrained_cfg", "input_size"], [3, 8, 8], "input size"),
        (["pretrained_cfg", "crop_pct"], 0.9, "crop_pct"),
        (["pretrained_cfg", "crop_mode"], "squash", "crop_mode"),
        (["pretrained_cfg", "interpolation"], "bilinear", "interpolation"),
    ],
)
def test_config_and_manifest_must_agree(bundle, path, value, fact):
    manifest = read_manifest(bundle)
    change_config(bundle, path, value)
    config = read_network_config(bundle)
    with pytest.raises(BundleError, match=rf"config\.json and recog\.json disagree on {fact}"):
        check_facts(manifest, config)
    with pytest.raises(BundleError, match=f"disagree on {fact}"):
        seal_again(bundle)
    assert not (bundle / "recog.json").exists()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["label_names"], None, "label_names is null; expected a list"),
        (["pretrained_cfg"], [], "pretrained_cfg is a list; expected an object"),
        (["pretrained_cfg", "input_size"], [3, 8], "pretrained_cfg.input_size"),
        (["num_classes"], "10", "num_classes is text; expected a whole number"),
    ],
)
def test_a_config_of_another_type_is_named_by_field(bundle, path, value, words):
    change_config(bundle, path, value)
    with pytest.raises(BundleError, match=rf"config\.json: {words}"):
        read_network_config(bundle)


def test_agreeing_facts_pass(bundle):
    check_facts(read_manifest(bundle), read_network_config(bundle))
