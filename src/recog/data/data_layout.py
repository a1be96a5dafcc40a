"""What the user states about the data: folders and their levels, labels in names, groups, columns and images of a list."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from recog.core.errors import ConfigError, DataError
from recog.core.files import is_hidden
from recog.data.dataset import SPLITS
from recog.data.names import LabelPattern, check_globs, is_decisions_file, split_of_name


@dataclass(frozen=True, kw_only=True)
class DataLayout:
    """All of it is detected where it is not given. ConfigError where a value has no meaning."""

    split_folders: tuple[str, ...] = ()  # such as 'train=FOLDER'; a split may have several; other folders are left out
    classes_at_depth: int | None = None  # 1: the folders in DATA are the classes; 2: those within them
    label_pattern: str = ""  # such as '{label}.{}.jpg', where the label stands in the file's name
    exclude: tuple[str, ...] = ()  # files and folders to leave out, such as '*_mask.png', or CSV files that list them
    relabel: str = ""  # a CSV file with new labels of single images, see `recog.data.decisions`
    group: str = ""  # 'subfolder', a column, or a regular expression; see `recog.data.groups`
    path_column: str = ""  # columns of a list of images; found by their names if empty (`recog.data.lists.columns`)
    label_column: str = ""
    split_column: str = ""  # 'none': no column
    group_column: str = ""  # 'none': no column
    images: tuple[str, ...] = ()  # folders that a list's paths are relative to; found beside the list if empty
    encoding: str = ""  # of the text of a list, such as 'cp1252'; UTF-8 if empty

    def __post_init__(self) -> None:
        for entry in self.split_folders:
            split, equals, folder = entry.partition("=")
            if split.strip() not in SPLITS or not equals or not folder.strip(" /"):
                raise ConfigError(
                    f"the split folder is '{entry}'; expected SPLIT=FOLDER with one of {', '.join(SPLITS)}, such as "
                    "--split-folders train=FOLDER,test=FOLDER."
                )
        folders = [folder for folders in self.given_splits.values() for folder in folders]
        twice = next((folder for folder in folders if folders.count(folder) > 1), None)
        if twice is not None:
            raise ConfigError(f"the split folders name '{twice}' twice; a folder belongs to one split.")
        if self.classes_at_depth is not None and self.classes_at_depth < 1:
            raise ConfigError(
                f"the depth of the class folders is {self.classes_at_depth}; it must be 1 (folders in DATA) or more."
            )
        if self.split_folders and self.classes_at_depth == 1:
            raise ConfigError("split folders lie above the class folders, so --classes-at-depth must be 2 or more.")
        if self.label_pattern:
            LabelPattern(self.label_pattern)  # valid once built
            if self.classes_at_depth is not None:
                raise ConfigError(
                    "a label pattern and --classes-at-depth both state where the label is. Give one of them."
                )
        check_globs(self.exclude_patterns)
        if self.group and self.group_column:
            raise ConfigError(f"--group {self.group} and --group-column {self.group_column} exclude each other.")
        if self.encoding and not _is_text_encoding(self.encoding):
            raise ConfigError(f"the encoding is '{self.encoding}'; expected one such as utf-8, utf-16, cp1252 or gbk.")

    @property
    def exclude_patterns(self) -> tuple[str, ...]:
        return tuple(entry for entry in self.exclude if not is_decisions_file(entry))

    @property
    def exclude_files(self) -> tuple[str, ...]:
        """CSV files that list single images."""
        return tuple(entry for entry in self.exclude if is_decisions_file(entry))

    @property
    def states_a_list(self) -> bool:
        """Whether the user names columns or images of a list, so that the data are one."""
        columns = (self.path_column, self.label_column, self.split_column, self.group_column)
        return any(columns) or bool(self.images or self.encoding)

    @property
    def given_splits(self) -> dict[str, list[str]]:
        """{split: its folders} as the user named them."""
        found: dict[str, list[str]] = {}
        for entry in self.split_folders:
            split, _, folder = entry.partition("=")
            found.setdefault(split.strip(), []).append(folder.strip(" /"))
        return {split: found[split] for split in SPLITS if split in found}

    def split_dirs(self, root: Path, is_content: Callable[[Path], bool], kind: str) -> list[Path]:
        """The folders in `root` that are splits, given or by name. DataError where another one holds files of this `kind`."""
        if self.split_folders:
            named = [root / folder for folders in self.given_splits.values() for folder in folders]
            there = [folder for folder in named if folder.is_dir()]
            if len(there) < len(named) and any(is_content(path) for folder in there for path in folder.iterdir()):
                missing = next(folder for folder in named if folder not in there)
                raise DataError(f"there is no folder {missing}, which --split-folders names.")
            return there
        folders = sorted((p for p in root.iterdir() if p.is_dir() and not is_hidden(p.name)), key=lambda p: p.name)
        splits = [folder for folder in folders if split_of_name(folder.name)]
        others = [p for p in folders if p not in splits and p.name != "data" and any(map(is_content, p.iterdir()))]
        if splits and others:
            pairs = ",".join(f"{split_of_name(split.name)}={split.name}" for split in splits)
            raise DataError(
                f"{others[0]} holds {kind} and is no split by its name, beside {', '.join(s.name for s in splits)}. Name the "
                f"splits and leave the rest out: --split-folders {pairs}."
            )
        return splits

    def split_of_folder(self, folder: str) -> str | None:
        """The split of a folder of Parquet files, shards or listed images: the given one, else by its name."""
        if not self.split_folders:
            return split_of_name(folder)
        return next((split for split, folders in self.given_splits.items() if folder in folders), None)

    def check_unused(self, name: str, kind: str, *, takes: Collection[str] = ()) -> None:
        """DataError where the user states what data of a `kind` do not have; `takes` are the options that it has a use for."""
        for option, (is_given, use) in self._stated.items():
            if is_given and option not in takes:
                raise DataError(f"{option} is for {use}, and {name} is {kind}. Leave {option} out.")

    @property
    def _stated(self) -> dict[str, tuple[bool, str]]:
        """{option: (whether it is given, what it is for)}"""
        folders, lists = "folders of images", "lists of images"
        return {
            "--split-folders": (bool(self.split_folders), folders),
            "--classes-at-depth": (self.classes_at_depth is not None, folders),
            "--label-pattern": (bool(self.label_pattern), f"{folders} and text lists"),
            "--path-column": (bool(self.path_column), lists),
            "--label-column": (bool(self.label_column), lists),
            "--split-column": (bool(self.split_column), lists),
            "--group-column": (bool(self.group_column), lists),
            "--images": (bool(self.images), lists),
            "--encoding": (bool(self.encoding), lists),
        }


def _is_text_encoding(name: str) -> bool:
    try:
        return isinstance("".encode(name), bytes)
    except (LookupError, ValueError):
        return False


FOLDER_OPTIONS = ("--split-folders", "--classes-at-depth", "--label-pattern")
COLUMN_OPTIONS = ("--path-column", "--label-column", "--split-column", "--group-column")
LIST_OPTIONS = (*COLUMN_OPTIONS, "--images", "--encoding")
DETECTED = DataLayout()
