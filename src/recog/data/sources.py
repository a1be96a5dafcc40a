"""From what the user names to a Dataset: a folder of class folders, with or without split folders, or a name such as 'digits'."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from recog.core.decode import probe
from recog.core.errors import BadImage, DataError, missing_extra
from recog.core.files import IMAGE_SUFFIXES, list_folder, natural_key, printable_name, walk_folder
from recog.data.dataset import Dataset, Exclusion, Sample

SPLIT_FOLDERS = MappingProxyType(
    {
        "train": "train",
        "training": "train",
        "val": "val",
        "valid": "val",
        "validation": "val",
        "test": "test",
        "testing": "test",
    }
)


def open_source(source: str | Path) -> Dataset:
    """The data that `source` means: an existing path before a name.

    Raises DataError where neither exists, the folder is empty, or its layout cannot be understood.
    """
    path = Path(source)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise DataError(f"{source} cannot be opened: {error.strerror}.") from None
    if is_folder:
        return read_folder(path)
    if exists:
        raise DataError(f"{source} is a file; expected a folder that holds one folder of images per class.")
    named = NAMED_SOURCES.get(str(source))
    if named is not None:
        return named()
    siblings = [p.name for p in path.absolute().parent.glob("*")] if path.absolute().parent.is_dir() else []
    near = difflib.get_close_matches(path.name, [*siblings, *NAMED_SOURCES], n=1)
    hint = f" Did you mean '{near[0]}'?" if near else f" Data by name: {', '.join(NAMED_SOURCES)}."
    raise DataError(f"there is no folder {source}.{hint}")


def read_digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 px: the UCI test set of Alpaydin and Kaynak (1998).

    Their grey levels 0..16 become 0..255, rounded. No mirroring: a mirrored 2 is no 2.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    samples = tuple(
        Sample(name=f"digits/{label}/{i:04d}", source=image, label=int(label))
        for i, (image, label) in enumerate(zip(images, digits.target, strict=True))
    )
    return Dataset(
        name="digits",
        layout="scikit-learn's handwritten digits",
        class_names=tuple(str(digit) for digit in range(10)),
        samples=samples,
        test_fraction=0.2,
        mirror=False,
    )


NAMED_SOURCES: Mapping[str, Callable[[], Dataset]] = MappingProxyType({"digits": read_digits})


def read_folder(root: Path) -> Dataset:
    """Class folders, directly in `root` or below split folders (train, val, test). Hidden entries are left out and named."""
    folders, files, hidden = list_folder(root)
    name = printable_name(root.resolve().name)
    exclusions = [Exclusion(name=_relative(p, root), reason="hidden or left behind by a tool") for p in hidden]
    exclusions += [Exclusion(name=_relative(p, root), reason="not in a class folder") for p in files]
    if not folders:
        found = f"{len(files)} files but no class folders" if files else "nothing"
        raise DataError(
            f"{root} holds {found}; expected one folder of images per class, such as {root}/cat and {root}/dog."
        )
    splits = _split_folders(root, folders)
    groups: dict[str | None, dict[str, Path]] = {}
    if splits:
        for split, folder in splits.items():
            groups[split] = _class_folders(folder, exclusions, root)
        layout = f"class folders below {', '.join(splits)}"
    else:
        groups[None] = {printable_name(folder.name): folder for folder in folders}
        layout = "class folders"
    class_names = _one_class_map(groups, name)
    samples: list[Sample] = []
    for group, classes in groups.items():
        for label, class_name in enumerate(class_names):
            if class_name in classes:
                samples += _read_class(root, classes[class_name], label, group, exclusions)
    if not samples:
        raise DataError(f"{root} holds {len(class_names)} class folders but no image in any of them.")
    return Dataset(
        name=name,
        layout=layout,
        class_names=class_names,
        samples=tuple(samples),
        exclusions=tuple(exclusions),
    )


def _split_folders(root: Path, folders: list[Path]) -> dict[str, Path] | None:
    """{split: folder} where the folders are named as splits; None where one at most is, beside others: a class called 'train'.

    Raises DataError where they are neither: read as classes, 'train' and 'test' would be what the network tells apart.
    """
    named = {f: SPLIT_FOLDERS[f.name.lower()] for f in folders if f.name.lower() in SPLIT_FOLDERS}
    others = [f.name for f in folders if f not in named]
    if others and len(set(named.values())) < 2:
        return None
    splits: dict[str, Path] = {}
    for folder, split in named.items():
        if split in splits:
            raise DataError(f"{splits[split]} and {folder} both mean the split '{split}'; keep one of them.")
        if not list_folder(folder)[0]:
            raise DataError(
                f"{folder} is a split by its name but holds no class folders, such as {folder}/cat. Sort its images into "
                "class folders, or move it elsewhere."
            )
        splits[split] = folder
    if others:
        raise DataError(
            f"{root} has the split folders {', '.join(f.name for f in named)} and beside them "
            f"{', '.join(others[:10])}, which is no split. Move it elsewhere or name it train, val or test."
        )
    return splits


def _class_folders(folder: Path, exclusions: list[Exclusion], root: Path) -> dict[str, Path]:
    folders, files, hidden = list_folder(folder)
    exclusions += [Exclusion(name=_relative(p, root), reason="hidden or left behind by a tool") for p in hidden]
    exclusions += [Exclusion(name=_relative(p, root), reason="not in a class folder") for p in files]
    return {printable_name(p.name): p for p in folders}


def _one_class_map(groups: Mapping[str | None, Mapping[str, Path]], name: str) -> tuple[str, ...]:
    """The class names in natural order; DataError with the names where the splits differ."""
    everywhere = list(dict.fromkeys(c for classes in groups.values() for c in classes))
    for split, classes in groups.items():
        missing = [c for c in everywhere if c not in classes]
        if missing:
            raise DataError(
                f"split '{split}' of {name} lacks {len(missing)} of {len(everywhere)} classes: "
                f"{', '.join(missing[:10])}. Every class must stand in every split, spelt alike: "
                "add the folders or remove those classes everywhere."
            )
    return tuple(sorted(everywhere, key=natural_key))


def _read_class(root: Path, folder: Path, label: int, split: str | None, exclusions: list[Exclusion]) -> list[Sample]:
    """Every image below a class folder, at any depth, in natural order; what is no image is excluded by name."""
    walk = walk_folder(folder)
    exclusions += [Exclusion(name=_relative(p, root), reason="hidden or left behind by a tool") for p in walk.hidden]
    exclusions += [
        Exclusion(name=_relative(p, root), reason="the same folder again, through a link") for p in walk.loops
    ]
    samples: list[Sample] = []
    for path in walk.files:
        name = _relative(path, root)
        if path.suffix.lower() in IMAGE_SUFFIXES or _opens_as_image(path):
            samples.append(Sample(name=name, source=path, label=label, split=split))
        else:
            exclusions.append(Exclusion(name=name, reason="not an image file"))
    return samples


def _opens_as_image(path: Path) -> bool:
    try:
        probe(path)
    except BadImage:
        return False
    return True


def _relative(path: Path, root: Path) -> str:
    return printable_name(path.relative_to(root).as_posix())
