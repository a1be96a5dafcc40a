"""Where data are: local paths, file:// addresses, patterns such as "photos/*/*.jpg"; what must be fetched or unpacked."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from recog.core.errors import DataError
from recog.core.files import natural_key, printable_name
from recog.data.tree import Tree, ancestors_of

HUB = "hf"  # hf://datasets/OWNER/NAME
_ADDRESS = re.compile(r"^([a-z][a-z0-9+.-]+):/", re.IGNORECASE)  # a Path leaves one slash; one letter is a drive
_HUB_PAGE = re.compile(r"^https?:/{1,2}(?:www\.)?(?:huggingface\.co|hf\.co)/datasets/([^/?#]+/[^/?#]+)", re.IGNORECASE)
_WILD = re.compile(r"[*?\[]")
_FETCH: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("http", "https", "ftp"), "Download it, as by: curl -LO {0}"),
        **dict.fromkeys(("s3", "s3a", "s3n"), "Copy it to a folder first: aws s3 sync {0} FOLDER"),
        **dict.fromkeys(("gs", "gcs"), "Copy it to a folder first: gcloud storage rsync --recursive {0} FOLDER"),
        **dict.fromkeys(("az", "abfs", "abfss", "wasb", "wasbs", "adl"), "Copy it to a folder first, as with azcopy"),
        **dict.fromkeys(("ssh", "sftp", "scp"), "Copy it to a folder first, as with rsync"),
        "hdfs": "Copy it to a folder first: hdfs dfs -get {0} FOLDER",
        "kaggle": "Download it first, as with: kaggle datasets download --unzip OWNER/NAME",
    }
)
_PACKED: tuple[tuple[bytes, tuple[str, ...], str, str], ...] = (
    (b"Rar!\x1a\x07", (".rar",), "a RAR archive", "unrar x {0}"),
    (b"7z\xbc\xaf\x27\x1c", (".7z",), "a 7z archive", "7z x {0}"),
    (b"\x28\xb5\x2f\xfd", (".tar.zst", ".tzst"), "packed with Zstandard", "tar --zstd -xf {0}"),
)


def is_address(source: str) -> bool:
    """Whether `source` is an address such as s3://bucket or file:///photos, and nothing of that very name exists."""
    return _ADDRESS.match(source) is not None and not os.path.lexists(source)


def scheme_of(source: str) -> str:
    """'hf' of hf://datasets/OWNER/NAME; '' where `source` is no address."""
    match = _ADDRESS.match(source) if is_address(source) else None
    return match[1].lower() if match else ""


def local_path(source: str) -> str:
    """`source`, or the path that a file:// address means. DataError for addresses of other machines, with how to fetch them.

    An address of a data set on the hub stays.
    """
    scheme = scheme_of(source)
    if scheme in ("", HUB):
        return source
    if scheme == "file":
        parts = urlsplit(re.sub("^file:/(?!/)", "file:///", source, flags=re.IGNORECASE))
        if parts.netloc not in ("", "localhost"):
            raise DataError(f"{source} is a file of the machine {parts.netloc}. Copy it to a folder first.")
        return url2pathname(parts.path) if os.name == "nt" else unquote(parts.path)
    if page := _HUB_PAGE.match(source):
        raise DataError(f"{source} is a page of the Hugging Face hub. Name the data set: hf://datasets/{page[1]}")
    remedy = _FETCH.get(scheme, "Copy it to a folder first").format(re.sub(":/(?!/)", "://", source))
    raise DataError(f"{source} is an address; recog reads local files. {remedy}")


def is_pattern(source: str) -> bool:
    """Whether `source` has one of * ? [ and nothing of that very name exists."""
    return _WILD.search(source) is not None and not os.path.lexists(source)


def expand_pattern(source: str) -> list[Path]:
    """The paths that a pattern names, in natural order, without hidden ones; ** stands for folders at any depth.

    DataError where there is none.
    """
    paths = [Path(path) for path in glob.glob(os.path.expanduser(source), recursive=True)]
    if not paths:
        raise DataError(f"nothing matches the pattern {source}; its folder is {pattern_root(source)}.")
    return sorted(paths, key=lambda path: natural_key(str(path)))


def pattern_root(source: str) -> Path:
    """The folder that a pattern begins in: its path up to the first part with one of * ? [."""
    parts = Path(os.path.expanduser(source)).parts
    fixed = next(i for i, part in enumerate(parts) if _WILD.search(part))
    return Path(*parts[:fixed])


def only_matching(tree: Tree, root: Path, paths: Sequence[Path], pattern: str) -> Tree:
    """`tree`, that of `root`, with the files that `paths` name or that lie in folders that they name."""
    chosen = {"/".join(map(printable_name, path.relative_to(root).parts)) for path in paths}

    def is_chosen(name: str) -> bool:
        return name in chosen or not chosen.isdisjoint(ancestors_of(name))

    files = {name: source for name, source in tree.files.items() if is_chosen(name)}
    return replace(
        tree,
        where=pattern,
        files=files,
        folders=frozenset(folder for name in files for folder in ancestors_of(name)),
        exclusions=tuple(exclusion for exclusion in tree.exclusions if is_chosen(exclusion.name)),
        notes=(*tree.notes, f"{pattern} names {len(files):,} of {len(tree.files):,} files in {root}"),
    )


def check_not_packed(path: Path) -> None:
    """DataError where a file is an archive of a kind that is not read, with the command that unpacks it."""
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
    except OSError:
        prefix = b""
    for magic, suffixes, kind, command in _PACKED:
        if prefix.startswith(magic) or path.name.lower().endswith(suffixes):
            raise DataError(
                f"{path} is {kind}, which recog does not read. Unpack it and name the folder: {command.format(path)}"
            )
