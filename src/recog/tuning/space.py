"""The space that `recog tune` searches: one table, narrowed or extended by TOML. Imports neither torch nor optuna."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from recog.core.config import build_config, config_to_dict, flatten, load_toml, merge, nearest, nest, suggest_settings
from recog.core.errors import ConfigError
from recog.core.task import Task
from recog.models.config import check_network
from recog.recipes.config import BY_STEPS, Recipe, TrainConfig, check_all_used

Value = bool | int | float | str
RECIPES: tuple[Recipe, ...] = get_args(Recipe)
TUNED = (
    "augment",
    "balance",
    "head",
    "loader",
    "loss",
    "model",
    "optim",
    "schedule",
    "stop",
)  # sections of TrainConfig
NOT_TUNED = (
    "loader.num_workers",
    "head.compare",
    "model.weights",
    "model.parent",
    "model.parent_digest",
    "stop.max_steps",
)


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One setting of a recipe and the values that it may take: `choices`, or the interval from `low` to `high`."""

    recipe: Recipe
    setting: str  # as of --set
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False  # sampled evenly over its logarithm
    times_default: bool = False  # the value is a factor on what the recipe plans
    when: tuple[str, Value] | None = None  # only where another setting of the recipe has this value

    @property
    def name(self) -> str:
        """As storages and pages call it."""
        return f"{self.recipe}/{self.setting}"

    @property
    def is_whole(self) -> bool:
        """Whether the interval is of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int) and not self.times_default

    def contains(self, value: object) -> bool:
        if self.choices:
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        if self.choices:
            values = ", ".join(_as_text(choice) for choice in self.choices)
        else:
            values = f"{self.low:g} to {self.high:g}{', log' if self.log else ''}"
        return f"{values}{' x default' if self.times_default else ''}"


def _as_text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class Space:
    """What is searched: recipes, and the dimensions of each. Without `recipes` they are chosen from the data."""

    recipes: tuple[Recipe, ...] = ()
    dimensions: tuple[Dimension, ...]

    def of(self, recipe: Recipe) -> tuple[Dimension, ...]:
        return tuple(each for each in self.dimensions if each.recipe == recipe)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: what makes two spaces the same."""
        rows = ({"name": each.name, "values": str(each), "when": each.when} for each in self.dimensions)
        return {"recipes": list(self.recipes), "dimensions": [{**row, "when": list(row["when"] or ())} for row in rows]}


def _same_for(
    recipes: Sequence[Recipe], setting: str, *choices: Value, when: tuple[str, Value] | None = None
) -> Iterator[Dimension]:
    for recipe in recipes:
        yield Dimension(recipe=recipe, setting=setting, choices=choices, when=when)


PRETRAINED_NETWORKS = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")  # packaged weights
DEFAULT = Space(
    dimensions=(
        *_same_for(("head", "finetune"), "model.name", *PRETRAINED_NETWORKS),
        *_same_for(("head",), "model.image_size", 224, 260, 288, 320),
        *_same_for(("head",), "head.layers", "multi", "last"),
        *_same_for(("head",), "head.mirror", False, True, when=("head.layers", "multi")),
        *_same_for(("head",), "head.method", "logistic", "ridge"),
        Dimension(recipe="head", setting="head.l2", low=1e-3, high=1.0, log=True, when=("head.method", "logistic")),
        Dimension(recipe="head", setting="head.ridge_l2", low=0.03, high=30.0, log=True, when=("head.method", "ridge")),
        *_same_for(("finetune",), "model.image_size", 160, 192, 224, 260),
        *_same_for(("scratch",), "model.name", "resnet8", "fastnet32", "fastnet32_wide"),
        *_same_for(("finetune",), "optim.name", "sgd", "adamw"),
        *_same_for(("scratch",), "optim.name", "sgd", "adamw", "muon"),
        *(
            Dimension(recipe=recipe, setting="optim.lr", low=0.1, high=10.0, log=True, times_default=True)
            for recipe in BY_STEPS
        ),
        *_same_for(BY_STEPS, "optim.weight_decay", 0.0, 1e-5, 1e-4, 5e-4, 5e-3, 0.01, 0.05),
        *(
            Dimension(recipe=recipe, setting="optim.epochs", choices=(0.5, 1.0), times_default=True)
            for recipe in BY_STEPS
        ),
        *_same_for(BY_STEPS, "augment.policy", "light", "standard", "strong"),
        *_same_for(BY_STEPS, "loss.label_smoothing", 0.0, 0.05, 0.1, 0.2),
        *_same_for(("finetune",), "loader.batch_size", 16, 32, 64),
        *_same_for(("scratch",), "loader.batch_size", 64, 128, 256),
    )
)
ONE_LABEL_ONLY = ("head.method", "head.ridge_l2", "loss.label_smoothing")  # of the table: not for multi-label images
_KEYS = ("low", "high", "log", "times_default", "choices", "when")


def read_space(path: Path | None, config: TrainConfig) -> Space:
    """The table, with the TOML file at `path` over it, less the settings that `config` fixes. ConfigError."""
    space = DEFAULT if path is None else _overlaid(load_toml(path), str(path))
    if config.recipe is not None:
        if space.recipes not in ((), (config.recipe,)):
            raise ConfigError(f"--recipe is {config.recipe}, but {path} searches recipes {', '.join(space.recipes)}.")
        space = replace(space, recipes=(config.recipe,))
    space = _without_fixed(space, config)
    for dimension in space.dimensions:
        _check(dimension, space)
    return space


def _overlaid(table: Mapping[str, Any], where: str) -> Space:
    recipes = table.get("recipe", [])
    recipes = [recipes] if isinstance(recipes, str) else recipes
    if not isinstance(recipes, list) or not all(recipe in RECIPES for recipe in recipes):
        raise ConfigError(f"{where}: recipe is {recipes!r}; it must list some of {', '.join(RECIPES)}.")
    found = {dimension.name: dimension for dimension in DEFAULT.dimensions}
    for recipe, section in table.items():
        if recipe == "recipe":
            continue
        if recipe not in RECIPES:
            near = nearest(recipe, RECIPES)
            raise ConfigError(f"{where}: unknown recipe '{recipe}'; its sections are {', '.join(RECIPES)}.{near}")
        if not isinstance(section, Mapping):
            raise ConfigError(f"{where}: {recipe} is {section!r}; it must be a section: [{recipe}].")
        for setting, values in _settings_in(section):
            name = f"{recipe}/{setting}"
            if values is False:
                found.pop(name, None)
            else:
                found[name] = _parse(recipe, setting, values, where)
    return Space(recipes=tuple(recipes), dimensions=tuple(found.values()))


def _settings_in(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """'optim.lr' of both "optim.lr" = {...} and of the nested tables that TOML reads optim.lr = {...} as."""
    for key, value in section.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and not set(value) & set(_KEYS):
            yield from _settings_in(value, f"{name}.")
        else:
            yield name, value


def _parse(recipe: str, setting: str, values: Any, where: str) -> Dimension:
    what = f"{where}: {recipe}, {setting}"
    known = flatten_keys()
    if setting not in known:
        meant = " or ".join(f"'{key}'" for key in suggest_settings(setting, TrainConfig))
        raise ConfigError(f"{what} is no setting.{f' Did you mean {meant}?' if meant else ''}")
    if setting.partition(".")[0] not in TUNED or setting in NOT_TUNED:
        raise ConfigError(f"{what} is not tuned; a space has settings of {', '.join(TUNED)}.")
    dimension = Dimension(recipe=next(each for each in RECIPES if each == recipe), setting=setting)
    if isinstance(values, list):
        return replace(dimension, choices=_choices(values, what))
    if not isinstance(values, Mapping) or (unknown := sorted(set(values) - set(_KEYS))):
        got = repr(values) if not isinstance(values, Mapping) else f"a table with {', '.join(unknown)}"
        raise ConfigError(f"{what} is {got}; give a list of values, false, or a table of {', '.join(_KEYS)}.")
    is_log, times_default = (bool(values.get(key, False)) for key in ("log", "times_default"))
    when = _condition(values.get("when"), what)
    dimension = replace(dimension, when=when, log=is_log, times_default=times_default)
    if "choices" in values:
        return replace(dimension, choices=_choices(values["choices"], what))
    low, high = (_number(values, key, what) for key in ("low", "high"))
    if low >= high:
        raise ConfigError(f"{what} is an empty interval: low is {low:g} and high is {high:g}.")
    if dimension.log and low <= 0:
        raise ConfigError(f"{what} has low = {low:g}; with log = true it must be above 0.")
    return replace(dimension, low=low, high=high)


def _choices(values: Any, what: str) -> tuple[Value, ...]:
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{what} has no choices; give a list of one value or more.")
    if not all(isinstance(value, (bool, int, float, str)) for value in values) or len(set(map(repr, values))) < len(
        values
    ):
        raise ConfigError(f"{what} is {values!r}; choices must be different numbers, texts, true or false.")
    return tuple(values)


def _number(values: Mapping[str, Any], key: str, what: str) -> float:
    value = values.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ConfigError(f"{what} needs numbers as low and high, or choices; {key} is {value!r}.")
    return value


def _condition(text: Any, what: str) -> tuple[str, Value] | None:
    if text is None:
        return None
    setting, equals, value = str(text).partition("=")
    if not equals:
        raise ConfigError(f"{what} has when = {text!r}; expected another setting and its value: 'optim.name=sgd'.")
    plain = {"true": True, "false": False}
    return setting.strip(), plain.get(value.strip(), value.strip())


def flatten_keys() -> frozenset[str]:
    """Every setting of TrainConfig, such as 'optim.lr'."""
    default = TrainConfig()
    sections = {name: value for name, value in vars(default).items() if hasattr(value, "__dataclass_fields__")}
    inner = {f"{name}.{key}" for name, section in sections.items() for key in vars(section)}
    return frozenset(inner | (set(vars(default)) - set(sections)))


def _without_fixed(space: Space, config: TrainConfig) -> Space:
    """Without the dimensions that `config` sets, and without those whose condition this leaves unmet."""
    given, default = flatten(config_to_dict(config)), flatten(config_to_dict(TrainConfig()))
    fixed = {key: value for key, value in given.items() if default.get(key) != value}
    kept = []
    for dimension in space.dimensions:
        if dimension.setting in fixed:
            continue
        if dimension.when is not None and dimension.when[0] in fixed:
            if fixed[dimension.when[0]] != dimension.when[1]:
                continue
            dimension = replace(dimension, when=None)
        kept.append(dimension)
    return replace(space, dimensions=tuple(kept))


def _check(dimension: Dimension, space: Space) -> None:
    """ConfigError where a value is none that the setting takes, or the recipe does not read the setting."""
    values = dimension.choices or (
        (dimension.low, dimension.high) if not dimension.is_whole else (int(dimension.low), int(dimension.high))
    )
    for value in () if dimension.times_default else values:
        chosen = build_config(
            TrainConfig,
            merge(config_to_dict(TrainConfig()), nest({dimension.setting: as_setting(dimension.setting, value)})),
        )
        check_network(chosen.model)
        check_all_used(chosen, dimension.recipe)
    if dimension.times_default:
        if dimension.setting not in SCALED or min(float(value) for value in values) <= 0:
            raise ConfigError(
                f"{dimension.setting} has times_default; it takes factors above 0 on one of {', '.join(SCALED)}."
            )
        if dimension.recipe not in BY_STEPS:
            raise ConfigError(f"recipe {dimension.recipe} does not use {dimension.setting}.")
    if dimension.when is not None:
        others = {each.setting: each for each in space.of(dimension.recipe)}
        other = others.get(dimension.when[0])
        if other is not None and not other.contains(dimension.when[1]):
            raise ConfigError(
                f"{dimension.name} is for {'='.join(map(str, dimension.when))}, which is not in the space."
            )


SCALED = ("optim.lr", "optim.epochs", "optim.weight_decay", "loader.batch_size")  # settings that times_default is for
_LISTS = ("head.l2", "head.ridge_l2")


def as_setting(setting: str, value: Value) -> Any:
    """`value` as TrainConfig takes it: a strength of a head is a list of one."""
    return [value] if setting in _LISTS else value


def suited(space: Space, *, recipes: Sequence[Recipe], task: Task, networks: Sequence[str]) -> Space:
    """`space` for the data at hand: its recipes, else `recipes`; without what several labels or small images cannot have.

    `networks` are those of recipe scratch that the images are large and many enough for; of a list that a file gives, all stay.
    """
    chosen = space.recipes or tuple(recipes)
    kept = []
    for dimension in space.dimensions:
        if dimension.recipe not in chosen:
            continue
        if _NOT_FOR[task](dimension):
            continue
        if dimension in DEFAULT.dimensions and (dimension.recipe, dimension.setting) == ("scratch", "model.name"):
            dimension = replace(dimension, choices=tuple(name for name in dimension.choices if name in networks))
            if len(dimension.choices) < 2:
                continue  # it is planned anyway
        if dimension.when is not None and _NOT_FOR[task](replace(dimension, setting=dimension.when[0])):
            dimension = replace(dimension, when=None)
        if dimension.choices or dimension.low < dimension.high:
            kept.append(dimension)
    return replace(space, recipes=chosen, dimensions=tuple(kept))


_NOT_FOR: Mapping[Task, Callable[[Dimension], bool]] = MappingProxyType(
    {"multiclass": lambda dimension: False, "multilabel": lambda dimension: dimension.setting in ONE_LABEL_ONLY}
)


def active(dimensions: Sequence[Dimension], choose: Callable[[Dimension], Value]) -> dict[str, Value]:
    """By name, what `choose` gives for each dimension whose condition holds; those that others depend on come first."""
    chosen: dict[str, Value] = {}
    settings = {dimension.setting for dimension in dimensions}
    for dimension in sorted(dimensions, key=lambda each: each.when is not None):
        if dimension.when is not None and dimension.when[0] in settings:
            other, wanted = dimension.when
            if chosen.get(f"{dimension.recipe}/{other}") != wanted:
                continue
        chosen[dimension.name] = choose(dimension)
    return chosen
