"""A reader of MNIST's idx files, gzipped or not: any folder with train and test images and labels, whatever they show."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError
from recog.data.archives.members import DEFAULT_LIMITS, check_totals
from recog.data.dataset import Dataset, Sample

_NAME = re.compile(r"^(?:.*-)?(train|t10k|test)-(images|labels)[.-]idx[13]-ubyte(\.gz)?$", re.IGNORECASE)
_UBYTE = 0x08
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_KNOWN_LABELS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {  # MD5 of the training labels, as an idx file that is not packed: (data set, its class names)
        "a25bea736e30d166cdddb491f175f624": ("MNIST", tuple("0123456789")),
        "9018921c3c673c538a1fc5bad174d6f9": ("Fashion-MNIST", FASHION_CLASSES),
    }
)
_MAX_BYTES = 4 << 30

IdxFiles = Mapping[tuple[str, str], Path]
"""{(split, 'images' or 'labels'): file}"""


def find_idx(root: Path) -> IdxFiles | None:
    """The idx files directly in `root`; None where there are no train images. DataError where labels or twins are in doubt."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(root.iterdir()):
        match = _NAME.match(path.name)
        if match is None or not path.is_file():
            continue
        key = ("train" if match[1].lower() == "train" else "test", match[2].lower())
        if key in found and found[key].name.removesuffix(".gz") != path.name.removesuffix(".gz"):
            raise DataError(
                f"{root} holds two sets of idx files ({found[key].name} and {path.name}); keep one in a folder."
            )
        found.setdefault(key, path)
    if ("train", "images") not in found:
        return None
    for split, what in list(found):
        other = "labels" if what == "images" else "images"
        if (split, other) not in found:
            raise DataError(f"{root} holds {found[split, what].name} but not the {other} that belong to it.")
    return found


def read_idx(files: IdxFiles, *, name: str, class_names: Sequence[str] | None = None) -> Dataset:
    """Images uint8 [H, W] of train and test.

    Classes are `class_names`, else those of MNIST or Fashion-MNIST where the training labels are theirs, else the numbers.
    """
    splits = [split for split in ("train", "test") if (split, "images") in files]
    arrays = {split: _read_pair(files[split, "images"], files[split, "labels"]) for split in splits}
    num_classes = 1 + max(int(labels.max()) for _, labels in arrays.values())
    notes: tuple[str, ...] = ()
    known = known_classes(arrays["train"][1])
    if known is not None and not class_names:
        notes, class_names = (f"the training labels are those of {known[0]}, so the classes have its names",), known[1]
    names = tuple(class_names) if class_names else tuple(str(number) for number in range(num_classes))
    if num_classes > len(names):
        raise DataError(f"{name} has the label {num_classes - 1}, but there are names for {len(names)} classes.")
    samples = tuple(
        Sample(name=f"{split}/{label}/{i:05d}", source=image, labels=(int(label),), split=split)
        for split, (images, labels) in arrays.items()
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    )
    return Dataset(
        name=name,
        layout="idx files as MNIST has them",
        why=f"it holds {files['train', 'images'].name}",
        class_names=names,
        samples=samples,
        notes=notes,
    )


def known_classes(labels: NDArray[np.integer[Any]]) -> tuple[str, tuple[str, ...]] | None:
    """(data set, class names) where `labels` [N] are the training labels of a data set whose class names are known."""
    head = bytes([0, 0, _UBYTE, 1]) + len(labels).to_bytes(4, "big")
    digest = hashlib.md5(head + labels.astype(np.uint8).tobytes(), usedforsecurity=False).hexdigest()
    return _KNOWN_LABELS.get(digest)


def _read_pair(images_file: Path, labels_file: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images, labels = read_idx_array(images_file, num_axes=3), read_idx_array(labels_file, num_axes=1)
    if len(images) != len(labels):
        raise DataError(f"{images_file.name} has {len(images)} images but {labels_file.name} has {len(labels)} labels.")
    if not len(images) or not images[0].size:
        raise DataError(f"{images_file} holds no image.")
    return images, labels


def read_idx_array(path: Path, *, num_axes: int) -> NDArray[np.uint8]:
    """The array uint8 of an idx file, whose header must fit its length. DataError where it does not."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * num_axes)
            if len(header) < 4 + 4 * num_axes or header[:4] != bytes([0, 0, _UBYTE, num_axes]):
                raise DataError(
                    f"{path} begins with {header[:4].hex(' ')}; an idx file of bytes with {num_axes} axes begins with "
                    f"00 00 08 {num_axes:02x}. Download it again."
                )
            shape = tuple(int.from_bytes(header[4 + 4 * i : 8 + 4 * i], "big") for i in range(num_axes))
            wanted = int(np.prod(np.array(shape, dtype=object)))
            if wanted > _MAX_BYTES:
                raise DataError(f"{path} declares {wanted:,} bytes; at most {_MAX_BYTES:,} are read.")
            packed = path.stat().st_size
            check_totals(path, count=0, total=wanted, held=0, packed_bytes=packed, limits=DEFAULT_LIMITS)
            data = file.read(wanted + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Download it again.") from None
    if len(data) != wanted:
        more = "more" if len(data) > wanted else f"{len(data):,}"
        raise DataError(f"{path} declares {wanted:,} bytes of shape {shape} but has {more}. Download it again.")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
