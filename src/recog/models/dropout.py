"""Dropout and drop-path rates, for the networks that have them; others refuse a rate that would do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from recog.core.errors import ConfigError

# Srivastava et al. (2014), "Dropout"; Huang et al. (2016), "Deep Networks with Stochastic Depth"
KINDS = {"drop_rate": "dropout", "drop_path_rate": "drop-path"}


def timm_rates(drop_rate: float | None, drop_path_rate: float | None) -> dict[str, Any]:
    """The arguments of timm.create_model for the rates that are set."""
    rates = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
    return {name: rate for name, rate in rates.items() if rate is not None}


@contextmanager
def refusing_rates(name: str, rates: dict[str, Any]) -> Iterator[None]:
    """A builder that does not know one of `rates` says so as a ConfigError."""
    try:
        yield
    except (TypeError, ConfigError) as error:
        for rate in rates:
            if f"unexpected keyword argument '{rate}'" in str(error):
                raise _refused(name, rate) from None
        raise


def check_rates(name: str, network: nn.Module, rates: dict[str, Any]) -> None:
    """ConfigError where a rate above 0 was taken and reached no layer: some of timm's builders swallow it."""
    in_layers = {
        "drop_rate": [module.p for module in network.modules() if isinstance(module, nn.Dropout)],
        "drop_path_rate": [getattr(module, "drop_prob", None) or 0.0 for module in network.modules()],
    }
    in_layers["drop_rate"] += [getattr(module, "drop_rate", None) or 0.0 for module in network.modules()]
    for rate, value in rates.items():
        if value and not any(in_layers[rate]):
            raise _refused(name, rate)


def set_own_rates(name: str, network: nn.Module, drop_rate: float | None, drop_path_rate: float | None) -> None:
    """Give every dropout layer of a network of ours `drop_rate`. ConfigError where it has none, and for drop-path."""
    if drop_path_rate:
        raise _refused(name, "drop_path_rate")
    if drop_rate is None:
        return
    layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    if drop_rate and not layers:
        raise _refused(name, "drop_rate")
    for layer in layers:
        layer.p = drop_rate


def _refused(name: str, rate: str) -> ConfigError:
    return ConfigError(
        f"model.{rate} is set, and {name} has no {KINDS[rate]} layer that would heed it; leave it out, or take a network that "
        "has one, such as tf_efficientnet_lite0."
    )
