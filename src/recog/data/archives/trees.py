"""A zip or tar of images as a Tree, read in place: nothing is unpacked by hand and nothing of it is written by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from recog.core.files import is_hidden
from recog.core.images.formats import has_image_suffix
from recog.data.archives.members import DEFAULT_LIMITS, ArchiveLimits, RefusedMember
from recog.data.archives.tars import Kind, TarContent
from recog.data.archives.zips import name_notes, read_zip
from recog.data.dataset import Exclusion
from recog.data.tree import ARCHIVE_SUFFIXES, HIDDEN, Member, Tree, ancestors_of, base_of, without_own

_REFUSALS: dict[Kind, str] = {
    "link": "it is a link in an archive, which is not followed",
    "special": "it is a pipe, socket, device or sparse file in an archive",
    "large": "it is too large for an image",
}


def zip_tree(path: Path, limits: ArchiveLimits = DEFAULT_LIMITS, *, encoding: str = "") -> Tree:
    entries = read_zip(path, limits, encoding=encoding)
    folders = [entry.name for entry in entries if entry.is_folder]
    rows: list[tuple[str, Member | str]] = []
    for entry in entries:
        if not entry.is_folder:
            member = entry.member
            too_large = member is not None and max(member.size, member.packed_size) > limits.max_member_bytes
            refusal = _REFUSALS["large"] if too_large else entry.refusal
            rows.append((entry.name, member if member is not None and not refusal else refusal))
    return _tree(path, folders, rows, tuple(name_notes(entries, path)))


def tar_tree(path: Path, content: TarContent) -> Tree:
    folders = [member.name for member in content.members if member.kind == "folder"]
    rows: list[tuple[str, Member | str]] = [
        (member.name, member.stored if member.stored is not None else _REFUSALS[member.kind])
        for member in content.members
        if member.kind != "folder"
    ]
    return _tree(path, folders, rows, end_mark_notes(path, content))


def end_mark_notes(path: Path, content: TarContent) -> tuple[str, ...]:
    """What a person should know of the end of a tar archive."""
    notes = []
    if not content.has_end_mark:
        notes.append(f"{path.name} has no end mark; it may have been cut off between two members")
    if content.num_archives > 1:
        notes.append(
            f"{path.name} is {content.num_archives} archives, joined one behind the other; all of them are read"
        )
    if content.end_of_archives is not None:
        notes.append(f"{path.name} goes on behind its end mark, at byte {content.end_of_archives:,}; that is not read")
    return tuple(notes)


def _tree(path: Path, folders: Iterable[str], rows: Iterable[tuple[str, Member | str]], notes: tuple[str, ...]) -> Tree:
    """`rows` are (name, source), or (name, reason) where a member is not to be read; an image among these is a bad image."""
    files: dict[str, Path | Member] = {}
    exclusions: list[Exclusion] = []
    hidden: set[str] = set()
    for name, source in rows:
        litter = _hidden_part(name)
        if litter is not None:
            if litter not in hidden:
                exclusions.append(Exclusion(name=litter, reason=HIDDEN))
            hidden.add(litter)
        elif isinstance(source, str) and has_image_suffix(name):
            files[name] = RefusedMember(name=name, reason=source)
        elif isinstance(source, str):
            exclusions.append(Exclusion(name=name, reason=source))
        elif name.lower().endswith(ARCHIVE_SUFFIXES):
            exclusions.append(Exclusion(name=name, reason="an archive within an archive, which is not opened"))
        else:
            files[name] = source
    implied = {folder for name in files for folder in ancestors_of(name)}
    stated = {name for name in folders if name and _hidden_part(name) is None}
    tree = Tree(
        name=_stem(path),
        where=str(path),
        files=files,
        folders=frozenset(implied | stated | {folder for name in stated for folder in ancestors_of(name)}),
        exclusions=tuple(exclusions),
        notes=notes,
    )
    return without_own(tree)


def _hidden_part(name: str) -> str | None:
    """The outermost hidden folder or file that `name` lies in."""
    if not any(is_hidden(part) for part in name.split("/")):
        return None
    folders = [*reversed(list(ancestors_of(name))), name]
    return next(folder for folder in folders if is_hidden(base_of(folder)))


def _stem(path: Path) -> str:
    """The archive's name without its suffixes."""
    name = path.name
    for suffix in sorted(ARCHIVE_SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem
