"""A nested state, such as an optimiser's, as named tensors and JSON, and back: what safetensors can hold, nothing executable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]


def flatten_state(state: Any) -> tuple[Tensors, Any]:
    """(tensors by path, JSON) of dicts with text or whole-number keys, lists, tuples, tensors, numbers, text and None.

    `unflatten_state` gives the same back: types, key types and memory layout too, as a channels-last momentum that came back
    contiguous would be another input to whatever sums over it. Tensors are detached copies on the CPU.
    """
    tensors: Tensors = {}
    return tensors, _flatten(state, "", tensors)


def _flatten(value: Any, path: str, tensors: Tensors) -> Any:
    if isinstance(value, torch.Tensor):
        name = path or "tensor"
        plain = value.detach()
        tensors[name] = plain.to("cpu", copy=True).contiguous()
        return {"tensor": name} if plain.is_contiguous() else {"tensor": name, "strides": list(plain.stride())}
    if isinstance(value, Mapping):
        kinds = {type(key) for key in value}
        if kinds - {str} and kinds - {int}:
            raise TypeError(f"the state at '{path}' has keys of {kinds}; they must be all text or all whole numbers.")
        return {
            "ints" if kinds == {int} else "table": {
                str(key): _flatten(item, f"{path}/{key}".lstrip("/"), tensors) for key, item in value.items()
            }
        }
    if isinstance(value, (list, tuple)):
        items = [_flatten(item, f"{path}/{number}".lstrip("/"), tensors) for number, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"the state at '{path}' holds {type(value).__name__}, which a checkpoint cannot keep.")


def unflatten_state(tensors: Mapping[str, torch.Tensor], values: Any) -> Any:
    """The state that `flatten_state` took apart. ValueError or KeyError where the two do not belong together."""
    if isinstance(values, list):
        return [unflatten_state(tensors, item) for item in values]
    if not isinstance(values, dict):
        return values
    match list(values):
        case ["tensor"]:
            return tensors[values["tensor"]]
        case ["tensor", "strides"]:
            return _with_strides(tensors[values["tensor"]], values["strides"])
        case ["ints"]:
            return {int(key): unflatten_state(tensors, item) for key, item in values["ints"].items()}
        case ["table"]:
            return {key: unflatten_state(tensors, item) for key, item in values["table"].items()}
        case ["tuple"]:
            return tuple(unflatten_state(tensors, item) for item in values["tuple"])
    raise ValueError(f"unknown entry {list(values)[:3]}")


def _with_strides(tensor: torch.Tensor, strides: list[int]) -> torch.Tensor:
    """`tensor` laid out with `strides` where these order its elements another way; expanded or gapped ones stay contiguous."""
    laid_out = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype)
    dense = laid_out.untyped_storage().nbytes() == tensor.nbytes
    return laid_out.copy_(tensor) if dense else tensor
