"""Which attacks are run, and how strong they are; apart from the attacks, whose modules import torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

from recog.core.config import did_you_mean
from recog.core.errors import ConfigError
from recog.core.task import Task

ATTACK_NAMES = ("fgsm", "pgd", "apgd-ce", "apgd-dlr", "square")  # in the order in which they are run
ATTACKS_OF: Mapping[Task, tuple[str, ...]] = MappingProxyType({"multiclass": ATTACK_NAMES, "multilabel": ()})
DEFAULT_EPS = {"linf": "8/255", "l2": "1/2"}


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """Pixels are in [0, 1]; `eps` is the largest change of one (linf), or the length of all changes (l2)."""

    names: tuple[str, ...] = ATTACK_NAMES
    norm: Literal["linf", "l2"] = "linf"
    eps: float = 8 / 255
    steps: int = 100  # of Auto-PGD; PGD takes a fifth
    restarts: int = 1
    queries: int = 5000  # of the Square Attack, per image
    num_targets: int = 9  # classes that apgd-dlr tries

    @property
    def pgd_steps(self) -> int:
        return max(1, self.steps // 5)


def build_attack_config(
    names: Sequence[str], *, norm: Literal["linf", "l2"], eps: str | float | None, restarts: int, quick: bool
) -> AttackConfig | None:
    """None where no attack is named. 'all' are all of ATTACK_NAMES; `eps` may be written as a fraction, such as '8/255'."""
    if not names:
        return None
    for name in names:
        if name not in (*ATTACK_NAMES, "all"):
            raise ConfigError(
                f"there is no attack '{name}'.{did_you_mean(name, ['all', *ATTACK_NAMES])} Known: all, {', '.join(ATTACK_NAMES)}."
            )
    chosen = tuple(name for name in ATTACK_NAMES if name in names or "all" in names)
    if norm == "l2" and "square" in chosen:
        if "all" not in names:
            raise ConfigError("square changes pixels by up to eps, which is norm linf. Remove it, or use --norm linf.")
        chosen = tuple(name for name in chosen if name != "square")
    if restarts < 1:
        raise ConfigError(f"--restarts is {restarts}; it must be 1 or more.")
    config = AttackConfig(names=chosen, norm=norm, eps=_as_eps(eps, norm), restarts=restarts)
    if not quick:
        return config
    return AttackConfig(
        names=chosen, norm=norm, eps=config.eps, steps=20, restarts=restarts, queries=500, num_targets=3
    )


def _as_eps(eps: str | float | None, norm: str) -> float:
    text = DEFAULT_EPS[norm] if eps is None else str(eps)
    try:
        value = float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"--eps is '{text}'; expected a number or a fraction, such as 8/255.") from None
    most = 1.0 if norm == "linf" else math.inf
    if not 0 < value <= most:
        of = "at most 1, as pixels are in [0, 1] (8 levels of 255 are 8/255)" if norm == "linf" else "finite"
        raise ConfigError(f"--eps is {text}; it must be above 0 and {of}.")
    return value
