"""Images copied or hard-linked into a folder per answer. Nothing is moved, and nothing that exists is overwritten."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, overload

import numpy as np

from recog.answers.stream import UNSURE, Answer, Inputs, Unusable
from recog.core.errors import BadImage, ConfigError, DataError
from recog.core.images.decode import Readable
from recog.core.outputs import derive_name
from recog.evaluation.trust.unknown import UNKNOWN
from recog.runtime.predictor import ImageSource

NO_LABEL = "no-label"  # the folder of images with none of several labels


def check_links(sources: Sequence[ImageSource]) -> None:
    """ConfigError unless all of `sources` are files."""
    if any(not isinstance(source, (str, Unusable)) for source in sources):
        raise ConfigError(
            "--link needs image files; members of an archive and standard input can only be copied. Remove --link."
        )


@dataclass(frozen=True)
class FileNames(Sequence[str]):
    """A file name for each path: its last part, unless `numbered` has another one for its place. Made when it is asked for."""

    paths: Sequence[str]
    numbered: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(len(self))[place]]
        return self.numbered.get(place) or _file_name(self.paths[place])


def sorted_names(paths: Sequence[str]) -> FileNames:
    """A file name for each of `paths`, no two alike: the last part of the path, numbered where others have the same."""
    hashes = np.fromiter((hash(_file_name(path).casefold()) for path in paths), np.int64, len(paths))
    return FileNames(paths, {} if len(np.unique(hashes)) == len(paths) else _numbered(paths))


def _numbered(paths: Sequence[str]) -> dict[int, str]:
    """The names that get a number, by place."""
    taken = {_file_name(path).casefold() for path in paths}
    numbers: dict[str, int] = {}  # the last of each name; ten thousand folders may each have an image.jpg
    found: dict[int, str] = {}
    for i, plain in enumerate(map(_file_name, paths)):
        number = numbers.get(plain.casefold(), 0) + 1
        stem, suffix = os.path.splitext(plain)
        while number > 1 and f"{stem}-{number}{suffix}".casefold() in taken:
            number += 1
        numbers[plain.casefold()] = number
        if number > 1:
            found[i] = f"{stem}-{number}{suffix}"
    return found


def _file_name(path: str) -> str:
    last = os.path.basename(path.rstrip("/"))
    return last if last.isprintable() and "\\" not in last else derive_name(last)


@dataclass(kw_only=True)
class Sorter:
    """Put each image of `inputs` that was answered below `folder`, in the folder of its label, once all are answered.

    As a context manager it removes what it made if the block raises. `names[i]` is the file name of image i; `labels` are all
    that may be answered, so that every shard gives their folders the same names.
    """

    folder: Path
    inputs: Inputs
    names: Sequence[str]
    labels: Sequence[str]
    link: bool = False
    _answered: list[tuple[str, ...]] = field(default_factory=list)
    _known: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)  # one object per answer, not per image
    _num_made: int = 0  # files, the first of `_targets`
    _folders: list[Path] = field(default_factory=list)  # that were made, in this order

    def __enter__(self) -> Sorter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            return
        for target, _ in islice(self._targets(), self._num_made):
            with contextlib.suppress(OSError):
                target.unlink()
        for folder in reversed(self._folders):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def add(self, answer: Answer) -> None:
        labels = () if isinstance(answer.result, BadImage) else answer.labels or (NO_LABEL,)
        self._answered.append(self._known.setdefault(labels, labels))

    def place(self) -> int:
        """Put all images in their folders; returns how many files that made. DataError where one of the names is taken."""
        for target, _ in self._targets():
            if os.path.lexists(target):
                raise self._taken(target)
        for target, source in self._targets():
            self._make_folder(target.parent)
            try:
                self._put(source, target)
            except FileExistsError:
                raise self._taken(target) from None
        return self._num_made

    def _targets(self) -> Iterator[tuple[Path, ImageSource]]:
        ordered = [*self.labels, UNKNOWN, UNSURE, NO_LABEL]
        folders = dict(zip(ordered, sorted_names([derive_name(label) for label in ordered]), strict=True))
        for labels, name, source in zip(self._answered, self.names, self.inputs.sources, strict=True):
            for label in labels:
                yield self.folder / folders[label] / name, source

    def _taken(self, target: Path) -> DataError:
        return DataError(
            f"{target} exists already; nothing was sorted. Choose another folder for --sort-into, or move it away."
        )

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if not folder.parent.is_dir():
            self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)  # another shard may make it at the same time
        self._folders.append(folder)

    def _put(self, source: ImageSource, target: Path) -> None:
        if isinstance(source, str) and self.link:
            self._link(source, target)
        elif isinstance(source, str):
            with _open_again(source) as original, target.open("xb") as file:
                self._num_made += 1
                shutil.copyfileobj(original, file, 1 << 20)
            with contextlib.suppress(OSError):
                shutil.copystat(source, target)
        else:
            data = source if isinstance(source, bytes) else _read_again(source)
            with target.open("xb") as file:
                self._num_made += 1
                file.write(data)

    def _link(self, source: str, target: Path) -> None:
        try:
            os.link(os.path.realpath(source), target)  # of what a symbolic link leads to
        except FileExistsError:
            raise
        except OSError as error:
            raise ConfigError(
                f"{source} cannot be linked into {self.folder} ({error.strerror}); hard links stay within one file system. "
                "Remove --link to copy, or choose a folder beside the images."
            ) from None
        self._num_made += 1


def _open_again(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(
            f"{path} was answered and cannot be copied any more ({error.strerror}); nothing was sorted."
        ) from None


def _read_again(source: ImageSource) -> bytes:
    if not isinstance(source, Readable):
        raise DataError(f"a {type(source).__name__} cannot be sorted into a folder; expected a file or its bytes.")
    return source.read()
