"""Checkpoints of a run: each is whole or absent, whatever happens while it is written, and none is loaded unverified.

One checkpoint is two files, named after its cursor: the tensors (safetensors), then a manifest (JSON) with their sha256. It
exists only if its manifest verifies. Nothing here is executable, so a stranger's checkpoint can do no more than be refused.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from recog.core.errors import CheckpointError, DiskError, TrainingError
from recog.core.files import canonical_json, pretty_json, sha256_bytes, size_of_regular, write_bytes_atomic
from recog.core.records import convert_record, decode_object, read_bytes
from recog.core.version import __version__
from recog.training.config import CheckpointConfig

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
RETRY_PAUSES_S = (0.1, 0.5, 2.0)  # a network file system that stutters must not cost the run
EPOCH_S = 2.0  # a shorter epoch is not worth the 30 ms that flushing its checkpoint to disk takes
_MAX_MANIFEST_BYTES = 64 << 20
_MAX_INT = 10**4000  # Python reads no longer ones
_NAME = re.compile(r"epoch-(\d{5,})-step-(\d{7,})\.json")

Cursor = tuple[int, int]  # (epoch, step) of the next step to take


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A checkpoint that was not loaded, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A checkpoint that verified, and the newer ones that did not."""

    path: Path
    epoch: int
    step: int
    state: Any
    versions: Mapping[str, str]  # that wrote it
    skipped: tuple[Skipped, ...]


class Checkpoints:
    """The checkpoints in `folder` of the run that `facts` describe: JSON, such as its config and its data's fingerprint.

    A checkpoint of other facts is refused, as its weights would go on under settings that did not make them.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], config: CheckpointConfig) -> None:
        self._folder = folder
        self._facts = json.loads(canonical_json(facts))  # as it will be read back: lists for tuples
        self._config = config
        self._saved_at = time.monotonic()

    @property
    def run(self) -> Path:
        """The run's folder, which holds that of its checkpoints."""
        return self._folder.parent

    def is_due(self, num_steps_done: int, *, epoch_ended: bool = False) -> bool:
        """Whether the caller, between two steps, should save now."""
        steps = self._config.every_steps
        if steps is not None and num_steps_done % steps == 0:
            return True
        age = time.monotonic() - self._saved_at
        return age >= (min(EPOCH_S, self._config.every_s) if epoch_ended else self._config.every_s)

    def save(self, state: Any, *, epoch: int, step: int) -> None:
        """Write `state`, as `flatten_state` takes it, under the cursor (epoch, step); then drop what is not among the newest.

        TrainingError where a tensor is not finite, DiskError where writing fails for good; either leaves the others intact.
        """
        tensors, values = flatten_state(state)
        bad = _first_not_finite(tensors, values)
        if bad is not None:
            raise TrainingError(
                f"'{bad}' is not finite at epoch {epoch + 1}, step {step}, so no checkpoint was written; those in "
                f"{self._folder} are as they were. A lower learning rate usually helps: --set optim.lr=..."
            )
        stem = f"epoch-{epoch:05d}-step-{step:07d}"
        data = save(tensors)
        manifest = {
            "format_version": FORMAT_VERSION,
            "epoch": epoch,
            "step": step,
            "file": f"{stem}.safetensors",
            "size": len(data),
            "sha256": sha256_bytes(data),
            "versions": _versions(),
            "facts": self._facts,
            "values": values,
        }
        manifest["digest"] = sha256_bytes(canonical_json(manifest))
        self._write(self._folder / f"{stem}.safetensors", data)
        self._write(self._folder / f"{stem}.json", pretty_json(manifest))
        self._prune((epoch, step))
        self._saved_at = time.monotonic()

    def load_newest(self) -> Loaded | None:
        """The newest checkpoint that verifies; None where none was finished, CheckpointError where all are damaged.

        What a killed process left half-written or half-removed goes: temporary files, and tensors without a manifest.
        """
        for path in (*self._folder.glob("*.tmp-*"), *self._folder.glob("*.safetensors")):
            if path.suffix != ".safetensors" or not path.with_suffix(".json").exists():
                with contextlib.suppress(OSError):  # a folder of such a name does no harm
                    path.unlink(missing_ok=True)
        skipped: list[Skipped] = []
        for _, path in self._manifests():
            try:
                return self._read(path, tuple(skipped))
            except _Unusable as error:
                skipped.append(Skipped(path=path, reason=str(error)))
        if not skipped:
            return None
        reasons = "\n".join(f"  {skip}" for skip in skipped)
        raise CheckpointError(
            f"no checkpoint of {self.run} can be used:\n{reasons}\n  To train again from the first step: "
            f"recog train --config {self.run / 'run.toml'}"
        )

    def remove(self) -> None:
        """Remove the folder and all checkpoints in it."""
        shutil.rmtree(self._folder, ignore_errors=True)  # which leaves a link alone

    def _manifests(self) -> list[tuple[Cursor, Path]]:
        """Newest first."""
        named = [(_NAME.fullmatch(path.name), path) for path in self._folder.glob("*.json")]
        return sorted(((int(m[1]), int(m[2])), path) for m, path in named if m)[::-1]

    def _write(self, path: Path, data: bytes) -> None:
        for pause in (*RETRY_PAUSES_S, None):
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                write_bytes_atomic(path, data)
            except OSError as error:
                if pause is None:
                    raise DiskError(
                        f"the checkpoint {path} ({len(data):,} bytes) cannot be written: {error.strerror}. The ones before "
                        f"it are intact. Free space, then: recog train --resume {self.run}"
                    ) from None
                logger.warning("warning: writing %s failed (%s); again in %s s", path, error.strerror, pause)
                time.sleep(pause)
            else:
                return

    def _prune(self, newest: Cursor) -> None:
        """Keep the newest, counted from the one just written: a later one was skipped on loading, and is of no use."""
        kept = [path for cursor, path in self._manifests() if cursor <= newest][: self._config.keep]
        names = {path.with_suffix(suffix).name for path in kept for suffix in (".json", ".safetensors")}
        # a manifest goes before its tensors, so that at no time it speaks of a file that is gone
        for path in sorted(self._folder.iterdir(), key=lambda path: (path.suffix != ".json", path.name)):
            if path.name not in names:
                try:
                    path.unlink()
                except OSError as error:
                    logger.warning("warning: the old checkpoint %s cannot be removed: %s", path, error.strerror)

    def _read(self, path: Path, skipped: tuple[Skipped, ...]) -> Loaded:
        manifest = _read_manifest(path)
        cursor = (manifest.epoch, manifest.step)
        name = _NAME.fullmatch(path.name)
        if name is None or cursor != (int(name[1]), int(name[2])):
            raise _Unusable(f"belongs to another checkpoint: epoch {cursor[0]}, step {cursor[1]}")
        changes = list(_differences(manifest.facts, self._facts))
        if changes:
            raise _Unusable(f"belongs to other settings: {'; '.join(changes[:5])}")
        tensors = _read_tensors(path.with_suffix(".safetensors"), manifest)
        try:
            state = unflatten_state(tensors, manifest.values)
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise _Unusable(f"names tensors that its file does not hold: {error}") from None
        return Loaded(
            path=path, epoch=cursor[0], step=cursor[1], state=state, versions=manifest.versions, skipped=skipped
        )


class _Unusable(Exception):  # noqa: N818  caught here, where it becomes the reason of a Skipped
    """Why a checkpoint is not loaded, as the rest of a sentence that begins with its path."""


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    """The JSON file of a checkpoint, but for its digest."""

    format_version: int
    epoch: int
    step: int
    file: str
    size: int
    sha256: str
    versions: Mapping[str, str]
    facts: Mapping[str, Any]
    values: Any


def _read_manifest(path: Path) -> _Manifest:
    where = "the manifest"
    try:
        data = read_bytes(path, max_bytes=_MAX_MANIFEST_BYTES, error=CheckpointError)
        # what is written is whatever torch's optimisers and the settings hold, so whole numbers are not bounded by 64 bits
        table = decode_object(data, where=where, error=CheckpointError, max_int=_MAX_INT)
        version = table.get("format_version")
        if isinstance(version, int) and not 1 <= version <= FORMAT_VERSION:
            raise _Unusable(
                f"has format_version {version}, and this release reads 1 to {FORMAT_VERSION}; install the recog that wrote it"
            )
        manifest = convert_record(table, _Manifest, where=where, error=CheckpointError)
    except CheckpointError as error:
        raise _Unusable(f"is damaged: {str(error).rstrip('.')}") from None
    as_written = pretty_json(table)
    digest = table.pop("digest", None)
    if as_written != data or sha256_bytes(canonical_json(table)) != digest:
        raise _Unusable("is damaged: its digest differs")
    return manifest


def _read_tensors(path: Path, manifest: _Manifest) -> Tensors:
    if manifest.file != path.name:
        raise _Unusable(f"names {manifest.file}, not {path.name}")
    try:
        size = size_of_regular(path, error=CheckpointError)
        if size != manifest.size:
            raise _Unusable(f"lacks its tensors: {path.name} has {size:,} bytes instead of {manifest.size:,}")
        data = read_bytes(path, max_bytes=size, error=CheckpointError)
    except CheckpointError as error:
        raise _Unusable(f"lacks its tensors: {str(error).rstrip('.')}") from None
    if sha256_bytes(data) != manifest.sha256:
        raise _Unusable(f"lacks its tensors: {path.name} is not the file that was saved (its sha256 differs)")
    try:
        tensors: Tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise _Unusable(f"lacks its tensors: {path.name} is damaged: {error}") from None
    bad = _first_not_finite(tensors, None)
    if bad is not None:
        raise _Unusable(f"holds '{bad}', which is not finite")
    return tensors


def _first_not_finite(tensors: Tensors, values: Any) -> str | None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return _first_bad_number(values, "")


def _first_bad_number(values: Any, path: str) -> str | None:
    if isinstance(values, float) and not math.isfinite(values):
        return path
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    return next(filter(None, (_first_bad_number(item, f"{path}/{key}".lstrip("/")) for key, item in items)), None)


def _versions() -> dict[str, str]:
    return {
        "recog": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def describe_versions(loaded: Loaded) -> str | None:
    """What is another version now than when the checkpoint was written, or None: then only the weights' bytes may differ."""
    changes = list(_differences(loaded.versions, _versions()))
    return "; ".join(changes) if changes else None


def _differences(was: Any, now: Any, where: str = "") -> Iterator[str]:
    """'optim.lr was 0.1 and is 0.05 now' for each leaf of two JSON values that differs."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in sorted({*was, *now}):
            yield from _differences(was.get(key), now.get(key), f"{where}.{key}".lstrip("."))
    elif was != now:
        yield f"{where} was {was!r} and is {now!r} now"


Tensors = dict[str, torch.Tensor]


def flatten_state(state: Any) -> tuple[Tensors, Any]:
    """(tensors by path, JSON) of dicts with text or whole-number keys, lists, tuples, tensors, numbers, text and None.

    `unflatten_state` gives the same back: types, key types and memory layout too, as a channels-last momentum that came back
    contiguous would be another input to whatever sums over it. Tensors are detached copies on the CPU.
    """
    tensors: Tensors = {}
    return tensors, _flatten(state, "", tensors)


def _flatten(value: Any, path: str, tensors: Tensors) -> Any:
    if isinstance(value, torch.Tensor):
        name = path or "tensor"
        plain = value.detach()
        tensors[name] = plain.to("cpu", copy=True).contiguous()
        return {"tensor": name} if plain.is_contiguous() else {"tensor": name, "strides": list(plain.stride())}
    if isinstance(value, Mapping):
        kinds = {type(key) for key in value}
        if kinds - {str} and kinds - {int}:
            raise TypeError(f"the state at '{path}' has keys of {kinds}; they must be all text or all whole numbers.")
        return {
            "ints" if kinds == {int} else "table": {
                str(key): _flatten(item, f"{path}/{key}".lstrip("/"), tensors) for key, item in value.items()
            }
        }
    if isinstance(value, (list, tuple)):
        items = [_flatten(item, f"{path}/{number}".lstrip("/"), tensors) for number, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"the state at '{path}' holds {type(value).__name__}, which a checkpoint cannot keep.")


def unflatten_state(tensors: Mapping[str, torch.Tensor], values: Any) -> Any:
    """The state that `flatten_state` took apart. ValueError or KeyError where the two do not belong together."""
    if isinstance(values, list):
        return [unflatten_state(tensors, item) for item in values]
    if not isinstance(values, dict):
        return values
    match list(values):
        case ["tensor"]:
            return tensors[values["tensor"]]
        case ["tensor", "strides"]:
            return _with_strides(tensors[values["tensor"]], values["strides"])
        case ["ints"]:
            return {int(key): unflatten_state(tensors, item) for key, item in values["ints"].items()}
        case ["table"]:
            return {key: unflatten_state(tensors, item) for key, item in values["table"].items()}
        case ["tuple"]:
            return tuple(unflatten_state(tensors, item) for item in values["tuple"])
    raise ValueError(f"unknown entry {list(values)[:3]}")


def _with_strides(tensor: torch.Tensor, strides: list[int]) -> torch.Tensor:
    """`tensor` laid out with `strides` where these order its elements another way; expanded or gapped ones stay contiguous."""
    laid_out = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype)
    dense = laid_out.untyped_storage().nbytes() == tensor.nbytes
    return laid_out.copy_(tensor) if dense else tensor
