"""TOML to frozen dataclasses and back. Components own their config; this module only fills and checks it."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from recog.core.errors import ConfigError
from recog.core.records import MAX_DEPTH, check_values, read_bytes
from recog.core.text import escape_toml

T = TypeVar("T")

MAX_TOML_BYTES = 1 << 20


VALUES_ELSEWHERE: Mapping[str, str] = types.MappingProxyType(
    {
        **dict.fromkeys(("ce", "xent", "softmax", "logloss", "categoricalcrossentropy"), "cross-entropy"),
        **dict.fromkeys(("binarycrossentropy", "bcewithlogits", "sigmoid"), "bce"),
        **dict.fromkeys(("gpu", "cuda0", "nvidia"), "cuda"),
        **dict.fromkeys(("fp32", "32", "full"), "float32"),
        **dict.fromkeys(("bf16", "amp"), "bfloat16"),
        **dict.fromkeys(("fp16", "16", "half"), "float16"),
        **dict.fromkeys(("finetuning", "transfer", "transferlearning"), "finetune"),
        **dict.fromkeys(("linear", "linearprobe", "probe", "frozen", "featureextraction"), "head"),
        **dict.fromkeys(("onecyclelr",), "one-cycle"),
        **dict.fromkeys(("cos", "cosineannealing", "cosineannealinglr"), "cosine"),
        **dict.fromkeys(("multistep", "steplr", "multisteplr"), "step"),
        **dict.fromkeys(("fixed", "const"), "constant"),
        **dict.fromkeys(("weighted", "classweights", "balanced"), "weights"),
        **dict.fromkeys(("oversample", "oversampling", "weightedsampler"), "sampler"),
        **dict.fromkeys(("acc", "valacc", "top1"), "val_accuracy"),
        **dict.fromkeys(("valloss",), "val_nll"),
    }
)
"""What other tools call a value, without case and punctuation: our name for it."""

SETTINGS_ELSEWHERE: Mapping[str, str] = types.MappingProxyType(
    {
        **dict.fromkeys(
            ("imgsz", "imgsize", "imagesize", "inputsize", "resolution", "size", "imsize"), "model.image_size"
        ),
        **dict.fromkeys(("epoch", "numepochs", "nepochs", "maxepochs"), "optim.epochs"),
        **dict.fromkeys(("learningrate", "lr0", "baselr", "maxlr"), "optim.lr"),
        **dict.fromkeys(("optimizer", "optimiser", "opt"), "optim.name"),
        **dict.fromkeys(("wd", "decay"), "optim.weight_decay"),
        **dict.fromkeys(("gradclip", "clipgrad", "clipgradnorm", "gradientclipval"), "optim.max_grad_norm"),
        **dict.fromkeys(("accumulategradbatches", "gradaccumsteps", "gradientaccumulationsteps"), "optim.accumulation"),
        **dict.fromkeys(("freeze",), "optim.freeze_layers"),
        **dict.fromkeys(("batch", "bs"), "loader.batch_size"),
        **dict.fromkeys(("workers", "numworkers"), "loader.num_workers"),
        **dict.fromkeys(("model", "arch", "architecture", "backbone", "network", "net"), "model.name"),
        **dict.fromkeys(("pretrained", "checkpoint", "ckpt"), "model.weights"),
        **dict.fromkeys(("dropout",), "model.drop_rate"),
        **dict.fromkeys(("droppath", "stochasticdepth"), "model.drop_path_rate"),
        **dict.fromkeys(("scheduler", "schedule", "lrscheduler", "sched"), "schedule.name"),
        **dict.fromkeys(("warmup",), "schedule.warmup_fraction"),
        **dict.fromkeys(("loss", "criterion"), "loss.name"),
        **dict.fromkeys(("smoothing",), "loss.label_smoothing"),
        **dict.fromkeys(("earlystopping", "earlystop"), "stop.patience"),
        **dict.fromkeys(("gpu", "gpus", "cuda", "accelerator"), "compute.device"),
        **dict.fromkeys(("amp", "fp16", "bf16", "dtype"), "compute.precision"),
        **dict.fromkeys(("aug", "aa", "autoaugment", "augmentation"), "augment.policy"),
        **dict.fromkeys(("flip", "fliplr", "hflip"), "augment.mirror"),
        **dict.fromkeys(("degrees", "rotation"), "augment.max_rotation_degrees"),
        **dict.fromkeys(("valsplit", "validationsplit", "valratio"), "split.val_fraction"),
        **dict.fromkeys(("testsplit", "testratio"), "split.test_fraction"),
    }
)
"""What other tools call a setting, without case and punctuation: its whole key here."""

_FRACTION = re.compile(r"(\d+(?:\.\d+)?)/([1-9]\d*)")
_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", tuple: "a list"}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' Did you mean X?' for the nearest known word, or the whole short list where none is near."""
    choices = list(known)
    return nearest(word, choices) or (f" Known: {', '.join(choices)}." if len(choices) <= 30 else "")


def nearest(word: str, choices: Iterable[str]) -> str:
    """' Did you mean X?' for the word that is meant, for messages that list the choices; nothing where none is near."""
    known = list(choices)
    plain = _plain(word)
    same = [choice for choice in known if plain and (_plain(choice) == plain or choice == VALUES_ELSEWHERE.get(plain))]
    near = same or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def suggest_settings(name: str, cls: type) -> list[str]:
    """The whole keys of `cls`, such as 'optim.epochs', that the unknown setting `name` may mean; the likeliest alone, if any."""
    keys = list(_keys(cls))
    section, _, leaf = name.rpartition(".")
    leaves = [key.rpartition(".")[2] for key in keys]
    elsewhere = SETTINGS_ELSEWHERE.get(_plain(leaf))
    if elsewhere in keys:
        return [str(elsewhere)]
    same = [key for key, own in zip(keys, leaves, strict=True) if _plain(own) == _plain(leaf)]
    inside = [own for key, own in zip(keys, leaves, strict=True) if key.rpartition(".")[0] == section]
    near = difflib.get_close_matches(leaf, inside, n=1) or difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.75)
    if same or not near:
        return same[:3]
    return [f"{section}.{near[0]}".lstrip(".")] if near[0] in inside else [keys[leaves.index(near[0])]]


def _keys(cls: type, prefix: str = "") -> Iterator[str]:
    """The whole keys of the settings of `cls`, those of nested dataclasses too."""
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            yield from _keys(typing.cast(type, hint), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _plain(word: str) -> str:
    return "".join(c for c in word.lower() if c.isalnum())


def build_config(cls: type[T], table: Mapping[str, Any], where: str = "", *, root: type | None = None) -> T:
    """Fill the dataclass `cls` from a TOML table; unknown keys and wrong types are ConfigErrors that name the key.

    `cls` stands at `where` in `root`, whose keys are suggested.
    """
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        full = f"{where}{key}"
        if key not in names:
            raise _unknown(full, value, [f"{where}{name}" for name in names], root or cls)
        values[key] = _convert(hints[key], value, full, root or cls)
    return cls(**values)


def _unknown(name: str, value: Any, known: list[str], root: type) -> ConfigError:
    while isinstance(value, Mapping) and len(value) == 1:  # of 'optimizer.lr=1': the whole key
        key, value = next(iter(value.items()))
        name = f"{name}.{key}"
    meant = " or ".join(f"'{key}'" for key in suggest_settings(name, root))
    hint = f"Did you mean {meant}?" if meant else f"Known: {', '.join(known)}."
    return ConfigError(f"unknown setting '{name}'. {hint}")


def _convert(hint: Any, value: Any, where: str, root: type) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, Mapping):
            return build_config(typing.cast(type, hint), value, f"{where}.", root=root)
        names = ", ".join(f"{where}.{field.name}" for field in dataclasses.fields(hint))
        raise ConfigError(f"{where} is {value!r}; it is a group of settings: {names}.")
    if origin in (types.UnionType, typing.Union):
        kinds = [arg for arg in args if arg is not type(None)]
        return None if value is None else _convert(kinds[0], value, where, root)
    if origin is typing.Literal:
        if value in args:
            return value
        near = nearest(str(value), [str(a) for a in args])
        raise ConfigError(f"{where} is {value!r}; it must be one of {', '.join(map(str, args))}.{near}")
    if origin is Mapping and isinstance(value, Mapping):
        return {key: _convert(args[1], item, f"{where}.{key}", root) for key, item in _flat(value)}
    value = _as_meant(hint, value)
    if origin is tuple and isinstance(value, (list, tuple)):
        return _convert_tuple(args, value, where, root)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    kind = "a whole number, or a list of two" if args == (int, int) else _KINDS.get(origin or hint, str(hint))
    raise ConfigError(f"{where} is {value!r}; it must be {kind}.")


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a table of values whose own keys may have dots, which TOML and --set read as tables in it."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _as_meant(hint: Any, value: Any) -> Any:
    """A value as people write it, as the type `hint`: 1 for 1.0, '8/255', 64 for (64, 64), 'a,b' for ('a', 'b'), a Path."""
    args, is_number = typing.get_args(hint), isinstance(value, int) and not isinstance(value, bool)
    if is_number and hint is float:
        return float(value)
    if hint is float and isinstance(value, str) and (parts := _FRACTION.fullmatch(value)):
        return float(parts[1]) / float(parts[2])
    if is_number and args == (int, int):
        return value, value  # of height and width
    if isinstance(value, str) and args == (str, Ellipsis):
        return [word.strip() for word in value.split(",") if word.strip()]
    return os.fspath(value) if hint is str and isinstance(value, os.PathLike) else value


def _convert_tuple(
    args: tuple[Any, ...], value: list[Any] | tuple[Any, ...], where: str, root: type
) -> tuple[Any, ...]:
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise ConfigError(f"{where} has {len(value)} values; it must have {len(args)}.")
    return tuple(
        _convert(arg, item, f"{where}[{i}]", root) for i, (arg, item) in enumerate(zip(args, value, strict=True))
    )


def config_to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain TOML types: nested tables, lists; fields that are None are left out, as TOML has no null."""
    table: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            table[field.name] = config_to_dict(value)
        elif isinstance(value, Mapping):
            table |= {field.name: dict(value)} if value else {}
        elif value is not None:
            table[field.name] = list(value) if isinstance(value, tuple) else value
    return table


def load_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file: a regular file of UTF-8 text, not a link, at most 1 MiB. ConfigError."""
    if not os.path.lexists(path):
        raise ConfigError(f"there is no config file {path}.")
    data = read_bytes(path, max_bytes=MAX_TOML_BYTES, error=ConfigError)
    try:
        table = tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested more than {MAX_DEPTH} levels deep.") from None
    check_values(table, where=str(path), error=ConfigError, finite=False)  # TOML has inf, which settings may mean
    return table


def dump_toml(table: Mapping[str, Any]) -> str:
    return escape_toml(tomli_w.dumps(table))


def override(table: Mapping[str, Any], settings: Iterable[str], *, option: str = "--set") -> dict[str, Any]:
    """`table` with `settings` such as 'optim.lr=0.05' laid over it; values are TOML, and a bare word is a string."""
    merged = merge(table, {})
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            example = "optim.lr=0.05" if option == "--set" else "max_images=32"
            raise ConfigError(f"{option} takes NAME=VALUE, such as {example}; it got '{setting}'.")
        merged = merge(merged, nest({name.strip(): _toml_value(text.strip())}))
    return merged


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The table that settings such as {'optim.lr': 0.05} make: {'optim': {'lr': 0.05}}."""
    table: dict[str, Any] = {}
    for name, value in settings.items():
        nested = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        table = merge(table, nested)
    return table


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """The reverse of `nest`: {'optim': {'lr': 0.05}} as {'optim.lr': 0.05}; values that are no plain ones as text."""
    flat: dict[str, bool | int | float | str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables, `above` winning, tables within tables merged alike; neither is changed."""
    merged = {key: merge(value, {}) if isinstance(value, Mapping) else value for key, value in below.items()}
    for key, value in above.items():
        if isinstance(value, Mapping):
            inner = merged.get(key)
            merged[key] = merge(inner if isinstance(inner, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
