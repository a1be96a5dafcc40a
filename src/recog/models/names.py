"""Names of networks as people write them: hub prefixes, case and punctuation, other libraries' names, families."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from recog.core.config import did_you_mean
from recog.core.errors import ConfigError
from recog.core.files import shown
from recog.models.table import MODELS, timm_name

OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {  # torchvision's and other libraries' names, and families, where timm's are not similar
        "vit_b_16": "vit_base_patch16_224",
        "vit_b_32": "vit_base_patch32_224",
        "vit_l_16": "vit_large_patch16_224",
        "vit_l_32": "vit_large_patch32_224",
        "vit_h_14": "vit_huge_patch14_224",
        "swin_t": "swin_tiny_patch4_window7_224",
        "swin_s": "swin_small_patch4_window7_224",
        "swin_b": "swin_base_patch4_window7_224",
        "efficientnet_v2_s": "tf_efficientnetv2_s",
        "efficientnet_v2_m": "tf_efficientnetv2_m",
        "efficientnet_v2_l": "tf_efficientnetv2_l",
        "deit_tiny": "deit_tiny_patch16_224",
        "deit_small": "deit_small_patch16_224",
        "deit_base": "deit_base_patch16_224",
        "dinov2_vits14": "dinov2_small",
        "dinov2_vitb14": "dinov2_base",
        "dinov2_vitl14": "vit_large_patch14_dinov2",
        "dinov2_vitg14": "vit_giant_patch14_dinov2",
        "dinov2_large": "vit_large_patch14_dinov2",
        "dinov2_giant": "vit_giant_patch14_dinov2",
        "dinov2": "dinov2_small",
        "convnext": "convnext_tiny",
        "deit": "deit_small_patch16_224",
        "densenet": "densenet121",
        "efficientnet": "efficientnet_b0",
        "efficientnetv2": "tf_efficientnetv2_s",
        "inception": "inception_v3",
        "lenet": "lenet5",
        "mobilenet": "mobilenet_v3_small",
        "mobilenetv3": "mobilenet_v3_small",
        "mobilenetv4": "mobilenet_v4_small",
        "resnet": "resnet18",
        "swin": "swin_tiny_patch4_window7_224",
        "vgg": "vgg16",
        "vit": "vit_tiny",
    }
)
_HUB = re.compile(
    r"(?:(?:hf[-_]hub|huggingface):(?://)?|https?://(?:huggingface\.co|hf\.co)/)(?P<path>.+)", re.IGNORECASE
)
_OWNER = "timm"  # on the hub


def known_network(name: str) -> str:
    """The name in recog's table or of timm that `name` means; with a tag of weights, if it has one.

    ConfigError for a name that means none, or several, and for a repository on the hub that is not timm's.
    """
    timm_names = read_timm_names()
    plain_name = _without_hub(name)
    base, dot, tag = plain_name.partition(".")
    if plain_name in MODELS or base in timm_names or not timm_names:
        return plain_name
    found = _meant(base, timm_names)
    if found is None:
        raise unknown_network(name, timm_names)
    return f"{timm_name(found)}.{tag}" if dot else found


def _without_hub(name: str) -> str:
    """`name` without a prefix such as 'hf-hub:timm/'."""
    found = _HUB.fullmatch(name.strip())
    owner, slash, repository = (found["path"] if found else name.strip()).rstrip("/").partition("/")
    if owner == _OWNER and slash:
        return repository
    if found or (slash and "." not in owner and _plain(owner + repository) not in _plain_names(tuple(OTHER_NAMES))):
        raise ConfigError(
            f"{shown(name)} is a repository on the hub; of these only timm's can be named, such as timm/resnet18.a1_in1k. "
            "Download its weights file and pass it: --model NETWORK --weights FILE."
        )
    return name.strip()


def _meant(name: str, timm_names: frozenset[str]) -> str | None:
    """Of the table, of the other names or of timm, the first whose letters and digits are those of `name`; None if several."""
    plain = _plain(name)
    for known in (MODELS, OTHER_NAMES):
        if plain in (found := _plain_names(tuple(known))):
            return OTHER_NAMES.get(found[plain], found[plain])
    same = [known for known in timm_names if plain and _plain(known) == plain]
    return same[0] if len(same) == 1 else None


def _plain_names(names: tuple[str, ...]) -> dict[str, str]:
    return {_plain(name): name for name in names}


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def unknown_network(name: str, timm_names: Iterable[str]) -> ConfigError:
    hint = did_you_mean(name, [*MODELS, *sorted(timm_names)])
    return ConfigError(f"Unknown network {shown(name)}: neither in recog nor in timm.{hint}")


@functools.cache
def _timm_sources() -> tuple[str, ...]:
    """The text of timm's source files, read without importing timm, which takes seconds; none without timm."""
    found = importlib.util.find_spec("timm")
    if found is None or found.origin is None:
        return ()
    files = (Path(found.origin).parent / "models").glob("*.py")
    return tuple(file.read_text(encoding="utf-8", errors="replace") for file in files)


def source_of(name: str) -> str:
    """The source file of timm that registers the network `name`; empty if there is none."""
    return next((text for text in _timm_sources() if re.search(rf"^def {re.escape(name)}\(", text, re.MULTILINE)), "")


@functools.cache
def read_timm_names() -> frozenset[str]:
    """The names that timm's source files register; empty without timm.

    Deprecated names are among them; `timm.list_models()` is a subset (tests/models/test_names.py).
    """
    names: set[str] = set()
    for text in _timm_sources():
        names.update(_REGISTERED.findall(text))
        if "register_model_deprecations" in text:
            names.update(_DEPRECATED.findall(text[text.index("register_model_deprecations") :]))
    return frozenset(names)


_REGISTERED = re.compile(r"@register_model\s+def\s+(\w+)")
_DEPRECATED = re.compile(r"""^\s+['"](\w+)['"]\s*:""", re.MULTILINE)
