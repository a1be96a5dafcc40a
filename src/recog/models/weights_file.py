"""Weights files from anywhere: read without running code, found below containers and prefixes, fitted to a network by name."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from recog.bundle.manifest import MANIFEST, read_bundle_json
from recog.core.errors import ConfigError
from recog.core.files import sha256_file, shown
from recog.core.text import visible
from recog.models.weights import WeightsOrigin, convert_once

MIN_MATCHED = 0.95  # of the body's parameters: below this the file belongs to another network
MAX_DEPTH = 8  # of containers in a checkpoint
NUM_NAMED = 3  # tensors named in a message
Tensors = Mapping[str, torch.Tensor]

_WRAPPERS = frozenset(
    ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "ema", "teacher", "student", "net")
) | frozenset(("module", "backbone", "encoder", "_orig_mod"))
_PREFERRED = ("ema", "teacher", "student")  # of several copies of the weights, the averaged ones are the better


@dataclass(frozen=True, kw_only=True)
class FittedWeights:
    """The tensors of a file under a network's own names, and what of file and network was left out."""

    state: dict[str, torch.Tensor]
    prefix: str  # of the names in the file, such as "state_dict.module."
    share: float  # of the body's parameters that the file has, 0 to 1
    surplus: float  # parameters that the file has in the body's blocks beyond the network's, as a share of the body's
    dropped: tuple[str, ...]  # below the prefix, not in the network or of another shape
    missing: tuple[str, ...]  # in the network's body, not in the file
    misshapen: tuple[
        str, ...
    ]  # in both, with another shape: "name (64, 3, 7, 7) in the file, (64, 3, 3, 3) in the network"

    @property
    def fits(self) -> bool:
        """Weights of a deeper network have every name of a shallower one, and then more."""
        return self.share >= MIN_MATCHED and self.surplus <= 1 - MIN_MATCHED and not self.misshapen

    def describe(self) -> str:
        """'122 tensors matched, dropped: fc.bias, fc.weight'."""
        parts = [f"{len(self.state)} tensors matched"]
        if self.prefix:
            parts.append(f"below {shown(self.prefix.rstrip('.'))}")
        parts += [
            f"{what}: {_some(names)}" for what, names in (("dropped", self.dropped), ("missing", self.missing)) if names
        ]
        return ", ".join(parts)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weights file by name, nested containers joined by dots: {"state_dict": {"a": t}} is "state_dict.a".

    Reads safetensors, and PyTorch's files by `torch.load(weights_only=True)`, which runs no code; these are converted once to
    safetensors in the user's cache. ConfigError for a damaged file, one without tensors, or one of pickled objects.
    """
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    return _load_safetensors(convert_once(sha256_file(path), lambda: save(_read_pytorch(path))))


def fit_tensors(tensors: Tensors, network: nn.Module) -> FittedWeights:
    """`tensors` under the names of `network`, which follows timm's contract.

    The prefix is the one below which most of the network's parameters are found. A last layer for other classes is dropped;
    the filters of the first layer are summed for a grey network.
    """
    ours = network.state_dict()
    head = head_name(network)
    body = {name: tensor for name, tensor in ours.items() if _counts(name) and not name.startswith(f"{head}.")}
    prefix = _best_prefix(tensors, body)
    theirs = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    state: dict[str, torch.Tensor] = {}
    misshapen: list[str] = []
    for name, target in ours.items():
        tensor = theirs.get(name)
        if tensor is None:
            continue
        if tensor.ndim == 4 and target.ndim == 4 and (tensor.shape[1], target.shape[1]) == (3, 1):
            tensor = tensor.sum(dim=1, keepdim=True)
        if tensor.shape == target.shape:
            state[name] = tensor
        elif name in body:
            misshapen.append(f"{name} {tuple(tensor.shape)} in the file, {tuple(target.shape)} in the network")
    size = max(sum(tensor.numel() for tensor in body.values()), 1)
    blocks = {name.partition(".")[0] for name in body}
    surplus = [name for name in theirs.keys() - ours.keys() if name.partition(".")[0] in blocks]
    return FittedWeights(
        state=state,
        prefix=prefix,
        share=sum(body[name].numel() for name in state if name in body) / size,
        surplus=sum(theirs[name].numel() for name in surplus) / size,
        dropped=(
            *sorted(filter(_counts, surplus)),
            *sorted(filter(_counts, theirs.keys() - state.keys() - set(surplus))),
        ),
        missing=tuple(sorted(body.keys() - theirs.keys())),
        misshapen=tuple(misshapen),
    )


def load_fitted(network: nn.Module, fitted: FittedWeights) -> None:
    """Put the fitted tensors into `network`; what the file lacks keeps its value."""
    network.load_state_dict({**network.state_dict(), **fitted.state})


def wrong_weights(path: Path, name: str, fitted: FittedWeights) -> ConfigError:
    """The error for a file that does not belong to network `name`: at most five lines."""
    lines = [
        f"the weights in {path.name} do not fit {name}: {fitted.share:.1%} of its parameters before the last layer match."
    ]
    if fitted.misshapen:
        lines.append(f"Other shapes: {_some(fitted.misshapen)}.")
    if fitted.missing:
        lines.append(f"Only in the network: {_some(fitted.missing)}.")
    if fitted.dropped:
        lines.append(f"Only in the file: {_some(fitted.dropped)}.")
    lines.append("Choose the network that the weights were trained for with --model (recog models PATTERN lists them).")
    return ConfigError("\n  ".join(lines))


def origin_of(path: Path, fit: str) -> WeightsOrigin:
    """`fit`: how the tensors were fitted. A bundle's weights are named by its digest, as its files have the same names."""
    if (path.parent / MANIFEST).is_file():
        digest = str(read_bundle_json(path.parent / MANIFEST).get("digest"))
        return WeightsOrigin(source=f"bundle {digest[:16]}, {fit}", licence="that of the bundle")
    return WeightsOrigin(source=f"file {path.name}, {fit}", licence="not stated")


def unwrapped(tensors: Tensors) -> Iterator[dict[str, torch.Tensor]]:
    """`tensors`, then those of their largest container without its name, as often as a container or wrapper is found."""
    found = dict(tensors)
    while found:
        yield found
        sizes: dict[str, int] = defaultdict(int)
        for name, tensor in found.items():
            sizes[name.partition(".")[0]] += tensor.numel()
        largest = max(sizes, key=sizes.__getitem__)
        if largest not in _WRAPPERS:
            return
        found = {n.removeprefix(f"{largest}."): t for n, t in found.items() if n.startswith(f"{largest}.")}


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} is not a readable safetensors file: {error}. Get it again.") from None


class _Ignored:
    """Stands in for every class in a file but tensors, such as a Namespace of arguments: it keeps nothing and runs nothing."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _read_pytorch(path: Path) -> dict[str, torch.Tensor]:
    others: list[str] = []
    tensors: dict[str, torch.Tensor] = {}
    try:
        others = _class_names(path)
        with torch.serialization.safe_globals([(_Ignored, name) for name in others]):
            value = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {name: tensor.contiguous().clone() for name, tensor in _flatten(value)}
    except Exception as error:  # noqa: BLE001  torch raises any kind of exception on a foreign file
        if "torchscript" in str(error).lower():
            raise _needs_conversion(path, "a TorchScript program", "torch.jit.load({})") from None
        if not others:
            reason = str(error).strip().partition("\n")[0][:200]
            raise ConfigError(
                f"{path} is not a readable PyTorch file ({type(error).__name__}: {reason}). Get it again."
            ) from None
    if not tensors and others:
        what = f"pickled objects ({', '.join(others[:NUM_NAMED])}), which only their own code can open"
        raise _needs_conversion(path, what, "torch.load({}, weights_only=False)")
    if not tensors:
        raise ConfigError(f"{path} holds no tensors; expected a network's state dict.")
    return tensors


def _class_names(path: Path) -> list[str]:
    """The classes that the file names beside tensors, torch's own last; none for files in PyTorch's format before release 1.6."""
    if not zipfile.is_zipfile(path):
        return []
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return sorted(names, key=lambda name: (name.startswith("torch."), name))


def _needs_conversion(path: Path, what: str, load: str) -> ConfigError:
    """`load` is the call that opens the file, with {} in place of its arguments."""
    arguments = f'"{path.name}", map_location="cpu"'
    return ConfigError(
        f"{path} holds {what}; recog reads weights only. If you trust the file, convert it where that code is installed:\n"
        f"    model = {load.format(arguments)}\n"
        '    torch.save(model.state_dict(), "weights.pth")'
    )


def _flatten(value: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of every dense tensor in nested dicts."""
    if isinstance(value, torch.Tensor):
        if value.layout == torch.strided and not value.is_quantized:
            yield prefix.rstrip("."), value.detach()
    elif isinstance(value, dict) and depth <= MAX_DEPTH:
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}{key}.", depth + 1)


def _best_prefix(tensors: Tensors, body: Tensors) -> str:
    """The prefix below which most parameters of `body` are found; of equals the averaged weights, then the shortest."""
    sizes: dict[str, int] = defaultdict(int)
    for name in tensors:
        parts = name.split(".")
        for i in range(len(parts)):
            inner = ".".join(parts[i:])
            if inner in body:
                sizes[name[: len(name) - len(inner)]] += body[inner].numel()

    def rank(prefix: str) -> tuple[int, int, int]:
        preference = next((i for i, word in enumerate(_PREFERRED) if word in prefix), len(_PREFERRED))
        return -sizes[prefix], preference, len(prefix)

    return min(sizes, key=rank, default="")


def head_name(network: nn.Module) -> str:
    """The name of the last layer within `network`."""
    layer = network.get_classifier()  # type: ignore[operator]
    return next((name for name, module in network.named_modules() if module is layer), "")


def _counts(name: str) -> bool:
    """Not BatchNorm's counter, which old files lack and recog does not use."""
    return not name.endswith("num_batches_tracked")


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NUM_NAMED:,} more" if len(names) > NUM_NAMED else ""
    return ", ".join(map(visible, names[:NUM_NAMED])) + more
