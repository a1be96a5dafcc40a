"""The table of corruptions, their strengths at severities 1 to 5, and `corrupt`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from recog.core.chance import random_words
from recog.core.config import did_you_mean
from recog.core.errors import ConfigError
from recog.perturbation import blur, pixels, weather

SEVERITIES = (1, 2, 3, 4, 5)
MAX_SMALL_PX = 64  # of the shorter side: up to here the constants of CIFAR-10-C, above those of ImageNet-C
_IMAGENET_SIDE = 244 / 224  # elastic: the published program has 244 where the images have 224 px

Group = Literal["common", "extra", "camera"]
GROUPS: Mapping[Group, str] = MappingProxyType(
    {
        "common": "ImageNet-C's corruptions",
        "extra": "ImageNet-C's further corruptions",
        "camera": "changes by cameras, phones and messengers",
    }
)


@dataclass(frozen=True)
class Corruption:
    """One way to change images. `small` and `large` are its constants at severities 1 to 5 for images of either size."""

    group: Group
    change: Callable[[Any, Any, Generator], Any]
    small: Sequence[Any]
    large: Sequence[Any]
    colour_only: bool = False  # it leaves grey images as they are

    def constant(self, severity: int, height: int, width: int) -> Any:
        return (self.small if min(height, width) <= MAX_SMALL_PX else self.large)[severity - 1]


def _alike(change: Callable[[Any, Any, Generator], Any], *constants: Any, colour_only: bool = False) -> Corruption:
    return Corruption("camera", change, constants, constants, colour_only)


# Constants: small from make_cifar_c.py, large from make_imagenet_c.py of github.com/hendrycks/robustness, revisions ca36008 and
# e0377d4. Elastic's are shares of the side there too.
CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "gaussian_noise": Corruption(
            "common", pixels.gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)
        ),
        "shot_noise": Corruption("common", pixels.shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
        "impulse_noise": Corruption(
            "common", pixels.impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)
        ),
        "defocus_blur": Corruption(
            "common",
            blur.defocus_blur,
            ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
            ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        ),
        "glass_blur": Corruption(
            "common",
            blur.glass_blur,
            ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
            ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        ),
        "motion_blur": Corruption(
            "common",
            blur.motion_blur,
            ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
            ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        ),
        "zoom_blur": Corruption(
            "common",
            blur.zoom_blur,
            ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
            ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        ),
        "snow": Corruption(
            "common",
            weather.snow,
            (
                (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
                (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
                (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
                (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
                (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
            ),
            (
                (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
                (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
                (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
                (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
                (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
            ),
        ),
        "frost": Corruption(
            "common",
            weather.frost,
            ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
            ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        ),
        "fog": Corruption(
            "common",
            weather.fog,
            ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
            ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        ),
        "brightness": Corruption("common", pixels.brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
        "contrast": Corruption("common", pixels.contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
        "elastic_transform": Corruption(
            "common",
            blur.elastic_transform,
            ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
            tuple(
                tuple(_IMAGENET_SIDE * share for share in shares)
                for shares in (
                    (2, 0.7, 0.1),
                    (2, 0.08, 0.2),
                    (0.05, 0.01, 0.02),
                    (0.07, 0.01, 0.02),
                    (0.12, 0.01, 0.02),
                )
            ),
        ),
        "pixelate": Corruption("common", pixels.pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
        "jpeg_compression": Corruption("common", pixels.jpeg, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
        "speckle_noise": Corruption(
            "extra", pixels.speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6)
        ),
        "gaussian_blur": Corruption("extra", blur.gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
        "spatter": Corruption(
            "extra",
            weather.spatter,
            (
                (0.62, 0.1, 0.7, 0.7, 0.5, 0),
                (0.65, 0.1, 0.8, 0.7, 0.5, 0),
                (0.65, 0.3, 1, 0.69, 0.5, 0),
                (0.65, 0.1, 0.7, 0.69, 0.6, 1),
                (0.65, 0.1, 0.5, 0.68, 0.6, 1),
            ),
            (
                (0.65, 0.3, 4, 0.69, 0.6, 0),
                (0.65, 0.3, 3, 0.68, 0.6, 0),
                (0.65, 0.3, 2, 0.68, 0.5, 0),
                (0.65, 0.3, 1, 0.65, 1.5, 1),
                (0.67, 0.4, 1, 0.65, 1.5, 1),
            ),
        ),
        "saturate": Corruption(
            "extra",
            pixels.saturate,
            ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
            ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
            colour_only=True,
        ),
        "rotation": _alike(pixels.rotation, 5, 10, 15, 30, 45),  # degrees
        "jpeg_quality": _alike(pixels.jpeg, 90, 70, 50, 30, 10),
        "resize_chain": _alike(pixels.resize_chain, 0.75, 0.5, 0.35, 0.25, 0.15),  # of the side
        "crop_shift": _alike(pixels.crop_shift, 0.02, 0.05, 0.1, 0.15, 0.2),  # of the side
        "grey": _alike(pixels.grey_mix, 0.2, 0.4, 0.6, 0.8, 1.0, colour_only=True),
    }
)


def corrupt(image: NDArray[np.uint8], name: str, severity: int, *, seed: int, index: int) -> NDArray[np.uint8]:
    """`image` uint8 [H, W, C] changed by the corruption `name` at `severity` 1 to 5; the same form.

    What is random depends on (seed, index, name, severity) alone; `index` in [0, 2^32) stands for the image.
    """
    corruption = CORRUPTIONS[name]
    words = random_words(seed, severity, np.array([index]), name, 4)[0].tolist()
    chance = Generator(Philox(key=words[0] | words[1] << 32 | words[2] << 64 | words[3] << 96))
    height, width = image.shape[:2]
    changed = corruption.change(image.astype(np.float32) / 255, corruption.constant(severity, height, width), chance)
    # cut to whole levels as the published program does; the small offset keeps whole levels whole in 32 bits
    return np.asarray((np.clip(changed, 0, 1) * 255 + np.float32(1e-3)).astype(np.uint8))


def choose_corruptions(names: Sequence[str], *, channels: int) -> tuple[str, ...]:
    """The corruptions that `names` mean, in the order of the table, without those that leave images of `channels` as they are.

    A name is a corruption, a group, or 'all'. ConfigError for another.
    """
    chosen: set[str] = set()
    for name in names:
        found = [key for key, kind in CORRUPTIONS.items() if name in (key, kind.group, "all")]
        if not found:
            known = ["all", *GROUPS, *CORRUPTIONS]
            raise ConfigError(f"there is no corruption '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}.")
        chosen.update(found)
    return tuple(
        name for name, kind in CORRUPTIONS.items() if name in chosen and (channels > 1 or not kind.colour_only)
    )
