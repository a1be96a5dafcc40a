import re
from pathlib import Path

import pytest
import timm
import torch
from small_models import num_parameters
from torchvision.models import AlexNet_Weights

from recog.models.table import MODELS, Timm, own_network, timm_name


@pytest.mark.parametrize("name", MODELS)
def test_the_table_states_the_parameters_of_each_network(name):
    entry = MODELS[name]
    with torch.device("meta"):
        if isinstance(entry, Timm):
            network = timm.create_model(entry.name, num_classes=1000)
        else:
            network = entry.build(num_classes=entry.num_classes, in_chans=entry.channels, image_size=entry.image_size)
    assert num_parameters(network) == entry.num_parameters


def test_figures_that_papers_and_libraries_publish():
    # num_params on torchvision's model pages, at 1,000 classes
    published = {
        "alexnet": 61_100_840,
        "vgg11": 132_863_336,
        "vgg16": 138_357_544,
        "resnet18": 11_689_512,
        "resnet34": 21_797_672,
        "resnet50": 25_557_032,
        "mobilenet_v2": 3_504_872,
        "mobilenet_v3_small": 2_542_856,
        "mobilenet_v3_large": 5_483_032,
        "efficientnet_b0": 5_288_548,
        "convnext_tiny": 28_589_128,
    }
    assert {name: MODELS[name].num_parameters for name in published} == published


def test_no_network_of_ours_has_a_name_of_timms():
    """A bundle's config.json names the architecture, and the reader asks our table first."""
    assert not [name for name in MODELS if own_network(name) and timm.is_model(name)]


def test_only_the_lite_networks_hide_one_of_timms():
    """Their weights are installed; timm's own of that name, without padding as TensorFlow's, keeps its name with a tag."""
    hidden = [name for name, entry in MODELS.items() if timm.is_model(name) and entry.name != name]
    assert hidden == ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    assert timm_name("efficientnet_lite0.ra_in1k") == "efficientnet_lite0.ra_in1k"


def test_names_lead_to_an_entry_or_pass_through():
    assert timm_name("mobilenet_v2") == "mobilenetv2_100"
    assert timm_name("resnet26d.bt_in1k") == "resnet26d.bt_in1k"
    assert own_network("lenet5") is MODELS["lenet5"]
    assert own_network("resnet18") is own_network("no_such_network") is None


# by hand: sides after each 5 x 5 convolution and halving, and what must be left is 1
SMALLEST = {
    "lenet5": 12,  # padded: 12 -> 12 -> 6 -> 2 -> 1
    "cnn_6_16": 16,  # 16 -> 12 -> 6 -> 2 -> 1
    "cnn_16_32": 4,  # 4 -> 2 -> 1
    "cnn_32_64": 6,  # 6 -> 4 -> 2 -> 1
    "cnn_64_128": 4,  # 4 -> 2 -> 1
    "resnet8": 1,  # strides that round up
    "resnet20": 1,
    "fastnet32": 9,  # 9 -> 8 -> 4 -> 2 -> 1
    "fastnet32_wide": 9,
    "alexnet": 63,  # (63 + 4 - 11) / 4 + 1 = 15 -> 7 -> 7 -> 3 -> 3 -> 1
}


@pytest.mark.parametrize("name", [name for name in MODELS if own_network(name)])
def test_what_is_too_small_is_known_without_an_image(name):
    entry, side = own_network(name), SMALLEST[name]
    assert entry.takes((side, side))
    network = entry.build(num_classes=2, in_chans=1, image_size=(side, side + 3)).eval()
    assert network(torch.zeros(1, 1, side, side + 3)).shape == (1, 2)
    assert side == 1 or not entry.takes((side - 1, 99))
    assert side == 1 or not entry.takes((99, side - 1))


def test_accuracy_and_time_are_those_of_the_results_file():
    text = (Path(__file__).parents[2] / "benchmarks" / "results" / "models.md").read_text()
    rows = re.findall(r"^\| (\w+)(?: \*)? \| ([\d.]+) \| [\d.]+ \| ([\d.]+) % \|$", text, re.MULTILINE)
    listed = {name: (entry.ms, entry.top1) for name, entry in MODELS.items() if entry.ms is not None}
    assert {name: (float(ms), float(top1)) for name, ms, top1 in rows} == listed
    assert {name for name, entry in MODELS.items() if isinstance(entry, Timm)} | {"alexnet"} == set(listed)


def test_the_accuracy_of_alexnet_is_the_one_that_torchvision_publishes():
    published = AlexNet_Weights.IMAGENET1K_V1.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert MODELS["alexnet"].top1 == round(published, 1)
