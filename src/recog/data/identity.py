"""Content hashes of samples and the fingerprint of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recog.core.errors import BadImage
from recog.core.files import canonical_json, sha256_bytes
from recog.core.hardware import num_cores
from recog.data.dataset import Dataset, Sample


def hash_samples(samples: Sequence[Sample]) -> list[str]:
    """The sha256 of every sample, in order, read by several threads."""
    with ThreadPoolExecutor(num_cores()) as pool:
        return list(pool.map(_hash, samples))


def _hash(sample: Sample) -> str:
    unreadable = f"unreadable {sample.name}"  # the decoder will name the file and the reason
    if isinstance(sample.source, Path) and not sample.source.is_file():
        return unreadable  # a pipe or device would never end
    try:
        return sample.sha256()
    except (OSError, BadImage):
        return unreadable


def fingerprint(dataset: Dataset, hashes: Mapping[str, str]) -> str:
    """A digest over (content hash, class, split) of all samples: the same for the same images in any folder or order."""
    rows = sorted([hashes[s.name], classes_of(dataset, s), s.split or ""] for s in dataset.samples)
    return "sha256:" + sha256_bytes(canonical_json(rows))


def classes_of(dataset: Dataset, sample: Sample) -> str | list[str]:
    names = [dataset.class_names[label] for label in sample.labels]
    return names if dataset.task == "multilabel" else names[0]
