"""Data by name. torchvision locates and downloads them; what is downloaded is read here, and nothing is unpickled."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from recog.core.errors import DataError, missing_extra
from recog.core.files import cache_folder
from recog.data.archives.tars import read_tar
from recog.data.dataset import Dataset, Sample
from recog.data.readers.folders import read_folder
from recog.data.readers.idx import FASHION_CLASSES, find_idx, read_idx


@dataclass(frozen=True, kw_only=True)
class _Cifar:
    """The binary version's archive: torchvision offers the pickled one only, which is not opened here."""

    url: str
    md5: str
    folder: str
    num_label_bytes: int  # the last of them is the fine class
    names_file: str
    train_files: tuple[str, ...]
    test_file: str


CIFAR10 = _Cifar(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    num_label_bytes=1,
    names_file="batches.meta.txt",
    train_files=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test_file="test_batch.bin",
)
CIFAR100 = _Cifar(
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    num_label_bytes=2,
    names_file="fine_label_names.txt",
    train_files=("train.bin",),
    test_file="test.bin",
)


def read_digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 px: the UCI test set of Alpaydin and Kaynak (1998).

    Their grey levels 0..16 become 0..255, rounded.
    """
    table = np.loadtxt(_digits_file(), delimiter=",")  # float64 [1797, 65], of which the last column is the label
    images = np.round(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    samples = tuple(
        Sample(name=f"digits/{label}/{i:04d}", source=image, labels=(label,))
        for i, (image, label) in enumerate(zip(images, table[:, -1].astype(int).tolist(), strict=True))
    )
    return Dataset(
        name="digits",
        layout="scikit-learn's handwritten digits",
        why="it is data by name",
        class_names=tuple(str(digit) for digit in range(10)),
        samples=samples,
        test_fraction=0.2,
    )


def _digits_file() -> Path:
    """The packed table in scikit-learn's package, which is not imported: that takes a second."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        error = ModuleNotFoundError(name="sklearn")
        raise missing_extra(error) or error
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"


def read_mnist() -> Dataset:
    return _read_idx_by_name("mnist", "MNIST", None)


def read_fashion_mnist() -> Dataset:
    return _read_idx_by_name("fashion-mnist", "FashionMNIST", FASHION_CLASSES)


def _read_idx_by_name(name: str, torchvision_class: str, class_names: tuple[str, ...] | None) -> Dataset:
    folder = cache_folder(f"datasets/{name}")
    files = find_idx(folder)
    if files is None or len(files) < 4:
        import_datasets()
        from torchvision import datasets

        source = getattr(datasets, torchvision_class)
        for file, md5 in source.resources:
            download([f"{mirror}{file}" for mirror in source.mirrors], folder, file, md5)
        files = find_idx(folder)
    if files is None:
        raise DataError(f"{folder} does not hold the four files of {name}.")
    return read_idx(files, name=name, class_names=class_names)


def read_svhn() -> Dataset:
    """Street View house numbers, cropped: train and test as published, without the extra images. The label 10 means 0."""
    from scipy.io import loadmat

    folder = cache_folder("datasets/svhn")
    samples: list[Sample] = []
    for split in ("train", "test"):
        path = folder / f"{split}_32x32.mat"
        if not path.is_file():
            import_datasets()
            from torchvision.datasets import SVHN

            url, file, md5 = SVHN.split_list[split]
            download([url], folder, file, md5)
        try:
            table = loadmat(path, variable_names=("X", "y"))
            images, labels = table["X"].transpose(3, 0, 1, 2), table["y"].reshape(-1) % 10
        except Exception as error:  # noqa: BLE001  scipy raises any kind on a damaged file
            raise DataError(f"{path} cannot be read ({error}); remove it, it is downloaded again.") from None
        samples += _array_samples(split, np.ascontiguousarray(images), labels, [str(digit) for digit in range(10)])
    return _array_dataset("svhn", "Street View house numbers", tuple(str(d) for d in range(10)), samples)


def read_cifar10() -> Dataset:
    return _read_cifar("cifar10", CIFAR10)


def read_cifar100() -> Dataset:
    return _read_cifar("cifar100", CIFAR100)


def _read_cifar(name: str, cifar: _Cifar) -> Dataset:
    folder = cache_folder(f"datasets/{name}")
    archive = folder / cifar.url.rpartition("/")[2]
    if not archive.is_file():
        download([cifar.url], folder, archive.name, cifar.md5)
    return read_cifar_archive(archive, name=name, cifar=cifar)


def read_cifar_archive(archive: Path, *, name: str, cifar: _Cifar) -> Dataset:
    """Records of label bytes and 3,072 pixels [3, 32, 32] out of the binary version's archive."""
    members = {member.name: member.stored for member in read_tar(archive).members if member.stored is not None}

    def read(file: str) -> bytes:
        stored = members.get(f"{cifar.folder}/{file}")
        if stored is None:
            raise DataError(f"{archive} lacks {cifar.folder}/{file}; remove the archive, it is downloaded again.")
        return stored.read()

    class_names = tuple(line.strip() for line in read(cifar.names_file).decode().splitlines() if line.strip())
    samples: list[Sample] = []
    for split, files in (("train", cifar.train_files), ("test", (cifar.test_file,))):
        data = b"".join(read(file) for file in files)
        length = cifar.num_label_bytes + 3072
        if len(data) % length or not data:
            raise DataError(
                f"the {split} files of {archive} are no whole records of {length} bytes; remove the archive."
            )
        records = np.frombuffer(data, dtype=np.uint8).reshape(-1, length)
        labels = records[:, cifar.num_label_bytes - 1]
        if labels.max() >= len(class_names):
            raise DataError(
                f"{archive} has the label {labels.max()} but {len(class_names)} class names; remove the archive."
            )
        images = records[:, cifar.num_label_bytes :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        samples += _array_samples(split, np.ascontiguousarray(images), labels, class_names)
    return _array_dataset(name, f"{name}, binary version", class_names, samples)


def read_imagenet() -> Dataset:
    """The user's own copy, linked or put into the cache: ImageNet may not be downloaded."""
    folder = cache_folder("datasets") / "imagenet"
    if not (folder / "train").is_dir():
        raise DataError(
            "ImageNet cannot be downloaded for you. Name the folder of your copy, with train/ and val/ of one folder per class, "
            f"or link it once: ln -s /path/to/imagenet {folder}"
        )
    return read_folder(folder)


NAMED_SOURCES: Mapping[str, Callable[[], Dataset]] = MappingProxyType(
    {
        "digits": read_digits,
        "mnist": read_mnist,
        "fashion-mnist": read_fashion_mnist,
        "svhn": read_svhn,
        "cifar10": read_cifar10,
        "cifar100": read_cifar100,
        "imagenet": read_imagenet,
    }
)


def _array_samples(
    split: str, images: NDArray[np.uint8], labels: NDArray[np.uint8], class_names: Iterable[str]
) -> Iterator[Sample]:
    names = tuple(class_names)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield Sample(name=f"{split}/{names[label]}/{i:05d}", source=image, labels=(int(label),), split=split)


def _array_dataset(name: str, layout: str, class_names: tuple[str, ...], samples: list[Sample]) -> Dataset:
    return Dataset(
        name=name,
        layout=layout,
        why="it is data by name",
        class_names=class_names,
        samples=tuple(samples),
    )


def import_datasets() -> None:
    """Raise MissingExtraError where torchvision, which locates and downloads, is not there."""
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None


def download(urls: Iterable[str], folder: Path, file: str, md5: str) -> None:
    """Fetch `file` from the first of `urls` that has it, checked by its MD5. DataError names the way to do it by hand.

    It stands in `folder` only when it is whole: a download that is cut off, or a second process, leaves no part of it.
    """
    import_datasets()
    from torchvision.datasets.utils import download_url

    reasons = []
    for url in urls:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as part:
            try:
                download_url(url, part, file, md5)
                (Path(part) / file).replace(folder / file)
            except (
                OSError,
                RuntimeError,
                ValueError,
            ) as error:  # URLError is an OSError; a wrong MD5 is a RuntimeError
                reasons.append(f"{url}: {str(error) or type(error).__name__}")
            else:
                return
    raise DataError(
        f"{file} could not be downloaded ({'; '.join(reasons)}). With no network, put the file into {folder} by hand."
    )
