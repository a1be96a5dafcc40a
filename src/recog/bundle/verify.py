"""Verifying a bundle: every hash, that the weights are finite, and the reference images answered again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from recog.bundle.manifest import Manifest, read_manifest
from recog.bundle.reference import REFERENCE, read_reference
from recog.bundle.seal import WEIGHTS, check_all_files, check_facts, check_files, read_network_config
from recog.core.errors import BundleError, DataError, one_line

_NEVER_MASKS = (".weight", ".bias", "running_mean", "running_var")
MAX_PROB_DIFFERENCE = 1e-4  # fp32 on another machine, thread count or engine


@dataclass(frozen=True, kw_only=True)
class Verification:
    num_files: int
    num_reference_images: int
    max_prob_difference: float | None  # None without reference images
    ignored: tuple[str, ...] = ()  # left in the folder by file managers, not part of the bundle


def verify_bundle(folder: Path, predict_probs: Callable[[Sequence[bytes]], NDArray[np.float64]]) -> Verification:
    """Check every hash of `folder` and that `predict_probs`, image files -> probs [N, K], answers the reference as sealed.

    Raises BundleError with what differs and by how much.
    """
    manifest = read_manifest(folder)
    ignored = check_all_files(folder, manifest)
    config = read_network_config(folder)
    check_facts(manifest, config)
    _check_weights(folder / WEIGHTS, is_own_module=config.library == "own")
    num_images, difference = check_reference(folder, manifest, predict_probs)
    return Verification(
        num_files=len(manifest.files) + 1,
        num_reference_images=num_images,
        max_prob_difference=difference,
        ignored=ignored,
    )


def check_reference(
    folder: Path,
    manifest: Manifest,
    predict_probs: Callable[[Sequence[bytes]], NDArray[np.float64]],
    *,
    max_difference: float = MAX_PROB_DIFFERENCE,
) -> tuple[int, float | None]:
    """(number of reference images, largest difference of their probs to the sealed ones); None without reference images.

    BundleError where `predict_probs` cannot answer them or differs by more than `max_difference`.
    """
    check_files(folder, manifest, (REFERENCE,))
    reference = read_reference(folder)
    if not reference.images:
        return 0, None
    if reference.probs.shape[1] != len(manifest.class_names):
        raise BundleError(
            f"{folder}: the reference has {reference.probs.shape[1]} classes, the manifest {len(manifest.class_names)}."
        )
    try:
        found = predict_probs(reference.images)
    except DataError as error:  # an image that cannot be read, or logits that are not finite
        raise BundleError(f"{folder} cannot predict its reference images: {error}") from None
    difference = compare_probs(reference.probs, found)
    if difference > max_difference:
        raise BundleError(
            f"{folder} predicts its reference images differently from when it was written: probabilities differ by up to "
            f"{difference:.2g}; at most {max_difference:g} is allowed. Do not use it on this machine."
        )
    return len(reference.images), difference


def find_broken(tensors: Iterable[tuple[str, NDArray[Any]]], *, masks: Collection[str] = ()) -> str | None:
    """What is wrong with the first of the named weights that holds NaN, infinity or a negative variance; None if none does.

    `masks` are the buffers that may be infinite, as those of attention.
    """
    for name, tensor in tensors:
        finite = ~np.isnan(tensor) if name in masks else np.isfinite(tensor)
        is_negative = tensor < 0 if name.endswith("running_var") else np.zeros_like(finite)
        bad = ~finite | is_negative
        if bad.any():
            value = tensor[bad].flat[0]
            return f"{name} holds {value:g} in {int(bad.sum()):,} of its {tensor.size:,} values"
    return None


def _check_weights(path: Path, *, is_own_module: bool) -> None:
    """BundleError where the weights cannot be read or cannot be those of a working network."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            masks = [name for name in names if is_own_module and not name.endswith(_NEVER_MASKS)]
            broken = find_broken(((name, file.get_tensor(name)) for name in names), masks=masks)
    except (OSError, TypeError, ValueError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read: {one_line(error)}.") from None
    if broken:
        raise BundleError(f"{path} is damaged: {broken}.")


def compare_probs(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """The largest |difference| of two arrays [N, K]; infinite where one is not finite."""
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf")
    return float(np.abs(expected.astype(np.float64) - found).max(initial=0.0))
