"""How strongly training images are changed: policies by name, each a row of strengths, and the config that adjusts one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Literal

from recog.core.errors import ConfigError

Policy = Literal["none", "light", "standard", "strong", "augmix"]
Geometry = Literal["warp", "crop", "translate"]
RandomOps = Literal["none", "trivial", "rand", "augmix"]


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """What is done to a training image, each in the order of the fields; 0 (min_area and max_aspect: 1) leaves it out."""

    min_area: float = 1.0  # crop: smallest part of the image's area
    max_aspect: float = 1.0  # crop: width : height from 1/this to this
    max_rotation_degrees: float = 0.0  # either way
    max_zoom: float = 0.0  # scale in 1 -/+ this
    max_shift: float = 0.0  # of the image's side, in x and y
    translate_px: int = 0  # whole pixels in x and y up to this, so that nothing is blurred; the edges are reflected
    random_ops: RandomOps = (
        "none"  # trivial: one operation of any strength; rand: two of fixed strength; augmix: chains mixed
    )
    brightness: float = 0.0  # factor in 1 -/+ this; contrast and saturation alike
    contrast: float = 0.0
    saturation: float = 0.0
    blur: float = 0.0  # Gaussian, for one image in two: sigma up to this, in px of the network's input
    noise: float = 0.0  # Gaussian: standard deviation up to this, in grey levels of 255
    erasing: float = 0.0  # probability that a box is filled with one colour
    mixup: float = 0.0  # alpha: two images blended, weight from Beta(alpha, alpha)
    cutmix: float = 0.0  # alpha: a box of another image pasted in; with both on, a coin decides per image


_WARP = Strengths(max_rotation_degrees=12.0, max_zoom=0.12, max_shift=0.1)
_CROP = Strengths(min_area=0.35, max_aspect=4 / 3)
_TRANSLATE = Strengths(translate_px=2)  # Jordan (2024), arXiv 2404.00498, section 3.1

POLICIES: Mapping[Policy, Mapping[Geometry, Strengths]] = MappingProxyType(
    {
        "none": {"warp": Strengths(), "crop": Strengths(), "translate": Strengths()},
        "light": {
            "warp": Strengths(max_rotation_degrees=5.0, max_zoom=0.05, max_shift=0.05),
            "crop": replace(_CROP, min_area=0.7),
            "translate": Strengths(translate_px=1),
        },
        "standard": {"warp": _WARP, "crop": _CROP, "translate": _TRANSLATE},
        # after torchvision's recipe of 2021: TrivialAugment, mixup 0.2, cutmix 1, erasing 0.1; milder in the crop
        "strong": {
            "warp": replace(_WARP, random_ops="trivial", erasing=0.1, mixup=0.2, cutmix=1.0),
            "crop": replace(_CROP, min_area=0.2, random_ops="trivial", erasing=0.1, mixup=0.2, cutmix=1.0),
            "translate": replace(_TRANSLATE, random_ops="trivial", erasing=0.1, mixup=0.2, cutmix=1.0),
        },
        # against corruptions, see docs/robustness.md
        "augmix": {
            "warp": replace(_WARP, random_ops="augmix"),
            "crop": replace(_CROP, random_ops="augmix"),
            "translate": replace(_TRANSLATE, random_ops="augmix"),
        },
    }
)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """`policy` and `geometry` choose a row of POLICIES; a strength that is set stands in place of the row's."""

    policy: Policy | None = None  # none, light, standard, strong or augmix; planned if None
    geometry: Geometry | None = (
        None  # warp and translate suit images of one small size, crop suits photos; planned if None
    )
    mirror: bool | None = None  # left to right, one in two, the other half in the next epoch; planned if None
    min_area: float | None = None
    max_aspect: float | None = None
    max_rotation_degrees: float | None = None
    max_zoom: float | None = None
    max_shift: float | None = None
    translate_px: int | None = None
    random_ops: RandomOps | None = None
    brightness: float | None = None
    contrast: float | None = None
    saturation: float | None = None
    blur: float | None = None
    noise: float | None = None
    erasing: float | None = None
    mixup: float | None = None
    cutmix: float | None = None

    def __post_init__(self) -> None:
        if self.min_area is not None and not 0 < self.min_area <= 1:
            raise ConfigError(f"augment.min_area is {self.min_area}; it must be above 0 and at most 1.")
        if self.max_aspect is not None and not 1 <= self.max_aspect <= 100:
            raise ConfigError(f"augment.max_aspect is {self.max_aspect}; it must be 1 or more, and at most 100.")
        for name, top in (("max_zoom", 1), ("max_shift", 1), ("brightness", 1), ("contrast", 1), ("saturation", 1)):
            value = getattr(self, name)
            if value is not None and not 0 <= value < top:
                raise ConfigError(f"augment.{name} is {value}; it must be at least 0 and below {top}.")
        limits = (
            ("max_rotation_degrees", 180),
            ("translate_px", 64),
            ("blur", 50),
            ("noise", 255),
            ("erasing", 1),
            ("mixup", 10),
            ("cutmix", 10),
        )
        for name, top in limits:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= top:
                raise ConfigError(f"augment.{name} is {value}; it must be from 0 to {top}.")

    @property
    def strengths(self) -> Strengths:
        """The policy's row with what is set laid over it. Nothing is done where no policy is planned yet."""
        row = POLICIES[self.policy or "none"][self.geometry or "warp"]
        values = {field.name: getattr(self, field.name) for field in fields(Strengths)}
        return replace(row, **{name: value for name, value in values.items() if value is not None})

    @property
    def needs_larger_images(self) -> bool:
        """Whether boxes are cut out, so that the images to cut from had better be larger than the network's input."""
        return self.policy != "none" and self.geometry == "crop"

    def filled(self) -> AugmentConfig:
        """With every strength spelt out, as run.toml holds it."""
        strengths = self.strengths
        return replace(self, **{field.name: getattr(strengths, field.name) for field in fields(Strengths)})
