"""The choice among networks and input sizes."""

import numpy as np
import pytest
from containers import labelled_pngs, write_folder

from recog.core.errors import ConfigError
from recog.data.sources import open_source
from recog.data.split import SplitConfig, split_dataset
from recog.models.config import ModelConfig
from recog.recipes import choose_input as module
from recog.recipes.choose_head import Candidate
from recog.recipes.choose_input import Compared, cheapest_of_the_best, check_open, choose_input
from recog.recipes.config import TrainConfig
from recog.recipes.events import HeadLog
from recog.recipes.plan import HEAD_INPUTS, HeadInput
from recog.training.config import HeadConfig
from recog.training.head import HeadSpec


def compared(cost, number=0):
    log = HeadLog(trial=1, l2=1.0, val_accuracy=0.9, val_nll=0.3)
    best = Candidate(spec=HeadSpec(l2=1.0), logits=np.zeros((1, 1, 2), np.float32), log=log, cost=cost)
    return Compared(input=HEAD_INPUTS[number], best=best, images_per_s=9.0)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ((1.0, 0.96), 0),  # 4 % better, and dearer
        ((1.0, 0.94), 1),
        ((1.0, 0.94, 0.9), 1),  # 10 % better than the first, but 4 % than the second
        ((1.0, 1.1, 0.9), 2),
    ],
)
def test_of_nearly_equal_ones_the_cheaper_is_used(costs, expected):
    tried = [compared(cost, number) for number, cost in enumerate(costs)]
    assert cheapest_of_the_best(tried) is tried[expected]


def test_the_table_rises_in_cost():
    assert list(HEAD_INPUTS) == sorted(HEAD_INPUTS, key=lambda option: option.cost)


def test_every_option_is_measured_and_shown(tmp_path, monkeypatch):
    small = tuple(HeadInput(name="test_efficientnet", side_px=side, cost=side) for side in (32, 64))
    monkeypatch.setattr(module, "HEAD_INPUTS", small)
    write_folder(labelled_pngs(20, classes=("ant", "bee")), tmp_path)
    dataset = open_source(str(tmp_path))
    dataset = split_dataset(dataset, SplitConfig(), seed=0, groups=[sample.name for sample in dataset.samples])
    config = TrainConfig(head=HeadConfig(compare=True))
    monkeypatch.setattr(module, "build_model", without_weights(module.build_model))
    found, (first, *rows) = choose_input(config, dataset, grey16_max=65535)
    assert found in small
    assert f"{found} is used" in first
    assert [row.strip().partition(":")[0] for row in rows] == [str(option) for option in small]
    assert all("cross-validated accuracy " in row and "images/s" in row for row in rows)


def without_weights(build):
    def build_random(config, *, num_classes):
        return build(
            ModelConfig(name=config.name, image_size=config.image_size, weights="none"), num_classes=num_classes
        )

    return build_random


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"model": ModelConfig(name="resnet18")}, "model.name"),
        ({"model": ModelConfig(image_size=(64, 64))}, "model.image_size"),
        ({"head": HeadConfig(compare=True, mirror=True)}, "head.mirror"),
        ({"recipe": "finetune"}, "recipe finetune"),
    ],
)
def test_what_it_would_choose_cannot_be_set(settings, name):
    with pytest.raises(ConfigError, match=f"head.compare is true, .* remove head.compare or {name}"):
        check_open(TrainConfig(**{"head": HeadConfig(compare=True)} | settings))
