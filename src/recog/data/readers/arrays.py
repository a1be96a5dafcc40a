"""Images and labels as NumPy arrays: an .npz file, or .npy files side by side. Sizes are checked first, nothing is unpickled."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import BadImage, DataError
from recog.core.files import is_hidden, natural_key, size_of_regular
from recog.core.hardware import available_memory_bytes
from recog.data.archives.members import ZipMember
from recog.data.archives.zips import is_zip, read_zip
from recog.data.dataset import SPLITS, Dataset, Exclusion
from recog.data.names import SPLIT_FOLDERS, split_of_name
from recog.data.readers.idx import known_classes
from recog.data.readers.own import read_items

Role = Literal["images", "labels", "names"]
_ROLES: dict[str, Role] = {
    **dict.fromkeys(("x", "image", "images", "img", "imgs", "data", "pixels"), "images"),
    **dict.fromkeys(("y", "label", "labels", "target", "targets"), "labels"),
    **dict.fromkeys(("classes", "names"), "names"),
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_JOINED = re.compile(r"^([xy])(?=train|val|test)", re.IGNORECASE)  # xtrain, Xtest
_NAMED = "X and y, images and labels, or X_train, y_train, X_test, y_test"
_HEADER_BYTES = 1 << 14  # NumPy itself reads at most 10,000
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, kw_only=True)
class _Array:
    """One array that is not read yet."""

    file: Path
    key: str  # in an .npz; else the file's name without suffix
    role: Role | None
    split: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_mapped: bool  # read from the file as needed; else it has to fit the memory
    read: Callable[[], NDArray[Any]]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.key} {self.dtype} [{', '.join(map(str, self.shape))}]"


def is_npz(path: Path) -> bool:
    """Whether a zip is an .npz, by its suffix or by its first member."""
    if not is_zip(path):
        return False
    with path.open("rb") as file:
        head = file.read(30)
        name = file.read(int.from_bytes(head[26:28], "little"))
    return path.suffix.lower() == ".npz" or name.endswith(b".npy")


def find_arrays(root: Path) -> list[Path]:
    """The .npz and .npy files of a folder that holds images as arrays; none where it has folders, which are classes then."""
    entries = [path for path in root.iterdir() if not is_hidden(path.name)]
    files = [path for path in entries if path.suffix.lower() in (".npz", ".npy") and path.is_file()]
    has_images = any(path.suffix.lower() == ".npz" or _role_of(path.stem) == "images" for path in files)
    if not has_images or any(path.is_dir() for path in entries):
        return []
    return sorted(files, key=lambda path: natural_key(path.name))


def read_arrays(files: Sequence[Path]) -> Dataset:
    """Images [N, H, W] or [N, H, W, C] and labels, by the names of the arrays. A lone .npy takes its labels from beside it.

    Arrays of another name are left out by name. DataError where images or labels are missing, doubled, of other lengths, or
    hold Python objects.
    """
    first = files[0]
    if len(files) == 1 and first.suffix.lower() == ".npy":
        files = _with_labels(first)
    found = [array for file in files for array in _arrays_of(file, has_others=len(files) > 1)]
    parts = {split: _pair(found, split, first) for split in _splits_of(found, first)}
    used = [array for pair in parts.values() for array in pair]
    names = next((array for array in found if array.role == "names"), None)
    _check_memory([array for array in used if not array.is_mapped])
    notes = [_describe(parts)]
    class_names = None if names is None else [str(name) for name in _texts(names.read(), names)]
    loaded: dict[Any, list[tuple[NDArray[Any], Any]]] = {}
    texts: set[str] = set()
    for split, (images, targets) in parts.items():
        pixels, note = _channels_last(images.read(), images)
        notes += note
        values = _labels_of(targets)
        known = (
            known_classes(values) if class_names is None and values.dtype.kind in "ui" and values.ndim == 1 else None
        )
        if known is not None:
            class_names = list(known[1])
            notes.append(f"the training labels are those of {known[0]}, so the classes have its names")
        texts |= set(values.tolist()) if values.dtype.kind == "U" else set()
        loaded[split] = list(zip(pixels, values, strict=True))
    class_names = sorted(texts, key=natural_key) if class_names is None and texts else class_names
    dataset = read_items(loaded.get(None, loaded), class_names=class_names)
    others = [str(array) for array in found if array not in used and array is not names]
    left_out = (Exclusion(name=name, reason="not an array of images or labels") for name in others)
    return replace(
        dataset,
        name=first.stem if len({array.file for array in used}) == 1 else first.resolve().parent.name,
        layout="NumPy arrays",
        why=f"it holds {used[0]}",
        exclusions=(*dataset.exclusions, *left_out),
        notes=(*notes, *dataset.notes),
    )


def _describe(parts: dict[str | None, tuple[_Array, _Array]]) -> str:
    return "; ".join(
        f"{f'{split}: ' if split else ''}images are {images}, labels {targets}"
        for split, (images, targets) in parts.items()
    )


def _with_labels(path: Path) -> list[Path]:
    """An .npy file of images and, beside it, that of its labels."""
    beside = [other for other in find_arrays(path.absolute().parent) if other.suffix.lower() == ".npy"]
    matching = [
        other for other in beside if _role_of(other.stem) == "labels" and _split_of(other.stem) == _split_of(path.stem)
    ]
    if _role_of(path.stem) != "images" or len(matching) != 1:
        raise DataError(
            f"{path} is one array; expected images and labels, as {_NAMED}: beside it in .npy files, or together in an .npz. "
            f"Beside it: {', '.join(other.name for other in beside if other.name != path.name) or 'no other array'}."
        )
    return [path, matching[0]]


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(_JOINED.sub(r"\1_", key))]


def _role_of(key: str) -> Role | None:
    words = [word for word in _words(key) if word not in SPLIT_FOLDERS]
    if words in (["class", "names"], ["label", "names"]):
        return "names"
    return _ROLES.get(words[0]) if len(words) == 1 else None


def _split_of(key: str) -> str | None:
    return split_of_name("_".join(_words(key)))


def _arrays_of(file: Path, *, has_others: bool) -> Iterator[_Array]:
    if file.suffix.lower() == ".npy":
        num_bytes = size_of_regular(file)
        with file.open("rb") as stream:
            shape, is_fortran, dtype, offset = _read_header(stream.read(_HEADER_BYTES), num_bytes, file.name)
        order: Literal["F", "C"] = "F" if is_fortran else "C"
        read = partial(np.memmap, file, dtype, "r", offset, shape, order)
        yield _array(file, file.stem, None, shape, dtype, is_mapped=True, read=read)
        return
    for entry in read_zip(file, refuse_documents=False):
        if entry.is_folder or not entry.name.endswith(".npy"):
            continue
        if entry.member is None:
            raise DataError(f"{entry.name} in {file} cannot be read: {entry.refusal}.")
        where = f"{entry.name} in {file.name}"
        header = _bytes_of(entry.member, file, prefix=True)
        shape, is_fortran, dtype, offset = _read_header(header, entry.member.size, where)
        read_member = partial(_read_member, entry.member, file, shape, is_fortran, dtype, offset)
        of_file = split_of_name(file.stem) if has_others else None
        yield _array(file, entry.name.removesuffix(".npy"), of_file, shape, dtype, is_mapped=False, read=read_member)


def _array(
    file: Path,
    key: str,
    split: str | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    is_mapped: bool,
    read: Callable[[], NDArray[Any]],
) -> _Array:
    role = _role_of(key)
    return _Array(
        file=file,
        key=key,
        role=role,
        split=_split_of(key) or split,
        shape=shape,
        dtype=dtype,
        is_mapped=is_mapped,
        read=read,
    )


def _bytes_of(member: ZipMember, file: Path, *, prefix: bool = False) -> bytes:
    try:
        return member.read_prefix() if prefix else member.read()
    except BadImage as error:
        raise DataError(f"{file} is damaged: {error.reason}. Save or download it again.") from None


def _read_member(
    member: ZipMember, file: Path, shape: tuple[int, ...], is_fortran: bool, dtype: np.dtype[Any], offset: int
) -> NDArray[Any]:
    flat = np.frombuffer(_bytes_of(member, file), dtype=dtype, offset=offset)
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _read_header(data: bytes, num_bytes: int, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """(shape, Fortran order, dtype, where the values begin) of an .npy of `num_bytes`, from its first bytes `data`."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, is_fortran, dtype = read(stream)
    except Exception as error:  # noqa: BLE001  NumPy parses a hostile header as Python's literals
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(
            f"{where} is no NumPy array that can be read ({reason}). Save it again with numpy.save."
        ) from None
    if dtype.hasobject or dtype.kind not in "uifbUS" or not dtype.itemsize:
        what = (
            "Python objects; to read them may run code that is hidden in them" if dtype.hasobject else str(dtype)[:80]
        )
        raise DataError(f"{where} holds {what}. Save it again as numbers, as with numpy.stack, or as texts.")
    wanted = math.prod(shape) * dtype.itemsize
    if any(side < 0 for side in shape) or stream.tell() + wanted != num_bytes:
        raise DataError(
            f"{where} declares {wanted:,} bytes of shape {shape} but has {num_bytes - stream.tell():,}. Save it again."
        )
    return shape, is_fortran, dtype, stream.tell()


def _splits_of(found: Sequence[_Array], where: Path) -> list[str | None]:
    splits = {array.split for array in found if array.role in ("images", "labels")}
    if not splits:
        listed = ", ".join(map(str, found[:10])) or "nothing"
        raise DataError(f"{where} holds {listed}; expected arrays named {_NAMED}.")
    if None in splits and len(splits) > 1:
        named = ", ".join(array.key for array in found if array.role is not None)
        raise DataError(
            f"{where} holds {named}: name all arrays for a split (X_train, y_train, X_test, y_test) or none."
        )
    return [None] if None in splits else [split for split in SPLITS if split in splits]


def _pair(found: Sequence[_Array], split: str | None, where: Path) -> tuple[_Array, _Array]:
    """The images and labels of a split."""
    pair = []
    for role in ("images", "labels"):
        of_role = [array for array in found if (array.role, array.split) == (role, split)]
        if len(of_role) != 1:
            named = f" of {split}" if split else ""
            listed = ", ".join(map(str, found[:10]))
            problem = f"two arrays of {role}{named}" if of_role else f"no array of {role}{named}"
            raise DataError(f"{where} has {problem}; it holds {listed}. Expected {_NAMED}.")
        pair += of_role
    images, labels = pair
    if not images.shape or not labels.shape or images.shape[0] != labels.shape[0] or not math.prod(images.shape):
        raise DataError(f"{where} has {images} and {labels}; expected one label for each image, and an image at least.")
    return images, labels


def _check_memory(arrays: Sequence[_Array]) -> None:
    num_bytes, free = sum(array.num_bytes for array in arrays), available_memory_bytes()
    if num_bytes > free // 2:
        raise DataError(
            f"{', '.join(array.key for array in arrays)} take {num_bytes:,} bytes of memory, and {free:,} are free; at most "
            "half of them are used. Save each array as an .npy file, which is read as needed."
        )


def _channels_last(images: NDArray[Any], array: _Array) -> tuple[NDArray[Any], list[str]]:
    """[N, H, W] or [N, H, W, C], from [N, C, H, W] too, with a note then."""
    if images.ndim == 4 and images.shape[3] not in _CHANNELS and images.shape[1] in _CHANNELS:
        return images.transpose(0, 2, 3, 1), [f"{array.key} has its channels first; they were moved to the end"]
    if images.ndim in (3, 4):
        return images, []
    hint = " Give each row its shape: X.reshape(-1, H, W)." if images.ndim == 2 else ""
    raise DataError(f"{array} in {array.file.name}: expected images of shape [N, H, W] or [N, H, W, C].{hint}")


def _labels_of(array: _Array) -> NDArray[Any]:
    """[N], or [N, K] of several labels an image."""
    values = array.read()
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    return _texts(values, array) if values.dtype.kind == "S" else values


def _texts(values: NDArray[Any], array: _Array) -> NDArray[Any]:
    try:
        return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values
    except UnicodeDecodeError:
        raise DataError(f"{array} in {array.file.name} holds text that is not UTF-8.") from None
