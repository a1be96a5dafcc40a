import json

import pytest
import torch

from recog.training.checkpoint import flatten_state, unflatten_state


def through_json(state):
    tensors, values = flatten_state(state)
    return unflatten_state(tensors, json.loads(json.dumps(values, allow_nan=False)))


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
        assert first.dtype == second.dtype
        assert first.stride() == second.stride()
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second


def test_every_kind_of_value_comes_back():
    state = {
        "weights": {"conv.weight": torch.randn(2, 3, 3, 3).to(memory_format=torch.channels_last)},
        "half": torch.randn(4).to(torch.bfloat16),
        "scalar": torch.tensor(3.0),
        "rng": torch.get_rng_state(),
        "transposed": torch.arange(6).reshape(2, 3).T,
        "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "nesterov": True, "foreach": None, "params": [0, 1]}],
        "state": {0: {"step": 7}, 10: {}},
        "empty": {},
        "name": "ümlaut/with/slashes",
        "tensor": {"tensor": torch.zeros(0), "table": "a word that is also a tag"},
        "third": 1 / 3,
    }
    assert_same(through_json(state), state)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_an_optimiser_goes_on_as_if_nothing_had_happened(kind):
    def made():
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        parameters = list(layer.parameters())
        if kind == "sgd":
            return layer, torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)
        return layer, torch.optim.Adam(parameters, lr=0.1, amsgrad=True)

    def step(layer, optimizer):
        optimizer.zero_grad()
        layer(torch.ones(2, 3, 5, 5)).square().sum().backward()
        optimizer.step()

    straight, resumed = made(), made()
    step(*straight)
    resumed[0].load_state_dict(through_json(straight[0].state_dict()))
    resumed[1].load_state_dict(through_json(straight[1].state_dict()))
    step(*straight)
    step(*resumed)
    for one, other in zip(straight[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(one, other)
    assert_same(resumed[1].state_dict(), straight[1].state_dict())


def test_the_tensors_are_copies():
    weights = torch.zeros(2)
    tensors, _ = flatten_state({"weights": weights})
    weights += 1
    assert tensors["weights"].tolist() == [0, 0]


def test_an_expanded_tensor_comes_back_by_value():
    found = through_json({"w": torch.tensor([1.0, 2.0])[:, None].expand(2, 3)})
    assert found["w"].tolist() == [[1, 1, 1], [2, 2, 2]]


def test_what_cannot_be_kept_is_named():
    with pytest.raises(TypeError, match="'a/1' holds set"):
        flatten_state({"a": [0, {1}]})
    with pytest.raises(TypeError, match="'a' has keys"):
        flatten_state({"a": {0: 1, "b": 2}})


@pytest.mark.parametrize(
    "values", [{"tensor": "other"}, {"pickle": "x"}, {"tensor": "a", "more": 1}, {"ints": {"x": 1}}]
)
def test_what_does_not_belong_together_is_refused(values):
    with pytest.raises((KeyError, ValueError)):
        unflatten_state({"a": torch.zeros(1)}, values)
