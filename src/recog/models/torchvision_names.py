"""torchvision's weights in timm's networks: names translated by the order of layers, accepted where both answer alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import timm
import torch
import torchvision
from torch import nn

from recog.core.errors import ConfigError
from recog.models.names import OTHER_NAMES
from recog.models.table import timm_name

TOLERANCE = 1e-4  # of the largest logit: rounding differs by less, another epsilon or padding by more
_KINDS = ("weight", "bias", "running_mean", "running_var")


def from_torchvision(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor] | None:
    """`tensors` under the names of timm's network `name`, if they are those of torchvision's network of that kind; else None.

    Names are paired by the order of layers. ConfigError where the two networks then give other logits for one image, as
    their layers differ in more than names.
    """
    for theirs in _counterparts(name):
        with torch.device("meta"):
            names = [key for key in torchvision.models.get_model(theirs, weights=None).state_dict() if _counts(key)]
        if set(names) != {key for key in tensors if _counts(key)}:
            continue
        num_classes = _num_classes(tensors, names)
        source = torchvision.models.get_model(theirs, weights=None, num_classes=num_classes)
        target = timm.create_model(name, num_classes=num_classes)
        translated = _pair_in_order({key: tensors[key] for key in names}, target.state_dict())
        if translated is None:
            continue
        source.load_state_dict({**source.state_dict(), **tensors})
        target.load_state_dict({**target.state_dict(), **translated})
        _check_equal(source.eval(), target.eval(), theirs, name)
        return translated
    return None


def _counterparts(name: str) -> list[str]:
    """torchvision's networks that are called like timm's `name`, apart from its suffixes."""
    base = name.partition(".")[0]
    known = torchvision.models.list_models(module=torchvision.models)
    return [theirs for theirs in known if base in (theirs, timm_name(theirs), OTHER_NAMES.get(theirs))]


def _counts(key: str) -> bool:
    return not key.endswith("num_batches_tracked")


def _num_classes(tensors: Mapping[str, torch.Tensor], names: list[str]) -> int:
    """The rows of the last matrix, which is the last layer's."""
    return int(next(tensors[key] for key in reversed(names) if tensors[key].ndim == 2).shape[0])


def _pair_in_order(
    theirs: Mapping[str, torch.Tensor], ours: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor] | None:
    """Of tensors with one size and kind, the first goes to the first, and so on; None where the numbers differ."""
    queues: dict[tuple[object, ...], list[torch.Tensor]] = defaultdict(list)
    for key, tensor in theirs.items():
        queues[_size_and_kind(key, tensor)].append(tensor)
    translated: dict[str, torch.Tensor] = {}
    for key, tensor in ours.items():
        if _counts(key):
            queue = queues[_size_and_kind(key, tensor)]
            if not queue:
                return None
            translated[key] = queue.pop(0).reshape(tensor.shape)
    return None if any(queues.values()) else translated


def _size_and_kind(key: str, tensor: torch.Tensor) -> tuple[object, ...]:
    """Rows, size and kind; a linear layer may be a convolution of one position, so other sides do not count."""
    return tensor.shape[0], tensor.numel(), next((kind for kind in _KINDS if key.endswith(kind)), "")


def _check_equal(source: nn.Module, target: nn.Module, theirs: str, name: str) -> None:
    height, width = target.pretrained_cfg["input_size"][-2:]  # type: ignore[index]
    image = torch.linspace(-2, 2, 3 * height * width).sin().reshape(1, 3, height, width)
    with torch.no_grad():
        expected, found = source(image), target(image)
    difference = float((expected - found).abs().max() / expected.abs().max())
    if not difference <= TOLERANCE:
        raise ConfigError(
            f"torchvision's {theirs} and timm's {name} have equal tensors but not equal layers: with these weights the logits "
            f"differ by {difference:.1%}. Use weights of timm's network."
        )
