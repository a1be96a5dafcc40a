"""Verifying a bundle: every hash, and the reference images answered again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recog.bundle.manifest import read_manifest
from recog.bundle.reference import read_reference
from recog.bundle.seal import check_all_files, check_facts, read_network_config
from recog.core.errors import BundleError, DataError

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
    check_facts(manifest, read_network_config(folder))
    reference = read_reference(folder)
    difference = None
    if reference.images:
        if reference.probs.shape[1] != len(manifest.class_names):
            raise BundleError(
                f"{folder}: the reference has {reference.probs.shape[1]} classes, the manifest {len(manifest.class_names)}."
            )
        try:
            found = predict_probs(reference.images)
        except DataError as error:  # an image that cannot be read, or logits that are not finite
            raise BundleError(f"{folder} does not answer its reference images: {error}") from None
        difference = compare_probs(reference.probs, found)
        if difference > MAX_PROB_DIFFERENCE:
            raise BundleError(
                f"{folder} answers its reference images differently from when it was sealed: probabilities differ by up to "
                f"{difference:.2g}; at most {MAX_PROB_DIFFERENCE:g} is allowed. Do not use it on this machine."
            )
    return Verification(
        num_files=len(manifest.files) + 1,
        num_reference_images=len(reference.images),
        max_prob_difference=difference,
        ignored=ignored,
    )


def compare_probs(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """The largest |difference| of two arrays [N, K]; infinite where one is not finite."""
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return float("inf")
    return float(np.abs(expected.astype(np.float64) - found).max(initial=0.0))
