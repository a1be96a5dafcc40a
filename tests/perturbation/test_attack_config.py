"""Which attacks are run."""

from __future__ import annotations

import pytest

from recog.core.errors import ConfigError
from recog.perturbation.attack_config import build_attack_config


def test_config():
    assert build_attack_config([], norm="linf", eps=None, restarts=1, quick=False) is None
    config = build_attack_config(["all"], norm="l2", eps="1/4", restarts=2, quick=True)
    assert (config.names, config.eps, config.steps) == (("fgsm", "pgd", "apgd-ce", "apgd-dlr"), 0.25, 20)
    for names, options, message in (
        (["fgms"], {}, "no attack 'fgms'.*Did you mean 'fgsm'"),
        (["square"], {"norm": "l2"}, "square changes pixels by up to eps"),
        (["pgd"], {"eps": "8"}, "--eps is 8; it must be above 0 and at most 1"),
        (["pgd"], {"eps": "eight"}, "expected a number or a fraction"),
        (["pgd"], {"restarts": 0}, "--restarts is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_attack_config(names, **{"norm": "linf", "eps": None, "restarts": 1, "quick": False, **options})
